"""The plots of the docs, made from the JSON files in docs/results: `python -m docs.plots`."""

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
IN_ONE_PLOT = {"slices": ["slices"], "boxes": ["boxes", "boxes in a whole frame"], "megapixels": ["megapixels"]}
MEASURED = {"cpu_s": "seconds of the CPU", "peak_mib": "peak MiB"}
ENCODER_ONLY = re.compile(r"LoRA of rank (\d+), encoder only")  # of the ways in `measure.training_claims`
BESIDE = ("LoRA of rank 64, decoder and convolutions (ships)", "all weights", "decoder only")

Report = dict[str, Any]


def growth_lines(report: Report, axis: str, measured: str) -> tuple[list[float], list[float]]:
    """What grew along an axis of the report, and what was measured there."""
    cases = [case for case in report["cases"] if case["axis"] == axis]
    return [case["at"] for case in cases], [case[measured] for case in cases]


def process_lines(curve: Sequence[dict[str, float]]) -> tuple[list[float], list[float], list[float]]:
    """Cases done, resident MiB, and ms for each case since the point before."""
    before = [{"cases": 0, "s": 0.0}, *curve]
    each = [
        1000 * (now["s"] - then["s"]) / (now["cases"] - then["cases"]) for then, now in zip(before, curve, strict=False)
    ]
    return [point["cases"] for point in curve], [point["resident_mib"] for point in curve], each


def rank_lines(report: Report) -> tuple[list[int], list[float]]:
    """Ranks of the adapters of the encoder alone, and the mean DSC of their seeds."""
    ways = report["training"]["ways"]
    found = {int(rank.group(1)): way for name, way in ways.items() if (rank := ENCODER_ONLY.fullmatch(name))}
    return sorted(found), [statistics.mean(found[rank]["dsc"]) for rank in sorted(found)]


def beside_lines(report: Report) -> dict[str, float]:
    """Each of BESIDE, and the mean DSC of its seeds."""
    return {name: statistics.mean(report["training"]["ways"][name]["dsc"]) for name in BESIDE}


def draw_ranks(report: Report, path: Path) -> None:
    """An SVG: DSC against the rank of an adapter, and what the other ways reach after as many samples."""
    with _figure(path, 1, 1, figsize=(7, 3.5)) as plot:
        ranks, dsc = rank_lines(report)
        plot.plot(ranks, dsc, marker="o", label="LoRA on the encoder's attention and MLP")
        for style, (name, reached) in zip(("--", "-.", ":"), beside_lines(report).items(), strict=True):
            plot.axhline(reached, linestyle=style, color="black", label=name)
        plot.set_xscale("log", base=2)
        plot.set(xlabel="rank", ylabel="DSC", xticks=ranks, xticklabels=ranks)
        plot.grid(alpha=0.3)
        plot.figure.legend(loc="outside upper left", ncols=2)


@contextmanager
def _figure(path: Path, rows: int, columns: int, **settings: Any) -> Iterator[Any]:
    """The plots of a figure, which is then written; equal bytes of equal reports."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.hashsalt": "samedge", "font.size": 9}):
        figure, plots = pyplot.subplots(rows, columns, layout="constrained", **settings)
        yield plots
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def draw_growth(report: Report, path: Path) -> None:
    """An SVG: time and memory against each axis, and against the cases of one process."""
    with _figure(path, 2, 4, figsize=(13, 5.5), sharex="col") as plots:
        for column, (title, axes) in zip(plots.T, IN_ONE_PLOT.items(), strict=False):
            for plot, (measured, unit) in zip(column, MEASURED.items(), strict=True):
                for axis in axes:
                    plot.plot(*growth_lines(report, axis, measured), marker="o", label=axis)
                plot.set(xscale="log", ylabel=unit)
                plot.set_ylim(bottom=0) if measured == "peak_mib" else plot.set_yscale("log")
                plot.grid(alpha=0.3)
            column[1].set_xlabel(title)
            if len(axes) > 1:
                column[0].legend()
        cases, resident, each = process_lines(report["process"])
        for plot, values, unit in ((plots[0, 3], each, "ms a case"), (plots[1, 3], resident, "resident MiB")):
            plot.plot(cases, values, marker=".")
            plot.set(ylabel=unit, ylim=(0, 1.1 * max(values)))
            plot.grid(alpha=0.3)
        plots[1, 3].set_xlabel("small cases done in one process")


def main() -> None:
    """Draw them where the page shows them."""
    for draw, name, picture in ((draw_growth, "growth", "growth"), (draw_ranks, "training-claims", "ranks")):
        report = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))
        draw(report, DOCS / "images" / f"{picture}.svg")


if __name__ == "__main__":
    main()

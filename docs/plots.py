"""The plots of docs/speed.md, made from what `python -m export.checks.growth` wrote: `python -m docs.plots`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
IN_ONE_PLOT = {"slices": ["slices"], "boxes": ["boxes", "boxes in a whole frame"], "megapixels": ["megapixels"]}
MEASURED = {"cpu_s": "seconds of the CPU", "peak_mib": "peak MiB"}

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


def draw_growth(report: Report, path: Path) -> None:
    """An SVG: time and memory against each axis, and against the cases of one process; equal bytes of equal reports."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.hashsalt": "samedge", "font.size": 9}):
        figure, plots = pyplot.subplots(2, 4, figsize=(13, 5.5), layout="constrained", sharex="col")
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
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    """Draw them where the page shows them."""
    report = json.loads((DOCS / "results" / "growth.json").read_text(encoding="utf-8"))
    draw_growth(report, DOCS / "images" / "growth.svg")


if __name__ == "__main__":
    main()

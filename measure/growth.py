"""How time and memory grow with a case, and with the cases of a process: `python -m measure.growth`.

Many small cases one after the other; then phantoms that grow in one thing at a time, each read, segmented and saved in
this process with the model loaded. Medians; seconds of the CPU beside those by the clock, as they also hold on a
machine that does other work. `python -m docs.tables` makes the tables of docs/speed.md of what is written.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge.bench.run import JOB, Configuration, Measurement, measure_here
from edge.choices import BASELINE
from edge.data.case import write_case
from edge.data.phantom import make_phantom
from edge.engines.model_folder import DEFAULT_MODEL
from edge.engines.runtime import describe_engine
from edge.errors import RunError
from edge.memory import resident_mib
from edge.pipeline import Options
from edge.predict import predict_cases
from edge.reports.report import now, write_json
from edge.segmenter import Segmenter
from edge.system.home import engine_cache
from edge.system.machine import describe_machine

SMALL_SIDES_PX = (48, 56, 64)
POINTS = 20  # of the curve of memory


@dataclass(frozen=True)
class Axis:
    """One thing that grows."""

    name: str
    values: tuple[int, ...]  # of an image's megapixels: its sides in px
    case: str  # a phantom's name
    shape: tuple[int | None, ...]  # None: the value
    objects: int | None  # None: the value
    method: str = "auto"

    def phantom(self, folder: Path, value: int) -> Path:
        """A case file of `value` slices, boxes or px."""
        path = folder / f"{self.case}_{value}.npz"
        shape = tuple(value if length is None else length for length in self.shape)
        case = make_phantom(path.stem, shape, value if self.objects is None else self.objects, seed=0)
        write_case(path, replace(case, truth=None))  # scoring it would take longer than all that is measured
        return path


AXES = (
    Axis("slices", (10, 100, 1000), "3DBox_CT_slices", (None, 256, 256), 1),
    Axis("boxes", (1, 32, 241, 1000), "2DBox_Microscopy_boxes", (1920, 2560), None),
    Axis("megapixels", (256, 1024, 4096, 16384), "2DBox_X-Ray_side", (None, None), 1),
    Axis("boxes in a whole frame", (1, 32, 241, 1000), "2DBox_Microscopy_boxes", (1920, 2560), None, BASELINE),
)


def measure(axes: Sequence[Axis], segmenter: Segmenter, rounds: int) -> Iterator[dict[str, Any]]:
    """What `samedge bench` measures of every phantom, medians, with `axis` and `at`; the first round is not counted."""
    for axis in axes:
        segmenter.options = Options(method=axis.method)
        for value in axis.values:
            with tempfile.TemporaryDirectory() as folder:
                path = axis.phantom(Path(folder), value)
                found = [_measured(path, axis, segmenter) for _ in range(rounds + 1)][1:]
                at = value**2 / 1e6 if axis.name == "megapixels" else value
                yield {"axis": axis.name, "at": at, **asdict(found[0]), **_medians(found)}


def many_cases(count: int, segmenter: Segmenter) -> list[dict[str, float]]:
    """Cases done, resident MiB and seconds so far, POINTS times, of `count` small cases in this process."""
    with tempfile.TemporaryDirectory() as folder:
        paths = _small_cases(Path(folder), count)
        curve, start = [], time.perf_counter()
        for done, prediction in enumerate(predict_cases(paths, Path(folder), lambda: segmenter, job=JOB), start=1):
            if prediction.error:
                raise RunError(prediction.error)
            (Path(folder) / f"{prediction.name}.npz").unlink()
            if done % max(1, count // POINTS) == 0:
                curve.append({"cases": done, "resident_mib": resident_mib(), "s": time.perf_counter() - start})
    return curve


def _measured(path: Path, axis: Axis, segmenter: Segmenter) -> Measurement:
    outputs = path.parent / "outputs"
    outputs.mkdir(exist_ok=True)
    found = measure_here(path, outputs, Configuration(DEFAULT_MODEL, method=axis.method), segmenter)
    if found.error:
        raise RunError(found.error)
    return found


def _medians(found: Sequence[Measurement]) -> dict[str, float]:
    keys = ("total_s", "cpu_s", "peak_mib")
    return {key: statistics.median(getattr(one, key) for one in found) for key in keys}


def _small_cases(folder: Path, count: int) -> list[Path]:
    """As many names for a few files of several sizes."""
    (folder / "inputs").mkdir()
    names = {f"2DBox_{kind}_{side}": side for kind in ("US", "Dermoscopy", "Endoscopy") for side in SMALL_SIDES_PX}
    for name, side in names.items():
        write_case(folder / "inputs" / f"{name}.npz", make_phantom(name, (side, side), 1, 0))
    paths = []
    for number in range(count):
        name = list(names)[number % len(names)]
        paths.append(folder / "inputs" / f"{name}_{number}.npz")
        os.link(folder / "inputs" / f"{name}.npz", paths[-1])
    return paths


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m measure.growth", description="How time and memory grow.")
    parser.add_argument("--json", type=Path, help="write what was measured here")
    parser.add_argument("--up-to", type=int, default=16384, help="leave out longer axes' values above this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=10_000, help="one after the other")
    chosen = parser.parse_args()
    axes = [replace(axis, values=tuple(value for value in axis.values if value <= chosen.up_to)) for axis in AXES]
    segmenter = Segmenter(cache=engine_cache())
    report: dict[str, Any] = {"created": now(), "machine": describe_machine(), "cases": []}
    report |= {"engines": [describe_engine(segmenter.engine)], "per_process": False}
    report["process"] = many_cases(chosen.cases, segmenter)  # first: large cases leave a process larger
    for point in report["process"]:
        print(f"{point['cases']} cases: {point['resident_mib']:.0f} MiB, {point['s']:.1f} s", flush=True)
    for case in measure(axes, segmenter, chosen.rounds):
        report["cases"].append(case)
        took = f"{case['total_s']:.3f} s, {case['cpu_s']:.3f} s of the CPU, {case['peak_mib']:.0f} MiB"
        print(f"{case['axis']} {case['at']:g}: {took}", flush=True)
    if chosen.json:
        write_json(chosen.json, report)


if __name__ == "__main__":
    main()

"""What a second worker of a Dask cluster brings: `python -m measure.cluster`.

One worker and two, of one thread each, do the same cases in turn, pair after pair, so that a machine that others use
slows them alike; the median of the pairs' ratios counts. `python -m docs.tables` makes the table of docs/speed.md.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edge.bench.run import JOB
from edge.cluster import EngineChoice, predict_on_cluster
from edge.data.case import write_case
from edge.data.phantom import make_phantom
from edge.engines.model_folder import DEFAULT_MODEL
from edge.errors import RunError
from edge.pipeline import Options
from edge.reports.report import now, write_json
from edge.system.machine import describe_machine

WORKERS = (1, 2)
CASES, SIDE_PX, OBJECTS = 32, 256, 4  # of each round: alike, so that both workers end together


def pairs(model: Path, cases: int, rounds: int) -> Iterator[dict[str, float]]:
    """Seconds that one and two workers take for the same cases, `rounds` times, after one that is not counted.

    Raises:
        RunError: Dask is not installed, or a case failed.
    """
    try:
        from distributed import LocalCluster
    except ImportError:
        raise RunError("this needs Dask: pip install 'samedge[cluster]'") from None
    settings: dict[str, Any] = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = _cases(folder, cases)
        started = {
            count: stack.enter_context(LocalCluster(n_workers=count, memory_limit=0, **settings)) for count in WORKERS
        }
        for number in range(rounds + 1):
            took = {f"{count}_s": _seconds(started[count].scheduler_address, paths, model) for count in WORKERS}
            if number:
                yield took


def speedup(found: Sequence[dict[str, float]]) -> list[float]:
    """How many times as fast two workers are as one, in each pair, ascending."""
    return sorted(pair["1_s"] / pair["2_s"] for pair in found)


def _seconds(address: str, paths: Sequence[Path], model: Path) -> float:
    root = paths[0].parent
    choice = EngineChoice(model.absolute(), "openvino", "auto", 1, Options())
    start = time.perf_counter()
    for prediction, _ in predict_on_cluster(address, paths, root / "outputs", choice, root=root, job=JOB):
        if prediction.error:
            raise RunError(prediction.error)
    return time.perf_counter() - start


def _cases(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"2DBox_US_{number:03}.npz" for number in range(count)]
    for path in paths:
        write_case(path, make_phantom(path.stem, (SIDE_PX, SIDE_PX), OBJECTS, 0))
    return paths


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m measure.cluster", description="What a second worker of a cluster brings."
    )
    parser.add_argument("--json", type=Path, help="write what was measured here")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model folder")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of one worker and two")
    chosen = parser.parse_args()
    found = list(pairs(chosen.model, CASES, chosen.rounds))
    ratios = speedup(found)
    print(f"two workers of one thread: {statistics.median(ratios):.2f} x one ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    report: dict[str, Any] = {"created": now(), "machine": describe_machine(), "cases_each": CASES, "pairs": found}
    if chosen.json:
        write_json(chosen.json, report)


if __name__ == "__main__":
    main()

"""What callers of one Segmenter get together: `python -m export.callers CASES` has 1, 2 and 4 threads share it.

Each number of callers in turn, round after round, so that a machine that others use slows them alike; medians count.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.case import Case, find_cases, read_case
from edge.errors import RunError
from edge.machine import describe_machine
from edge.model_folder import DEFAULT_MODEL
from edge.report import print_rows
from edge.runtime import BACKENDS
from edge.segmenter import Segmenter

CALLERS = (1, 2, 4)
ROUNDS = 7


def cases_per_s(segmenter: Segmenter, cases: Sequence[Case], callers: int, alone: Sequence[npt.NDArray]) -> float:
    """Cases per second of all callers together, each of which does all cases.

    Args:
        alone: the labels of the cases, made by one caller.

    Raises:
        RunError: a caller got other labels.
    """

    def work(first: int) -> None:
        for at in range(first, first + len(cases)):  # each begins with another case
            case = cases[at % len(cases)]
            if not np.array_equal(segmenter.segment(case).labels, alone[at % len(cases)]):
                raise RunError(f"{case.name}: other labels with {callers} callers at once than alone")

    start = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(work, range(callers)))
    return callers * len(cases) / (time.perf_counter() - start)


def throughput(segmenter: Segmenter, cases: Sequence[Case], rounds: int = ROUNDS) -> dict[int, float]:
    """Callers -> median of `cases_per_s`."""
    alone = [segmenter.segment(case).labels for case in cases]
    rates: dict[int, list[float]] = {callers: [] for callers in CALLERS}
    for _ in range(rounds):
        for callers in CALLERS:
            rates[callers].append(cases_per_s(segmenter, cases, callers, alone))
    return {callers: statistics.median(values) for callers, values in rates.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m export.callers", description="Cases per second of threads that share one Segmenter."
    )
    parser.add_argument("cases", type=Path, help="folder of cases, or one .npz file")
    parser.add_argument(
        "--model", type=Path, default=DEFAULT_MODEL, help="model folder; the one that ships if not given"
    )
    parser.add_argument("--precision", default="auto", help="as of samedge predict")
    options = parser.parse_args()
    cases = [read_case(path) for path in find_cases(options.cases)]
    rows = [["engine", "threads", *(f"{callers} callers" for callers in CALLERS)]]
    for backend in BACKENDS:
        for threads in (1, 2):
            segmenter = Segmenter(options.model, backend=backend, precision=options.precision, threads=threads)
            rates = throughput(segmenter, cases)
            engine = f"{segmenter.engine.backend} {segmenter.engine.precision}"
            rows.append([engine, str(threads), *(f"{rate:.2f}" for rate in rates.values())])
    print(f"{describe_machine()['cpu']}, cases per second, medians of {ROUNDS}")
    print_rows(rows)


if __name__ == "__main__":
    main()

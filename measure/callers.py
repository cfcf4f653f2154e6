"""What callers of one Segmenter get done together: `python -m measure.callers CASES`.

1, 2 and 4 threads share one; then as many as there are cores have one each, of a single thread. All in turn, round
after round, so that a machine that others use slows them alike; medians count.
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.case import Case, find_cases, read_case
from edge.engines.model_folder import DEFAULT_MODEL
from edge.engines.runtime import BACKENDS, describe_engine
from edge.errors import RunError
from edge.reports.report import now, print_rows, write_json
from edge.segmenter import Segmenter
from edge.system.cores import available_cores
from edge.system.machine import describe_machine

CALLERS = (1, 2, 4)
ROUNDS = 3


def cases_per_s(callers: Sequence[Segmenter], cases: Sequence[Case], alone: Sequence[npt.NDArray]) -> float:
    """Cases per second of threads that each do all cases at once, one with each of `callers`.

    Args:
        alone: the labels of the cases, made by one caller.

    Raises:
        RunError: a caller got other labels.
    """

    def work(segmenter: Segmenter) -> None:
        for case, expected in zip(cases, alone, strict=True):
            if not np.array_equal(segmenter.segment(case).labels, expected):
                raise RunError(f"{case.name}: other labels with {len(callers)} callers at once than alone")

    start = time.perf_counter()
    with ThreadPoolExecutor(len(callers)) as pool:
        list(pool.map(work, callers))
    return len(callers) * len(cases) / (time.perf_counter() - start)


def throughput(
    setups: Mapping[str, Sequence[Segmenter]], cases: Sequence[Case], rounds: int = ROUNDS
) -> dict[str, float]:
    """Name of a setup -> median of `cases_per_s` of its callers."""
    alone = {name: [callers[0].segment(case).labels for case in cases] for name, callers in setups.items()}
    rates: dict[str, list[float]] = {name: [] for name in setups}
    for _ in range(rounds):
        for name, callers in setups.items():
            rates[name].append(cases_per_s(callers, cases, alone[name]))
    return {name: statistics.median(values) for name, values in rates.items()}


def callers_table(report: Mapping[str, Any]) -> list[list[str]]:
    """Of what `main` writes: a row an engine, a column a setup."""
    rows = [["engine", *report["cases_per_s"][0]]]
    for engine, rates in zip(report["engines"], report["cases_per_s"], strict=True):
        rows.append([f"{engine['backend']} {engine['precision']}", *(f"{rate:.2f}" for rate in rates.values())])
    return rows


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(
        prog="python -m measure.callers", description="Cases per second of threads that share a Segmenter."
    )
    parser.add_argument("cases", type=Path, help="folder of cases, or one .npz file")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model folder")
    parser.add_argument("--precision", default="auto", help="as of samedge predict")
    parser.add_argument("--json", type=Path, help="write the cases per second here")
    options = parser.parse_args()
    cases, cores = [read_case(path) for path in find_cases(options.cases)], available_cores()
    report: dict[str, Any] = {"created": now(), "machine": describe_machine(), "engines": [], "cases_per_s": []}
    for backend in BACKENDS:
        load = partial(Segmenter, options.model, backend=backend, precision=options.precision)
        shared = load(threads=cores)
        setups = {f"{callers} caller{'s' * (callers > 1)}": [shared] * callers for callers in CALLERS}
        setups[f"{cores}, an engine of one thread each"] = [load(threads=1) for _ in range(cores)]
        report["engines"].append(describe_engine(shared.engine))
        report["cases_per_s"].append(throughput(setups, cases))
    print(f"{report['machine']['cpu']}, {cores} cores, cases per second, medians of {ROUNDS}")
    print_rows(callers_table(report))
    if options.json:
        write_json(options.json, report)


if __name__ == "__main__":
    main()

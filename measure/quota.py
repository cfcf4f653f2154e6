"""What containers get done under a quota of cores and beside others: `python -m measure.quota CASES`.

`samedge bench` in containers of an image, with the threads that it takes by itself and with each other number. Setups
run in turn, round after round; medians count. Cases per second are of the model loaded.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.challenge.submission.engine import connect, engine_errors
from edge.errors import RunError
from edge.reports.report import now, print_rows, write_json
from edge.system.cores import available_cores
from edge.system.machine import describe_machine

QUOTAS = (0.5, 1.0, 1.5)
NEIGHBOURS = (1, 2, 3, 4)
ROUNDS = 3


@dataclass(frozen=True)
class Setup:
    """Containers side by side, all alike."""

    containers: int
    cpus: float | None  # quota of each; None: no limit
    threads: int | None  # of each; None: what samedge takes by itself

    @property
    def kind(self) -> str:
        """What is not a matter of threads."""
        side_by_side = f"{self.containers} container{'s' * (self.containers > 1)}"
        return side_by_side if self.cpus is None else f"--cpus {self.cpus:g}"


def setups(cores: int) -> Iterator[Setup]:
    """One container under each quota, then several without; threads as taken, and each number up to `cores`."""
    kinds = [(1, quota) for quota in QUOTAS if quota < cores] + [(count, None) for count in NEIGHBOURS]
    for count, quota in kinds:
        for threads in (None, *range(1, cores + 1)):
            yield Setup(count, quota, threads)


def cases_per_s(client: Any, image: str, cases: Path, setup: Setup) -> float:
    """Of all containers of a setup together.

    Raises:
        RunError: a container failed; its last line.
    """
    command = ["samedge", "bench", "/cases", "--quiet", "--json", "-"]
    if setup.threads is not None:
        command += ["--threads", str(setup.threads)]
    given: dict[str, Any] = {
        "volumes": {str(cases.resolve()): {"bind": "/cases", "mode": "ro"}},
        "network_mode": "none",
    }
    if setup.cpus is not None:
        given["nano_cpus"] = int(setup.cpus * 1e9)

    def run(_number: int) -> float:
        with engine_errors(image):
            said = client.containers.run(image, command, remove=True, stdout=True, stderr=False, **given)
        return rate(json.loads(said)["cases"])

    with ThreadPoolExecutor(setup.containers) as pool:
        return sum(pool.map(run, range(setup.containers)))


def rate(measured: Sequence[Mapping[str, Any]]) -> float:
    """Cases per second of what `samedge bench` measured.

    Raises:
        RunError: a case failed.
    """
    if failed := [case["error"] for case in measured if case["error"]]:
        raise RunError(failed[0])
    return len(measured) / sum(case["total_s"] for case in measured)


def measure(client: Any, image: str, cases: Path, wanted: Sequence[Setup], rounds: int) -> dict[Setup, float]:
    """Median cases per second of each setup."""
    rates: dict[Setup, list[float]] = {setup: [] for setup in wanted}
    for _ in range(rounds):
        for setup in wanted:
            rates[setup].append(cases_per_s(client, image, cases, setup))
    return {setup: statistics.median(values) for setup, values in rates.items()}


def rows_of(rates: Mapping[Setup, float]) -> list[dict[str, Any]]:
    """A row a kind of setup: cases per second by itself, by number of threads, and of the best number."""
    rows: dict[str, dict[str, Any]] = {}
    for setup, value in rates.items():
        row = rows.setdefault(setup.kind, {"kind": setup.kind, "by_itself": 0.0, "by_threads": {}})
        if setup.threads is None:
            row["by_itself"] = value
        else:
            row["by_threads"][str(setup.threads)] = value
    for row in rows.values():
        row["of_best"] = row["by_itself"] / max(row["by_threads"].values())
    return list(rows.values())


def quota_table(report: Mapping[str, Any]) -> list[list[str]]:
    """Of what `main` writes."""
    threads = list(report["rows"][0]["by_threads"])
    rows = [["", "by itself", *(f"--threads {count}" for count in threads), "by itself, of the best"]]
    for row in report["rows"]:
        values = [row["by_itself"], *row["by_threads"].values()]
        rows.append([row["kind"], *(f"{value:.2f}" for value in values), f"{row['of_best']:.2f}"])
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m measure.quota", description="Cases per second of containers.")
    parser.add_argument("cases", type=Path, help="folder of cases")
    parser.add_argument("--image", default="samedge", help="as make image names it")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="write the cases per second here")
    chosen = parser.parse_args()
    start, cores = time.perf_counter(), available_cores()
    rates = measure(connect(), chosen.image, chosen.cases, list(setups(cores)), chosen.rounds)
    report = {"created": now(), "machine": describe_machine(), "image": chosen.image, "rounds": chosen.rounds}
    report["rows"] = rows_of(rates)
    print(f"{report['machine']['cpu']}, {cores} cores, cases per second, medians of {chosen.rounds}", end="; ")
    print(f"measured in {time.perf_counter() - start:.0f} s")
    print_rows(quota_table(report))
    if chosen.json:
        write_json(chosen.json, report)


if __name__ == "__main__":
    main()

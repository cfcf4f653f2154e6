"""What `samedge submission check` and `verify` leave: JSON, and a page with the worst cases."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edge.challenge.submission.check import ROUNDS, findings, run_rounds, verdict
from edge.challenge.submission.container import Limits
from edge.challenge.submission.mounts import Mounts
from edge.challenge.submission.pack import Package, load
from edge.challenge.submission.trial import Trial, try_case
from edge.data.case import read_case, write_case
from edge.data.phantom import make_phantom
from edge.errors import CaseError, RunError
from edge.reports.page import write_page
from edge.reports.report import now
from edge.reports.worst import Shown, Worst
from edge.system.machine import describe_machine

PHANTOM = ("2DBox_US_verify", (96, 96), 1)  # name, shape and objects of what `verify` runs


class Pictures:
    """Overlays of the cases that went worst so far; the rest are let go, so that any number of cases can be tried."""

    def __init__(self, paths: list[Path]) -> None:
        """Of the cases in these files."""
        self._paths = {path.stem: path for path in paths}
        self._worst = Worst()

    def keep(self, trial: Trial, labels: npt.NDArray) -> None:
        """Draw the case where it is among the worst; one picture of each case, of its first round."""
        if trial.round != next(iter(ROUNDS)) or any(trial.case == shown.case for shown in self._worst.shown):
            return
        if not self._worst.wants(trial.dsc):
            return
        try:
            case = read_case(self._paths[trial.case], with_truth=True)
        except CaseError:
            return
        self._worst.keep(trial.case, trial.dsc, "", case, labels)

    def worst(self) -> list[Shown]:
        """The cases that went worst, the worst first."""
        return self._worst.shown


def checked_rounds(text: str) -> tuple[str, ...]:
    """The rounds that a comma-separated list names.

    Raises:
        RunError: one is not known.
    """
    names = tuple(word.strip() for word in text.split(","))
    if unknown := [name for name in names if name not in ROUNDS]:
        raise RunError(f"rounds must be any of {', '.join(ROUNDS)}, got {unknown[0]!r}")
    return names


def run_in_scratch(
    client: Any, image: str, paths: list[Path], limits: Limits, rounds: tuple[str, ...], pictures: Pictures
) -> Iterator[Trial]:
    """`run_rounds` with mounts that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="samedge-", ignore_cleanup_errors=True) as folder:
        yield from run_rounds(client, image, paths, Path(folder), limits, rounds, keep=pictures.keep)


def verify_package(client: Any, package: Package, case_path: Path | None, limits: Limits) -> Trial:
    """Load a submission and run one case from it; a phantom where no case is given.

    Raises:
        RunError: the file is no submission, or the engine fails.
    """
    image = load(client, package.path)
    with tempfile.TemporaryDirectory(prefix="samedge-", ignore_cleanup_errors=True) as folder:
        if case_path is None:
            name, shape, objects = PHANTOM
            case_path = Path(folder) / f"{name}.npz"
            write_case(case_path, make_phantom(name, shape, objects, 0))
        return try_case(client, image, case_path, Mounts(Path(folder) / "mounts"), limits)[0]


def check_report(image: str, trials: list[Trial], limits: Limits, rounds: tuple[str, ...]) -> dict[str, Any]:
    """Everything measured, on what, and the verdict."""
    cases = {trial.case for trial in trials}
    return {
        "created": now(),
        "image": image,
        "verdict": verdict(trials),
        "fix": [{**asdict(finding), "line": finding.line(cases)} for finding in findings(trials)],
        "limits": asdict(limits),
        "rounds": {name: ROUNDS[name] for name in ROUNDS if name in rounds},
        "machine": describe_machine(),
        "trials": [asdict(trial) for trial in trials],
    }


def write_check_page(path: Path, report: dict[str, Any], pictures: Pictures) -> None:
    """Write the report as a page.

    Raises:
        RunError: the file cannot be written.
    """
    by_case: dict[str, dict[str, Any]] = {}
    said: dict[str, Any] = {}  # the first trial of each case that went wrong
    for trial in report["trials"]:
        by_case.setdefault(trial["case"], {})[trial["round"]] = trial
        if trial["problem"]:
            said.setdefault(trial["case"], trial)
    values = {"report": report, "cases": by_case, "said": list(said.values()), "worst": pictures.worst()}
    write_page(path, "check.html", values)

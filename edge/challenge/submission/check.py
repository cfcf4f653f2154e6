"""A submission tried as the challenge runs it, then as a hostile organiser would: ready, or what to fix."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edge.challenge.submission.container import OFFICIAL, Conditions, Limits
from edge.challenge.submission.mounts import Mounts
from edge.challenge.submission.trial import Trial, try_case

HOSTILE = Conditions(read_only=True, user="12345:12345", inputs_read_only=True)
HOSTILE_MEMORY_MIB = 2048
ROUNDS = {
    "cold": "each case alone, the folders empty at the start and kept between cases, as the challenge does",
    "warm": "the same again, with whatever the first round left in the folders",
    "hostile": "empty folders, read-only root, user 12345, inputs not writable, 2 GiB of memory",
}
READY = "ready"


@dataclass(frozen=True)
class Finding:
    """One thing to fix, with where it showed."""

    problem: str  # one line with the cure
    round: str  # the first of ROUNDS in which it showed
    cases: tuple[str, ...]

    def line(self, tried: Iterable[str]) -> str:
        """The finding in one line; `tried` are the names of all cases."""
        everything = set(tried)
        for kind in ("", "3D ", "2D "):
            if set(self.cases) == {name for name in everything if name.startswith(kind.strip())}:
                return f"every {kind}case [{self.round}]: {self.problem}"
        more = f" and {len(self.cases) - 1} more" if len(self.cases) > 1 else ""
        return f"{self.cases[0]}{more} [{self.round}]: {self.problem}"


def run_rounds(
    client: Any,
    image: str,
    paths: list[Path],
    folder: Path,
    limits: Limits,
    rounds: tuple[str, ...] = tuple(ROUNDS),
    *,
    keep: Callable[[Trial, npt.NDArray], None] = lambda trial, labels: None,
) -> Iterator[Trial]:
    """Every case in each round, in the order of ROUNDS.

    Args:
        folder: an empty folder of ours for the mounts.
        limits: of the official rounds; the hostile one lowers the memory to HOSTILE_MEMORY_MIB where that is less.
        keep: is handed each trial that went well, with its label map.

    Raises:
        RunError: the engine fails.
    """
    for name in (known for known in ROUNDS if known in rounds):
        mounts = Mounts(folder / ("hostile" if name == "hostile" else "official"))
        here, conditions = limits, OFFICIAL
        if name == "hostile":
            here = replace(limits, memory_mib=min(limits.memory_mib, HOSTILE_MEMORY_MIB))
            conditions = HOSTILE
        for path in paths:
            trial, labels = try_case(client, image, path, mounts, here, conditions=conditions, round_name=name)
            if labels is not None:
                keep(trial, labels)
            yield trial


def findings(trials: list[Trial]) -> list[Finding]:
    """What is wrong, one finding per problem and round; a problem of an earlier round is not told again."""
    found: list[Finding] = []
    for round_name, group in groupby(trials, key=lambda trial: trial.round):
        by_problem: dict[str, list[str]] = {}
        for trial in group:
            problem = _without_case(trial)
            if problem and not any(trial.case in old.cases and problem == old.problem for old in found):
                by_problem.setdefault(problem, []).append(trial.case)
        found += [Finding(problem, round_name, tuple(cases)) for problem, cases in by_problem.items()]
    return found


def verdict(trials: list[Trial]) -> str:
    """One line: `ready`, or how many things there are to fix and where."""
    found = findings(trials)
    if not found:
        return f"{READY}: {len({trial.case for trial in trials})} cases, nothing to fix"
    if all(finding.round == "hostile" for finding in found):
        return f"ready for the official run; under hostile conditions {_things(found)} to fix"
    return f"not ready: {_things(found)} to fix"


def _things(found: list[Finding]) -> str:
    return "one thing" if len(found) == 1 else f"{len(found)} things"


def _without_case(trial: Trial) -> str:
    """A problem's text with the case's own name taken out, so that the same problem of two cases is one."""
    return re.sub(rf"(?<!\w){re.escape(trial.case)}(?!\w)", "CASE", trial.problem or "")

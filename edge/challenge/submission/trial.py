"""One case through one container, and what is to be said about it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.challenge.submission.container import CANNOT_START, OFFICIAL, Conditions, ContainerRun, Limits, run_container
from edge.challenge.submission.mounts import Mounts, Output
from edge.data.case import Case, read_case
from edge.data.modality import modality_of
from edge.errors import CaseError
from edge.scoring.score import score_case


@dataclass(frozen=True)
class Trial:
    """One case's run as it is reported."""

    case: str
    modality: str
    round: str  # such as "cold"; see `edge.challenge.submission.check`
    problem: str | None = None  # one line with the cure; None: all well
    wall_s: float | None = None  # None: no container was started
    exit_code: int | None = None  # None: killed by us, or not started
    oom_killed: bool = False
    stopped_for: str | None = None  # "time" or "size"; see ContainerRun
    peak_mib: float | None = None  # None: not known here
    peak_source: str | None = None
    shape: tuple[int, ...] = ()  # of segs
    dtype: str | None = None  # of segs in the file
    labels: int = 0  # different labels in segs, without the background
    dsc: float | None = None  # None: no truth, or no output; NaN: see edge.scoring.score
    nsd_official: float | None = None
    nsd: float | None = None
    note: str | None = None  # what the scores assume
    log: str = ""  # the container's last lines

    @property
    def usable(self) -> bool:
        """Whether there is an output to score: written in time and in form; the exit code does not matter."""
        return bool(self.shape) and self.stopped_for is None


def try_case(
    client: Any,
    image: str,
    case_path: Path,
    mounts: Mounts,
    limits: Limits,
    *,
    conditions: Conditions = OFFICIAL,
    label: str = "check",
    round_name: str = "cold",
    score: bool = True,
) -> tuple[Trial, npt.NDArray | None]:
    """Run one case and read what came of it.

    Returns:
        The trial, scored where the case file holds `gts` and `score` asks for it; and the label map, None where the
        output cannot be used.

    Raises:
        RunError: the engine or our own disk fails. A bad case file, image or output is told in `Trial.problem`.
    """
    name = case_path.stem
    trial = Trial(name, modality_of(name), round_name)
    try:
        case = read_case(case_path, with_truth=score)
        mounts.put(case_path)
    except CaseError as error:
        return replace(trial, problem=f"not run: {str(error).removeprefix(f'{name}: ')}"), None
    run = run_container(client, image, mounts.inputs, mounts.outputs, limits, conditions, label)
    output = mounts.take(case)
    trial = replace(
        trial,
        problem=problem_of(run, output, limits),
        wall_s=run.wall_s,
        exit_code=run.exit_code,
        oom_killed=run.oom_killed,
        stopped_for=run.stopped_for,
        peak_mib=run.peak_mib,
        peak_source=run.peak_source,
        dtype=output.dtype,
        log=run.log,
    )
    return _with_labels(trial, case, output), output.labels


def problem_of(run: ContainerRun, output: Output, limits: Limits) -> str | None:
    """What to tell about a run in one line, the cause before its consequences; None: all well."""
    if run.stopped_for == "time":
        return f"no end after {limits.time_s:.0f} s: killed; see its log, or give more time"
    if run.stopped_for == "size":
        return f"more than {limits.written_mib} MiB in the mounted folders: killed; write label maps only"
    if run.oom_killed:
        return f"out of memory: killed by the kernel at {limits.memory_mib} MiB; lower what is held at once"
    if run.exit_code == CANNOT_START:
        return f"cannot start: the image needs /bin/bash, sh and predict.sh in its working directory{_said(run)}"
    if output.problem and run.exit_code:
        return f"exit code {run.exit_code}{_said(run)}"
    if output.problem:
        return output.problem
    if run.exit_code:
        return f"exit code {run.exit_code} although the output is there{_said(run)}"
    return None


def _said(run: ContainerRun) -> str:
    lines = [line.strip() for line in run.log.splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ": it said nothing"


def _with_labels(trial: Trial, case: Case, output: Output) -> Trial:
    labels = output.labels
    if labels is None:
        return trial
    trial = replace(trial, shape=labels.shape, labels=int(np.count_nonzero(np.unique(labels))))
    if case.truth is None:
        return trial
    scores = score_case(case.name, case.truth, labels, case.spacing_mm)
    return replace(trial, dsc=scores.dsc, nsd_official=scores.nsd_official, nsd=scores.nsd, note=scores.note)

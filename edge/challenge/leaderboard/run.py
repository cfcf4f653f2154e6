"""Every team on every case, one case per container, one team at a time; what is done already is not done again."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edge.challenge.leaderboard.records import Records, sha256, tidy_folder
from edge.challenge.leaderboard.teams import Team, read_times
from edge.challenge.submission.container import Limits, remove_containers
from edge.challenge.submission.mounts import Mounts, read_output, remove
from edge.challenge.submission.pack import load
from edge.challenge.submission.trial import Trial, try_case
from edge.data.case import read_case
from edge.data.modality import modality_of
from edge.data.npz import write_npz
from edge.errors import CaseError, RunError
from edge.scoring.evaluate import METRICS, score_files
from edge.scoring.score import NAN, CaseScore
from edge.system.machine import describe_machine

ROUND = "challenge"
SEGS = "segs_sha256"  # in a run's record, of the labels that were kept of it


def run_team(client: Any, team: Team, paths: list[Path], folder: Path, limits: Limits) -> Iterator[tuple[Trial, bool]]:
    """Every case of one team.

    Args:
        client: of the Docker engine; not used for a folder of outputs.
        folder: the team's, with `runs`, `segs` and the mounts' `work`.

    Yields:
        The trial, and whether it was done just now (False: it was done before).

    Raises:
        RunError: the engine or the disk fails. Whatever is wrong with the team's image or outputs is in its trials.
    """
    if not team.is_image:
        yield from ((trial, True) for trial in _take_outputs(team, paths, folder, limits))
        return
    label = container_label(folder)
    remove_containers(client, label)
    records = Records(folder)
    mounts = Mounts(folder / "work")
    machine = {key: describe_machine()[key] for key in ("cpu", "cores")}  # times of another say nothing here
    shared = {"image": team.sha256, "limits": asdict(limits), "machine": machine}
    keys = {path: {**shared, "case": sha256(path)} for path in paths}
    image = _Loaded(client, team, folder / "loaded")
    try:
        for path in paths:
            done = records.get("runs", path.stem, keys[path])
            if done is not None and done.get(SEGS) == _kept(folder, path.stem):  # else somebody took the output away
                yield _trial(done), False
                continue
            if image.problem():
                yield Trial(path.stem, modality_of(path.stem), ROUND, f"not run: {image.problem()}"), True
                continue
            trial, labels = try_case(
                client, image.name, path, mounts, limits, label=label, round_name=ROUND, score=False
            )
            _keep(folder, path.stem, labels if trial.usable else None)
            records.put("runs", path.stem, keys[path], {**asdict(trial), SEGS: _kept(folder, path.stem)})
            yield trial, True
    finally:
        image.unload()


def container_label(folder: Path) -> str:
    """Marks the containers of one team's folder, so that what a killed run left can be found again."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


def score_team(
    folder: Path, trials: list[Trial], truths: dict[str, Path], workers: int, score_on: str | None
) -> list[CaseScore]:
    """Scores of one team's kept outputs, in parallel; a case with a problem scores 0 in every number.

    Args: score_on: address of a Dask scheduler whose workers score instead of processes here.

    Raises:
        RunError: a scoring process died.
    """
    records = Records(folder)
    segs = folder / "segs"
    keys = {
        trial.case: {"truth": sha256(truths[trial.case]), "segs": sha256(segs / f"{trial.case}.npz")}
        for trial in trials
    }
    known = {name: records.get("scores", name, key) for name, key in keys.items()}
    pending = [name for name, content in known.items() if content is None]
    scored = score_files(segs, {name: truths[name] for name in pending}, workers=workers, dask=score_on)
    for name, score in zip(pending, scored, strict=True):
        known[name] = _plain(score)
        records.put("scores", name, keys[name], known[name] or {})
    problems = {trial.case: None if trial.usable else trial.problem for trial in trials}
    return [_score(content or {}, problems[name]) for name, content in known.items()]


class _Loaded:
    """A team's image, loaded when the first case asks for it, and gone again where it was not there before.

    A file marks it as loaded here, so that after a kill the next run knows whose it is.
    """

    def __init__(self, client: Any, team: Team, mark: Path) -> None:
        self._client, self._team, self._mark = client, team, mark
        self.name = f"{team.name}:latest"
        self._problem: str | None = None
        self._tried = False

    def problem(self) -> str | None:
        """None once the image is there; otherwise why it cannot be."""
        if not self._tried:
            self._tried = True
            if not self._is_there():
                self._mark.touch()
            try:
                load(self._client, self._team.path)
            except RunError as error:
                self._problem = str(error)
        return self._problem

    def unload(self) -> None:
        if self._mark.exists():
            with suppress(Exception):  # it was never loaded, or something else has begun to use it
                self._client.images.remove(self.name)
            self._mark.unlink(missing_ok=True)

    def _is_there(self) -> bool:
        with suppress(Exception):
            return bool(self._client.images.get(self.name))
        return False


def _take_outputs(team: Team, paths: list[Path], folder: Path, limits: Limits) -> Iterator[Trial]:
    times = read_times(team.path).seconds
    for path in paths:
        trial = Trial(path.stem, modality_of(path.stem), ROUND, wall_s=times.get(path.stem))
        try:
            case = read_case(path)
        except CaseError as error:
            yield replace(trial, problem=f"not run: {error}")
            continue
        if trial.wall_s is not None and trial.wall_s > limits.time_s:
            _keep(folder, path.stem, None)
            problem = f"took {trial.wall_s:.0f} s by its table, the limit is {limits.time_s:g} s"
            yield replace(trial, problem=problem, stopped_for="time")
            continue
        output = read_output(team.path / path.name, case)
        _keep(folder, path.stem, output.labels)
        shape = () if output.labels is None else output.labels.shape
        yield replace(trial, problem=output.problem, dtype=output.dtype, shape=shape)


def _keep(folder: Path, name: str, labels: npt.NDArray | None) -> None:
    """Write the labels to `segs`, anew; without any, what lies there from before is removed."""
    path = tidy_folder(folder / "segs") / f"{name}.npz"
    if labels is None:
        remove(path)
    else:
        write_npz(path, {"segs": labels})


def _kept(folder: Path, name: str) -> str | None:
    """Hash of the labels that `_keep` wrote; None: there are none."""
    return sha256(folder / "segs" / f"{name}.npz")


def _plain(score: CaseScore) -> dict[str, Any]:
    """A score as JSON holds it: without its labels, NaN as null."""
    content = asdict(replace(score, labels=()))
    return {key: None if value != value else value for key, value in content.items()}


def _score(content: dict[str, Any], problem: str | None) -> CaseScore:
    dsc, nsd_official, nsd = (NAN if content[key] is None else content[key] for key in METRICS)
    error = problem or content["error"]
    return CaseScore(content["name"], content["modality"], dsc, nsd_official, nsd, error=error, note=content["note"])


def _trial(content: dict[str, Any]) -> Trial:
    known = {key: value for key, value in content.items() if key != SEGS}
    return Trial(**{**known, "shape": tuple(content["shape"])})

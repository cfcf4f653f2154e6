"""The whole evaluation: run, score, rank, write; killed at any point, the same call goes on where it was."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.challenge.leaderboard.board import TeamResult, make_board, write_board_csv, write_times_csv
from edge.challenge.leaderboard.ranks import DRAWS
from edge.challenge.leaderboard.records import locked
from edge.challenge.leaderboard.run import run_team, score_team
from edge.challenge.leaderboard.teams import Team, find_teams, read_times
from edge.challenge.submission.container import Limits
from edge.challenge.submission.trial import Trial
from edge.data.case import find_cases, read_case, read_labels
from edge.data.labels import count_boxes, number_by_box
from edge.errors import CaseError, RunError
from edge.reports.page import number, picture, write_page
from edge.reports.report import now, write_json
from edge.scoring.score import mean_without_nan
from edge.system.machine import describe_machine

Progress = Callable[[Team, Trial, bool], None]  # team, trial, whether it was done just now


@dataclass(frozen=True)
class Plan:
    """What is evaluated, and where to."""

    teams_dir: Path  # `<team>.tar.gz` and folders of outputs
    cases_dir: Path  # what the containers are given; a truth in it is taken out first
    truth_dir: Path  # `gts` under the same names; may be the same folder
    out: Path
    limits: Limits
    workers: int = 1  # processes that score
    score_on: str | None = None  # address of a Dask scheduler whose workers score instead
    seed: int = 0  # of the bootstrap
    pictures: int = 12  # cases with overlays on the page, the worst ones


def evaluate_teams(plan: Plan, connect: Callable[[], Any], progress: Progress) -> dict[str, Any]:
    """Run what is not done yet, write `leaderboard.csv`, `.json`, `.html` and each team's times; returns the board.

    Args:
        connect: makes the Docker client, called only where a team sent an image.

    Raises:
        CaseError: no cases, or a case without a truth.
        RunError: the engine, the disk, or nothing to evaluate.
    """
    paths, truths = _cases_with_truth(plan)
    teams = find_teams(plan.teams_dir, plan.out)
    with locked(plan.out):
        client = connect() if any(team.is_image for team in teams) else None
        trials = {team.name: _run(client, team, paths, plan, progress) for team in teams}
        results = []
        for team in teams:
            folder = _folder(plan, team)
            scores = score_team(folder, trials[team.name], truths, plan.workers, plan.score_on)
            write_times_csv(folder / f"{team.name}_running_time.csv", trials[team.name])
            results.append(TeamResult(team.name, tuple(trials[team.name]), tuple(scores)))
        board = make_board(results, seed=plan.seed)
        board |= {"limits": asdict(plan.limits), "machine": describe_machine(), "created": now()}
        board["problems"] = [line for team in teams for line in _problems(team, trials[team.name])]
        write_json(plan.out / "leaderboard.json", board)
        write_board_csv(plan.out / "leaderboard.csv", board)
        write_page(plan.out / "leaderboard.html", "leaderboard.html", _page(board, plan, truths))
    return board


def _run(client: Any, team: Team, paths: list[Path], plan: Plan, progress: Progress) -> list[Trial]:
    trials = []
    for trial, is_new in run_team(client, team, paths, _folder(plan, team), plan.limits):
        progress(team, trial, is_new)
        trials.append(trial)
    return trials


def _problems(team: Team, trials: list[Trial]) -> list[str]:
    """What of a team's table of times could not be used: without its times a team ranks last in time."""
    if team.is_image:
        return []
    times = read_times(team.path)
    without = [trial.case for trial in trials if trial.usable and trial.wall_s is None] if times.seconds else []
    more = f" and {len(without) - 1} more" if len(without) > 1 else ""
    return [*times.problems, *([f"{team.name}: no time of {without[0]}{more} in its table"] if without else [])]


def _folder(plan: Plan, team: Team) -> Path:
    return plan.out / "teams" / team.name


def _cases_with_truth(plan: Plan) -> tuple[list[Path], dict[str, Path]]:
    paths = find_cases(plan.cases_dir)
    truths = {path.stem: path for path in find_cases(plan.truth_dir)}
    without = [path.stem for path in paths if path.stem not in truths]
    if without:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise CaseError(f"{without[0]}{more}: no truth of this name in {plan.truth_dir}")
    if not plan.cases_dir.is_dir():
        raise RunError(f"{plan.cases_dir}: give a folder of cases")
    for path in paths:  # before hours of containers, all of whose scores it would change
        _check_truth(path, truths[path.stem])
    return paths, truths


def _check_truth(path: Path, truth: Path) -> None:
    """Raises CaseError: a truth does not fit its case, or its numbers cannot be told to be of the case's boxes."""
    case, (labels, _) = read_case(path), read_labels(truth, "gts")
    if labels.shape != case.shape:
        raise CaseError(f"{path.stem}: its truth has shape {labels.shape}, the case {case.shape}")
    told = number_by_box(labels, len(case.boxes))[1]
    if told and count_boxes(truth) != len(case.boxes):
        raise CaseError(f"{path.stem}: its truth {told}; number it so, or keep the boxes beside it in {truth.name}")


def _page(board: dict[str, Any], plan: Plan, truths: dict[str, Path]) -> dict[str, Any]:
    """The template's values: cases from the worst mean DSC up, the first ones with pictures."""
    cases = []
    places = {team["team"]: place for place, team in enumerate(board["teams"])}
    for case in board["cases"]:
        case["teams"].sort(key=lambda row: places[row["team"]])
        mean = mean_without_nan([row["dsc"] for row in case["teams"]])
        failed = sum(not row["usable"] for row in case["teams"])
        cases.append({**case, "mean_dsc": mean, "failed": failed, "pictures": []})
    cases.sort(key=lambda case: (-1.0 if case["mean_dsc"] != case["mean_dsc"] else case["mean_dsc"], case["case"]))
    for case in cases[: plan.pictures]:
        case["pictures"] = _pictures(case, plan, truths[case["case"]])
    pictured = min(plan.pictures, len(cases))
    return {
        "board": board, "cases": cases, "draws": DRAWS, "pictured": pictured, "all_pictured": pictured == len(cases)
    }  # fmt: skip


def _pictures(entry: dict[str, Any], plan: Plan, truth_path: Path) -> list[dict[str, Any]]:
    """The truth's overlay, then each team's; without those that cannot be read."""
    try:
        case = read_case(plan.cases_dir / f"{entry['case']}.npz")
        truth, _ = read_labels(truth_path, "gts")
    except CaseError:
        return []
    pictures = [picture("truth", case, truth)]
    for row in entry["teams"]:
        if row["usable"]:
            with suppress(CaseError):  # gone since it was scored
                segs, _ = read_labels(plan.out / "teams" / row["team"] / "segs" / f"{case.name}.npz", "segs")
                pictures.append(picture(f"{row['team']}: DSC {number(row['dsc'])}", case, segs))
    return pictures

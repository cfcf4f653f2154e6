"""From trials and scores to the board: ranks, means, what failed; as JSON, CSV and the official tables of times."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from edge.challenge.leaderboard.ranks import METRICS, SMALLER_IS_BETTER, standings
from edge.challenge.leaderboard.teams import TIME_COLUMNS
from edge.challenge.submission.trial import Trial
from edge.data.files import write_whole
from edge.data.table import format_table, number_or_blank
from edge.scoring.evaluate import METRICS as SCORES
from edge.scoring.evaluate import summarize
from edge.scoring.score import CaseScore

DIGITS = 4  # scores are ranked as the official tables print them
TEAM_COLUMNS = ("rank", "team", "mean_rank", "mean_rank_low", "mean_rank_high", "rank_low", "rank_high")


@dataclass(frozen=True)
class TeamResult:
    """All of one team's cases, in the same order for every team."""

    team: str
    trials: tuple[Trial, ...]
    scores: tuple[CaseScore, ...]  # 0 in every number where there is no usable output


def make_board(results: Sequence[TeamResult], *, seed: int = 0) -> dict[str, Any]:
    """The board as plain dictionaries and lists, teams from first to last."""
    usable = np.array([[trial.usable for trial in result.trials] for result in results])
    metrics = {name: np.array([_values(result, name) for result in results]) for name in METRICS}
    by_name = {result.team: result for result in results}
    teams = []
    for standing in standings([result.team for result in results], metrics, usable, seed=seed):
        teams.append({**asdict(standing), **_means(by_name[standing.team])})
    return {
        "ranking": {
            "rule": "per case and metric rank the teams, average the ranks; no usable output is worst; ties averaged",
            "metrics": list(METRICS),
            "smaller_is_better": list(SMALLER_IS_BETTER),
            "seed": seed,
        },
        "teams": teams,
        "cases": [_case(results, index) for index in range(len(results[0].trials))],
    }


def write_board_csv(path: Path, board: dict[str, Any]) -> None:
    """Write a row per team.

    Raises:
        RunError: the file cannot be written.
    """
    columns = [*TEAM_COLUMNS, *(f"rank_{name}" for name in METRICS), *SCORES, "time_s", "peak_mib", "cases", "failed"]
    rows = [columns]
    for team in board["teams"]:
        low, high = team["mean_rank_interval"]
        mean_rank = [number_or_blank(value, DIGITS) for value in (team["mean_rank"], low, high)]
        places = [team["rank"], team["team"], *mean_rank, *team["rank_interval"]]
        ranks = [number_or_blank(team["metric_ranks"][name], DIGITS) for name in METRICS]
        means = [number_or_blank(team["mean"][name], DIGITS) for name in (*SCORES, "time_s")]
        rows.append([*places, *ranks, *means, number_or_blank(team["peak_mib"], 1), team["cases"], team["failed"]])
    write_whole(path, format_table(rows))


def write_times_csv(path: Path, trials: Sequence[Trial]) -> None:
    """Write a team's times as the challenge does: `CaseName,RunningTime`, the file's name and seconds.

    Raises:
        RunError: the file cannot be written.
    """
    rows = [[f"{trial.case}.npz", f"{trial.wall_s:.4f}"] for trial in trials if trial.wall_s is not None]
    write_whole(path, format_table([list(TIME_COLUMNS), *rows]))


def _values(result: TeamResult, metric: str) -> list[float]:
    if metric == "time_s":
        return [np.inf if trial.wall_s is None else trial.wall_s for trial in result.trials]
    return [round(getattr(score, metric), DIGITS) for score in result.scores]


def _means(result: TeamResult) -> dict[str, Any]:
    """Plain means per modality and over the modalities; time and memory over what ran to a usable output."""
    evaluation = summarize(list(result.scores))
    modalities = {mean.name: {key: getattr(mean, key) for key in SCORES} for mean in evaluation.modalities}
    for name, row in modalities.items():
        times = [t.wall_s for t in result.trials if t.modality == name and t.usable and t.wall_s is not None]
        row["time_s"] = fmean(times) if times else None
    known = [row["time_s"] for row in modalities.values() if row["time_s"] is not None]
    peaks = [trial.peak_mib for trial in result.trials if trial.peak_mib is not None]
    mean = {key: getattr(evaluation.mean, key) for key in SCORES}
    return {
        "modalities": modalities,
        "mean": {**mean, "time_s": fmean(known) if known else None},
        "peak_mib": max(peaks, default=None),
        "cases": len(result.trials),
        "failed": sum(not trial.usable for trial in result.trials),
    }


def _case(results: Sequence[TeamResult], index: int) -> dict[str, Any]:
    rows = []
    for result in results:
        trial, score = result.trials[index], result.scores[index]
        numbers = {key: getattr(score, key) for key in SCORES}
        seen = {key: getattr(trial, key) for key in ("wall_s", "peak_mib", "exit_code", "oom_killed", "problem", "log")}
        rows.append({"team": result.team, "usable": trial.usable, **numbers, **seen, "note": score.error or score.note})
    trial = results[0].trials[index]
    return {"case": trial.case, "modality": trial.modality, "teams": rows}

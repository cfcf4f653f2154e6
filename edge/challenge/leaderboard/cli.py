"""`samedge leaderboard`: the organiser's evaluation."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.group import command_app
from edge.commands.notes import Notes
from edge.commands.options import warn_of_nested
from edge.data.table import number_or_blank

if TYPE_CHECKING:
    from edge.challenge.leaderboard.teams import Team
    from edge.challenge.submission.trial import Trial

app = command_app()


@app.command()
def leaderboard(
    teams: Annotated[Path, typer.Argument(help="Folder of <team>.tar.gz, or <team>/ with outputs and times.")],
    cases: Annotated[Path, typer.Option(help="Folder of cases; a truth in them is not shown to the containers.")],
    truth: Annotated[Path, typer.Option(help="Folder of truths (key 'gts') under the same names.")],
    out: Annotated[Path, typer.Option(help="Folder for leaderboard.csv, .json, .html and all that is done so far.")],
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds for one case; then the container is killed.")] = 900,
    memory: Annotated[int, typer.Option(min=64, help="MiB of memory for a container; the challenge's is 8192.")] = 8192,
    cpus: Annotated[float | None, typer.Option(min=0.1, help="Cores for a container; all if not given.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that score; all cores if not given.")] = None,
    score_on: Annotated[
        str | None,
        typer.Option(help="Score on this Dask scheduler's workers, which see --truth and --out; times stay."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    pictures: Annotated[int, typer.Option(min=0, help="Cases with pictures on the page, the worst ones.")] = 12,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="The table and errors only.")] = False,
) -> None:
    """Run every team on every case, score, rank, write a page. Killed and started again, it goes on where it was."""
    from edge.challenge.leaderboard.evaluation import Plan, evaluate_teams
    from edge.challenge.submission.container import Limits
    from edge.challenge.submission.engine import connect
    from edge.notes import Note
    from edge.reports.report import print_rows
    from edge.scoring.score import NO_SPACING
    from edge.system.cores import available_cores

    limits = Limits(memory_mib=memory, cpus=cpus, time_s=time_limit)
    for folder in (cases, truth):
        warn_of_nested(folder, (".npz",), cure="the challenge has one folder")
    plan = Plan(teams, cases, truth, out, limits, workers or available_cores(), score_on, seed, pictures)

    def progress(team: "Team", trial: "Trial", is_new: bool) -> None:
        if is_new and not quiet:
            print(f"{team.name} {_line(trial)}", file=sys.stderr, flush=True)

    board = evaluate_teams(plan, connect, progress)
    notes = Notes(quiet=quiet)
    for case in board["cases"]:
        if any(NO_SPACING in (row["note"] or "") for row in case["teams"]):
            notes.tell(case["case"], [Note(NO_SPACING)])
    notes.close()
    rows = [("team", "rank", "95 %", "mean rank", "dsc", "nsd_official", "seconds", "failed")]
    for team in board["teams"]:
        low, high = team["rank_interval"]
        means = [number_or_blank(team["mean"][key], 3) for key in ("dsc", "nsd_official", "time_s")]
        places = (f"{team['rank']:g}", f"{low:g} to {high:g}", f"{team['mean_rank']:.2f}")
        rows.append((team["team"], *places, *means, f"{team['failed']} of {team['cases']}"))
    print_rows(rows)
    print(out / "leaderboard.html")
    for line in board["problems"]:
        print(f"error: {line}", file=sys.stderr)
    raise typer.Exit(bool(board["problems"]))


def _line(trial: "Trial") -> str:
    took = "" if trial.wall_s is None else f", {trial.wall_s:.2f} s"
    return f"{trial.case}: {trial.problem or 'done'}{took}"

"""`samedge submission`: from a model folder to a file that an organiser can run, and what an organiser will see."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.group import command_app, fail, write_all
from edge.commands.notes import Notes
from edge.commands.options import check_reports, warn_of_nested

if TYPE_CHECKING:
    from edge.challenge.submission.trial import Trial

app = command_app(no_args_is_help=True, help="Build, check, pack and verify a challenge image.")

TeamOption = Annotated[str, typer.Option(help="Team name: lower-case letters and digits, joined by - or _.")]
TimeOption = Annotated[float, typer.Option(min=1, help="Seconds for one case; then the container is killed.")]
MemoryOption = Annotated[int, typer.Option(min=64, help="MiB of memory; the challenge's is 8192.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Results and errors only.")]


@app.command()
def build(
    team: TeamOption,
    model: Annotated[Path | None, typer.Option(help="Model folder; the one that ships if not given.")] = None,
    tag: Annotated[str | None, typer.Option(help="Name of the image; <team>:latest if not given.")] = None,
    wheelhouse: Annotated[Path | None, typer.Option(help="Wheels of requirements.lock: no network.")] = None,
    base: Annotated[str, typer.Option(help="Image with Python 3.11 to start from.")] = "python:3.11-slim-bookworm",
    cache: Annotated[bool, typer.Option(help="Take steps that the engine has done before.")] = True,
    quiet: QuietOption = False,
) -> None:
    """Build the predictor's image with a model inside; the same inputs give the same layers."""
    from edge.challenge.submission.build import build_image, check_team
    from edge.challenge.submission.engine import connect
    from edge.engines.model_folder import DEFAULT_MODEL

    def say(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr, flush=True)

    name = tag or f"{check_team(team)}:latest"
    model = model or DEFAULT_MODEL
    built = build_image(connect(), model, name, wheelhouse=wheelhouse, base=base, cached=cache, say=say)
    print(f"{built.name} {built.identity} {built.size_bytes / 1e6:.0f} MB")


@app.command()
def check(
    image: Annotated[str, typer.Argument(help="Name of the image, such as team:latest.")],
    cases: Annotated[Path, typer.Option(help="Folder of cases; with key 'gts' they are scored too.")],
    rounds: Annotated[str, typer.Option(help="Any of cold, warm, hostile, joined by commas.")] = "cold,warm,hostile",
    time_limit: TimeOption = 900,
    memory: MemoryOption = 8192,
    cpus: Annotated[float | None, typer.Option(min=0.1, help="Cores for a container; all if not given.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything measured here ('-': stdout).")
    ] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with the worst cases here.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Run an image as the challenge does, then as a hostile organiser would: ready, or what to fix."""
    from edge.challenge.submission.check import READY, findings, verdict
    from edge.challenge.submission.container import Limits
    from edge.challenge.submission.engine import connect, find_image
    from edge.challenge.submission.report import (
        Pictures,
        check_report,
        checked_rounds,
        run_in_scratch,
        write_check_page,
    )
    from edge.data.case import find_cases
    from edge.notes import Note
    from edge.reports.report import write_json

    check_reports(html_file, json_file)
    names = checked_rounds(rounds)
    paths = find_cases(cases)
    warn_of_nested(cases, (".npz",), cure="the challenge has one folder")
    client = connect()
    find_image(client, image)
    limits = Limits(memory_mib=memory, cpus=cpus, time_s=time_limit)
    pictures = Pictures(paths)
    trials, notes = [], Notes(quiet=quiet)
    for trial in run_in_scratch(client, image, paths, limits, names, pictures):
        trials.append(trial)
        notes.tell(trial.case, [Note(trial.note)] if trial.note else [])
        if not quiet and json_file != Path("-"):
            print(_line(trial), flush=True)
    notes.close()
    if json_file != Path("-"):
        for finding in findings(trials):
            print(f"fix: {finding.line(path.stem for path in paths)}")
        print(verdict(trials))
    report = check_report(image, trials, limits, names)
    pages = (html_file, lambda file: write_check_page(file, report, pictures))
    fail(write_all([(json_file, lambda file: write_json(file, report)), pages]))
    raise typer.Exit(0 if verdict(trials).startswith(f"{READY}:") else 1)


@app.command()
def pack(
    image: Annotated[str, typer.Argument(help="Name of the image, such as team:latest.")],
    team: TeamOption,
    out: Annotated[Path, typer.Option(help="Folder for <team>.tar.gz.")] = Path(),
) -> None:
    """Write the image as <team>.tar.gz, which `docker load` accepts; prints path, size and SHA-256."""
    from edge.challenge.submission.engine import connect
    from edge.challenge.submission.pack import pack as write

    package = write(connect(), image, team, out)
    print(f"{package.path} {package.size_bytes / 1e6:.0f} MB sha256:{package.sha256}")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The submission, <team>.tar.gz.")],
    case: Annotated[Path | None, typer.Option(help="Case to run; a small phantom if not given.")] = None,
    time_limit: TimeOption = 900,
    memory: MemoryOption = 8192,
) -> None:
    """Load a submission into the engine and run one case from it as the challenge does."""
    from edge.challenge.submission.check import verdict
    from edge.challenge.submission.container import Limits
    from edge.challenge.submission.engine import connect
    from edge.challenge.submission.pack import describe
    from edge.challenge.submission.report import verify_package

    package = describe(file)
    print(f"{file} {package.size_bytes / 1e6:.0f} MB sha256:{package.sha256}", flush=True)
    trial = verify_package(connect(), package, case, Limits(memory_mib=memory, time_s=time_limit))
    print(_line(trial))
    print(verdict([trial]))
    raise typer.Exit(1 if trial.problem else 0)


def _line(trial: "Trial") -> str:
    """One line of a trial: round, case, what came of it."""
    took = [] if trial.wall_s is None else [f"{trial.wall_s:.2f} s"]
    took += [] if trial.peak_mib is None else [f"peak {trial.peak_mib:.0f} MiB"]
    took += [] if trial.dsc is None else [f"DSC {trial.dsc:.3f}"]
    return f"[{trial.round}] {trial.case}: {', '.join([trial.problem or 'done', *took])}"

"""`samedge doctor`: whether this machine can do it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edge.commands.group import command_app
from edge.commands.options import ModelOption

MARKS = {"ok": "ok  ", "note": "note", "bad": "BAD "}


app = command_app()


@app.command()
def doctor(
    model: ModelOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was found here ('-': stdout).")] = None,
) -> None:
    """Look at CPU, limits, engines, readers, folders, model; segment a phantom. Exit code 1 if predict will fail."""
    from edge.reports.doctor import examine
    from edge.reports.report import now, write_json

    found = []
    for check in examine(model):
        found.append(check)
        if json_file != Path("-"):
            print(f"{MARKS[check.state]}  {check.what}: {check.said}", flush=True)
    bad = any(check.state == "bad" for check in found)
    if json_file is not None:
        write_json(json_file, {"created": now(), "ok": not bad, "checks": [asdict(check) for check in found]})
    raise typer.Exit(1 if bad else 0)

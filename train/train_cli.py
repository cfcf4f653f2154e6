"""`samedge train`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

RECIPES = sorted(path.stem for path in (Path(__file__).parent / "recipes").glob("*.toml"))

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(RECIPES)}, or a .toml file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, over the recipe's.", metavar="[KEY=VALUE]...")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of labelled cases; can be given several times.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    base: Annotated[Path | None, typer.Option(help="Checkpoint to start from; random weights if not given.")] = None,
    val: Annotated[
        Path | None, typer.Option(help="Labelled cases to validate on; a share of the data if not given.")
    ] = None,
    folds: Annotated[
        int, typer.Option(min=0, help="Cross-validate: a run per fold in OUT/fold-0 and so on, and a report; 0: none.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print parameters, data, steps, memory and time; train nothing.")
    ] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[str, typer.Option(help="How many, or auto.")] = "1",
    nodes: Annotated[int, typer.Option(min=1, help="Machines; see Lightning Fabric on how to start each.")] = 1,
) -> None:
    """Fine-tune or train by a recipe; the run folder gets the result, the resolved recipe, records and curves."""
    from edge.errors import RunError
    from edge.report import print_rows

    try:
        from train.cross_validation import cross_validate, table
        from train.run import Outcome
        from train.run import train as run
    except ImportError as error:
        raise RunError(f"samedge train needs {error.name}: pip install 'samedge[train]'") from None

    if not data or (out is None and not dry_run):
        raise typer.BadParameter("--data DIR and --out DIR are needed")
    settings: dict[str, Any] = {
        "base": base,
        "validation": val,
        "resume": resume,
        "overrides": overrides or [],
        "accelerator": accelerator,
        "devices": devices if devices == "auto" else int(devices),
        "nodes": nodes,
        "say": lambda line: print(line, file=sys.stderr, flush=True),
    }
    if folds:
        if dry_run or out is None or val is not None:
            raise typer.BadParameter("--folds needs --out and goes with neither --val nor --dry-run")
        del settings["validation"]
        print_rows(table(cross_validate(recipe, data, out, folds=folds, **settings)))
        print(f"written to {out}")
        return
    result = run(recipe, data, out or Path(), dry_run=dry_run, **settings)
    if isinstance(result, Outcome):
        score = "no validation" if result.dsc is None else f"best validation DSC {result.dsc:.4f}"
        print(f"{result.result}: {result.steps} steps, {score}")
        return
    print(f"parameters   {result.parameters:,} in all, {result.trainable:,} trainable")
    for modality, cases in result.cases.items():
        print(f"{modality:12} {cases} cases, {result.shares[modality]:.1%} of the samples")
    print(f"data         {result.slices} slices prepared, {len(result.left_out)} cases left out as broken")
    if result.samples_per_s is not None:
        print(f"loading      {result.samples_per_s:.0f} samples/s by one process")
    print(f"steps        {result.steps} of {result.samples // max(1, result.steps)} samples")
    if result.step_s is not None and result.memory_mib is not None:
        hours = result.step_s * result.steps / 3600
        print(f"estimate     {result.step_s:.2f} s a step on this CPU, {hours:.1f} h, {result.memory_mib:.0f} MiB")

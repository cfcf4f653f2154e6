"""`samedge train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.commands.group import command_app
from edge.commands.options import located

if TYPE_CHECKING:
    from train.plan import Plan

RECIPES = sorted(path.stem for path in (Path(__file__).parents[1] / "recipes").glob("*.toml"))

ALONE = ("validation", "adapter", "predicted")  # what goes with one run, not with folds

app = command_app()


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(RECIPES)}, or a .toml file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, over the recipe's.", metavar="[KEY=VALUE]...")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of labelled cases, several times if you like; or prepared, also s3://."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    base: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from, or `litemedsam`; random weights if not given.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="Folder of an adapter of BASE to go on from; a fresh one if not given.")
    ] = None,
    val: Annotated[
        Path | None, typer.Option(help="Labelled cases to validate on; a share of the data if not given.")
    ] = None,
    predicted: Annotated[
        Path | None,
        typer.Option(
            help="Label maps of volumes of the data, as `predict --method propagated` made them, to walk from."
        ),
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
    from edge.reports.report import print_rows

    try:
        from lightning_fabric.utilities.rank_zero import rank_zero_only

        from train.records.display import on_stderr
        from train.run import Outcome
        from train.run import train as run
        from train.sam_systems.cross_validation import cross_validate, table
    except ImportError as error:
        raise RunError(f"samedge train needs {error.name or error}: pip install 'samedge[train]'") from None

    if devices != "auto" and not (devices.isdecimal() and int(devices)):
        raise typer.BadParameter(f"--devices must be auto or a number from 1 on, got {devices!r}")
    if not data or (out is None and not dry_run):
        raise typer.BadParameter("--data DIR and --out DIR are needed")
    data, val, predicted = [located(one) for one in data], val and located(val), predicted and located(predicted)
    settings: dict[str, Any] = {
        "base": base,
        "adapter": adapter,
        "validation": val,
        "predicted": predicted,
        "resume": resume,
        "overrides": overrides or [],
        "accelerator": accelerator,
        "devices": devices if devices == "auto" else int(devices),
        "nodes": nodes,
    }
    if folds:
        if dry_run or out is None or any(settings[key] is not None for key in ALONE):
            raise typer.BadParameter(
                "--folds needs --out and goes with neither --val, --adapter, --predicted nor --dry-run"
            )
        settings = {key: value for key, value in settings.items() if key not in ALONE}
        with on_stderr() as (say, advance):
            report = cross_validate(recipe, data, out, folds=folds, say=say, advance=advance, **settings)
        print_rows(table(report))
        print(f"written to {out}")
        return
    with on_stderr() as (say, advance):
        result = run(recipe, data, out or Path(), dry_run=dry_run, say=say, advance=advance, **settings)
    if getattr(rank_zero_only, "rank", 0):  # another process of the same run
        return
    if isinstance(result, Outcome):
        score = "no validation" if result.dsc is None else f"best validation DSC {result.dsc:.4f}"
        print(f"{result.result}: {result.steps} steps, {score}")
        return
    _print_plan(result)


def _print_plan(plan: "Plan") -> None:
    print(f"parameters   {plan.parameters:,} in all, {plan.trainable:,} trainable")
    for modality, cases in plan.cases.items():
        print(f"{modality:12} {cases} cases, {plan.shares[modality]:.1%} of the samples")
    print(f"data         {plan.slices} slices prepared, {len(plan.left_out)} cases left out as broken")
    print(f"steps        {plan.steps} of {plan.samples // max(1, plan.steps)} samples")
    if plan.estimate is None:
        return
    where, estimate = {"cpu": "CPU", "cuda": "GPU"}.get(plan.estimate.device, plan.estimate.device), plan.estimate
    for workers, rate in estimate.samples_per_s.items():
        print(f"loading      {rate:.0f} samples/s by {f'{workers} workers' if workers else 'the process itself'}")
    hours = estimate.step_s * plan.steps / 3600
    print(
        f"estimate     {estimate.step_s:.2f} s a step on this {where}, {hours:.1f} h, {estimate.memory_mib:.0f} MiB; "
        f"scaled from {estimate.samples} samples"
    )

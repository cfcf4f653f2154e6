"""A training run from recipe to result: plan it, prepare the data, train, keep the best."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from edge.data.files import write_whole
from edge.data.table import format_table, number_or_blank
from edge.errors import RunError
from edge.system.home import home, lend_home
from edge.system.machine import has_fast_bf16
from train.data.folds import Fold
from train.loop import StepReport, fit
from train.networks import weights
from train.networks.adapter import load_adapter, save_adapter, state_hash
from train.networks.build import Network, build_network, load_base, public_state
from train.networks.checkpoint import read_checkpoint, save_atomically
from train.networks.convolutions import keep_clear_of_cudnn
from train.networks.litemedsam import LiteMedSAM
from train.networks.parts import choose_trainable, compile_blocks, lora_options, start_evenly, trained_beside_adapters
from train.plan import Plan, make_plan, timed
from train.recipe import Recipe, load_recipe
from train.records.display import Advance, Say, lines, silent
from train.records.records import check_wandb
from train.records.start import RUN, check_same, write_start
from train.records.state import LAST
from train.sam_systems.network import SamOptions
from train.tasks.build import make_task
from train.threads import keep_to_available_cores
from train.validation import Validation

BEST, ADAPTER, BASE, BEST_CASES = "best.pth", "adapter", "base.pth", "best_cases.csv"


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    plan: Plan
    steps: int  # done in all, earlier parts of a resumed run included
    dsc: float | None  # best validation; None without validation
    result: Path  # the best weights: a checkpoint in the public layout, or an adapter folder


def train(
    recipe: str,
    data: Sequence[Path],
    out: Path,
    *,
    base: Path | None = None,
    adapter: Path | None = None,
    validation: Path | None = None,
    predicted: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    overrides: Sequence[str] = (),
    accelerator: str = "auto",
    devices: int | str = 1,
    nodes: int = 1,
    cache: Path | None = None,
    fold: Fold | None = None,
    say: Say = silent,
    advance: Advance | None = None,
) -> Plan | Outcome:
    """Run a recipe.

    Args:
        recipe: a name in `train/recipes`, or a `.toml` file.
        data: folders of labelled cases.
        out: folder of the run; made if missing.
        base: checkpoint to start from, a file or a name that `train.networks.weights` knows; None: random weights.
        adapter: folder of an adapter of `base` to go on from; None: a fresh one.
        validation: folder of labelled cases; None: the recipe's `hold_out` share of `data`.
        predicted: folder of the label maps that a model found in volumes of `data`, see `train.data.walks`; None: none.
        resume: go on from `out`'s last checkpoint; a run killed before its first starts again.
        dry_run: only plan, with one small step timed; nothing is written but prepared data.
        overrides: `key=value` for the recipe.
        devices: how many, or `auto` for all there are; several run as as many processes.
        cache: where prepared data lies; None: below SAMEDGE_HOME.
        fold: which images or subjects train and which validate; None: by `validation` or `hold_out`.
        say: takes each line to be shown.
        advance: takes how far each work is; None: `say` is, now and then.

    Raises:
        RunError: the recipe, an override, the output folder or the machine stands in the way.
        CaseError: no usable data.
        ModelError: base or adapter do not fit.
    """
    settings = load_recipe(recipe, overrides)
    check_wandb(settings)
    base = base and weights.resolve(base)
    cache = cache or home() / "training"
    lend_home()
    if base is None and settings.trainable != "all":
        if settings.network == "litemedsam":
            raise RunError(f"{recipe} adapts a trained network: give its checkpoint with --base")
        say("no --base: what does not train stays random; good for a trial, not for a result")
    if not dry_run and not resume and (out / RUN).exists():
        raise RunError(f"{out}: holds a run already; go on with --resume, or give another folder")
    if adapter is not None and not settings.trainable.startswith("lora"):
        raise RunError(f"--adapter goes on from an adapter, and trainable={settings.trainable} has none")
    goes_on = resume and ((out / LAST).exists() or not (out / RUN).exists())
    precision = _precision(settings, accelerator)
    fabric = _fabric(settings, precision, accelerator, devices, nodes)
    advance = advance or lines(say)
    if not fabric.is_global_zero:
        say = advance = silent
    if precision != settings.precision:
        say(f"precision: {precision}, as this CPU is no faster in {settings.precision}")
    with fabric.rank_zero_first():
        task = make_task(settings, data, validation, cache, fold, say, advance, predicted)
    settings = replace(settings, epoch_samples=settings.epoch_samples or task.facts.slices)
    network, base_hash = _network(settings, base, None if dry_run or goes_on else out / BASE)
    started = {"base": base_hash, "adapter": None, "data": task.facts.sha256}
    if adapter is not None:
        started["adapter"] = load_adapter(network, adapter, lora_options(settings), base_hash)
    plan = make_plan(settings, network, task.facts, fabric.world_size)
    if dry_run:
        return timed(plan, settings, network, task, fabric)
    network.to(fabric.device)
    if fabric.device.type == "cuda" and isinstance(network, LiteMedSAM):
        keep_clear_of_cudnn()
    if resume:
        check_same(out, settings, plan, started)
        fabric.barrier()  # until every process has read what the first one may write again
    if fabric.is_global_zero and not goes_on:
        write_start(out, settings, plan, started, base)
    if settings.compile:
        compile_blocks(network.image_encoder)

    def keep(best: Network, validation: Validation | None) -> None:
        _keep(out, best, settings, base_hash)
        if validation is not None:
            write_cases(out / BEST_CASES, validation)

    def report(step: StepReport) -> None:
        advance("training", step.step, step.steps, _note(step))

    progress = fit(fabric, network, settings, task, out, keep=keep, resume=goes_on, report=report)
    result = out / (ADAPTER if settings.trainable.startswith("lora") else BEST)
    return Outcome(plan, progress.step, progress.best if task.validates else None, result)


def sam_options(recipe: Recipe) -> SamOptions:
    """The network around the public part that a recipe describes."""
    return SamOptions(recipe.image_size, recipe.encoder_blocks, recipe.channels, recipe.head)


def _precision(recipe: Recipe, accelerator: str) -> str:
    """What is computed in: the recipe's, but float32 in place of bfloat16 on a CPU that is no faster in that."""
    on_cpu = accelerator == "cpu" or not torch.accelerator.is_available()
    slower = on_cpu and recipe.precision.startswith("bf16") and not has_fast_bf16()
    return "32-true" if slower else recipe.precision


def _fabric(recipe: Recipe, precision: str, accelerator: str, devices: int | str, nodes: int) -> Fabric:
    several = nodes > 1 or devices not in (1, "1")
    # without prompts some of what trains has no gradient, and processes would wait for it
    strategy = "ddp" if recipe.network == "litemedsam" else "ddp_find_unused_parameters_true"
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy if several else "auto",
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    keep_to_available_cores()
    return fabric


def _network(recipe: Recipe, base: Path | None, kept: Path | None) -> tuple[Network, str]:
    """The network with its adapters, and the hash of what it started from.

    Args:
        kept: where random weights go that adapters belong to, as the base to merge them into; None: nowhere.
    """
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network, sam_options(recipe))
    if base is None:
        start_evenly(network)
        state = public_state(network)
        if kept is not None and recipe.trainable.startswith("lora"):
            save_atomically(state, kept)
    else:
        state = read_checkpoint(base)
        load_base(network, state, str(base))
    base_hash = state_hash(state)
    torch.manual_seed(recipe.seed)  # of the adapters' first numbers
    choose_trainable(network, recipe)
    return network, base_hash


def write_cases(path: Path, validation: Validation) -> None:
    """A CSV row per validated case: name, group, scores to 4 decimals (NaN empty)."""
    names = list(validation.means())
    lines = [["case", "group", *names]]
    for row in validation.rows:
        values = [row.scores.get(name, float("nan")) for name in names]
        lines.append([row.name, row.group, *(number_or_blank(value, 4) for value in values)])
    write_whole(path, format_table(lines))


def _keep(out: Path, network: Network, recipe: Recipe, base_hash: str) -> None:
    if recipe.trainable.startswith("lora"):
        fresh = out / f".{ADAPTER}.partial"
        save_adapter(
            fresh, network, lora_options(recipe), base_hash, trained_beside_adapters(network), adapter_facts(recipe)
        )
        shutil.rmtree(out / ADAPTER, ignore_errors=True)
        fresh.replace(out / ADAPTER)
    else:
        state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
        save_atomically(state, out / BEST)


def adapter_facts(recipe: Recipe) -> dict[str, Any]:
    """What putting the network together and feeding it needs besides weights."""
    keys = ("network", "image_size", "encoder_blocks", "head", "channels", "normalisation", "prompt")
    return {key: getattr(recipe, key) for key in (keys if recipe.network != "litemedsam" else keys[:1])}


def _note(step: StepReport) -> str:
    gpu = "" if step.gpu_mib is None else f", GPU {step.gpu_mib:.0f} MiB"
    busy = "" if step.gpu_percent is None else f", {step.gpu_percent} % busy"
    return f"loss {step.loss:.4f}, lr {step.lr:.2e}, {step.samples_per_s:.1f} samples/s{gpu}{busy}"

"""A training run from recipe to result: plan it, prepare the data, train, keep the best."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from edge.case import Case, modality_of
from edge.errors import RunError
from edge.home import home
from edge.machine import describe_machine
from train.cache import Cache, CacheOptions, prepare_cache
from train.checkpoint import load_weights, read_checkpoint, save_atomically
from train.data import dataset_of, find_sources
from train.ellipses import learn_ellipses
from train.loop import StepReport, fit, sample_options
from train.lora import save_adapter, state_hash
from train.network import LiteMedSAM
from train.parts import (
    choose_trainable,
    lora_options,
    start_from_nothing,
    trained_beside_adapters,
)
from train.plan import Plan, make_plan, timed
from train.recipe import Recipe, load_recipe, to_toml
from train.sampler import Draws
from train.samples import Samples
from train.validate import read_validation

RECIPE, RUN, BEST, ADAPTER = "recipe.toml", "run.json", "best.pth", "adapter"


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
    validation: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    overrides: Sequence[str] = (),
    accelerator: str = "auto",
    devices: int | str = 1,
    nodes: int = 1,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Plan | Outcome:
    """Run a recipe.

    Args:
        recipe: a name in `train/recipes`, or a `.toml` file.
        data: folders of labelled cases.
        out: folder of the run; made if missing.
        base: checkpoint to start from; None: random weights.
        validation: folder of labelled cases; None: the recipe's `hold_out` share of `data`.
        resume: go on from `out`'s last checkpoint.
        dry_run: only plan, with one step timed; nothing is written but the data cache.
        overrides: `key=value` for the recipe.
        devices: how many, or `auto` for all there are; several run as as many processes.
        cache: where prepared data lies; None: below SAMEDGE_HOME.
        say: takes each line of progress.

    Raises:
        RunError: the recipe, an override, the output folder or the machine stands in the way.
        CaseError: no usable data.
        ModelError: the base does not fit.
    """
    settings = load_recipe(recipe, overrides)
    if settings.trainable != "all" and base is None:
        raise RunError(f"{recipe} adapts a trained network: give its checkpoint with --base")
    if not dry_run and not resume and (out / RUN).exists():
        raise RunError(f"{out}: holds a run already; go on with --resume, or give another folder")
    fabric = _fabric(settings, accelerator, devices, nodes)
    network, base_hash = _network(settings, base)
    with fabric.rank_zero_first():
        prepared, cases = _data(settings, data, validation, cache, say)
    draws = Draws(prepared.entries, _modalities(prepared), settings.sampling, settings.shares, seed=settings.seed)
    plan = make_plan(settings, network, prepared, draws, fabric.world_size)
    if dry_run:
        return timed(plan, settings, network, Samples(prepared, draws, sample_options(settings), epoch=0))
    network.to(fabric.device)
    if resume:
        _check_same(out, base_hash, prepared)
    else:
        if fabric.is_global_zero:
            _start_folder(out, settings, plan, prepared, base_hash)
        learn_ellipses(network, settings, say)
    if settings.compile:
        network.image_encoder.compile()

    def keep(best: LiteMedSAM) -> None:
        _keep(out, best, settings, base_hash)

    def report(step: StepReport) -> None:
        if fabric.is_global_zero:
            say(_line(step))

    progress = fit(fabric, network, settings, prepared, draws, cases, out, keep=keep, resume=resume, report=report)
    result = out / (ADAPTER if settings.trainable.startswith("lora") else BEST)
    return Outcome(plan, progress.step, progress.best if cases else None, result)


def _fabric(recipe: Recipe, accelerator: str, devices: int | str, nodes: int) -> Fabric:
    several = nodes > 1 or devices not in (1, "1")
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if several else "auto",
        precision=recipe.precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _network(recipe: Recipe, base: Path | None) -> tuple[LiteMedSAM, str]:
    """The network with its adapters, and the hash of what it started from."""
    network = LiteMedSAM()
    if base is None:
        start_from_nothing(network, recipe.seed)
    else:
        load_weights(network, read_checkpoint(base), str(base))
    base_hash = state_hash(network.state_dict())
    torch.manual_seed(recipe.seed)  # of the adapters' first numbers
    choose_trainable(network, recipe)
    return network, base_hash


def _data(
    recipe: Recipe, data: Sequence[Path], validation: Path | None, cache: Path | None, say: Callable[[str], None]
) -> tuple[Cache, list[Case]]:
    options = CacheOptions(recipe.cache_px, recipe.slices_per_volume)
    prepared = prepare_cache(
        data,
        cache or home() / "training",
        options,
        leave_out=_left_out(recipe, data),
        progress=lambda done, total: say(f"preparing data: {done} of {total}") if done % 10 == 0 else None,
    )
    for line in prepared.broken:
        say(f"left out: {line}")
    wanted = recipe.validation_cases
    if validation is not None:
        return prepared, read_validation(find_sources([validation]), wanted, recipe.validation_slices) if wanted else []
    kept, held = prepared.split(recipe.hold_out if wanted else 0.0)
    sources = {source.stem: source for source in find_sources(data)}
    chosen = [sources[name] for name in held]
    return kept, read_validation(chosen, wanted, recipe.validation_slices) if wanted else []


def _left_out(recipe: Recipe, data: Sequence[Path]) -> set[str]:
    """Data sets that are not taken.

    Raises:
        RunError: a name in `only` or `leave_out` that no case has.
    """
    present = {dataset_of(source.stem) for source in find_sources(data)}
    for key, names in (("only", recipe.only), ("leave_out", recipe.leave_out)):
        if unknown := sorted(set(names) - present):
            raise RunError(f"{key}: no case of {', '.join(unknown)}; there are {', '.join(sorted(present))}")
    return set(recipe.leave_out) | (present - set(recipe.only) if recipe.only else set())


def _modalities(cache: Cache) -> list[str]:
    return [modality_of(entry.case) for entry in cache.entries]


def _start_folder(out: Path, recipe: Recipe, plan: Plan, cache: Cache, base_hash: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / RECIPE).write_text(to_toml(recipe), encoding="utf-8")
        facts: dict[str, Any] = {
            "seed": recipe.seed,
            "base_sha256": base_hash,
            "data_sha256": cache.content_hash,
            "machine": describe_machine(),
            "torch": torch.__version__,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "plan": asdict(plan),
        }
        (out / RUN).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from None


def _check_same(out: Path, base_hash: str, cache: Cache) -> None:
    try:
        facts = json.loads((out / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{out / RUN}: not a run to resume ({error})") from None
    for what, key, found in (("base", "base_sha256", base_hash), ("data", "data_sha256", cache.content_hash)):
        if facts.get(key) != found:
            raise RunError(f"{out}: the run began with other {what}; resume with the same, or start in another folder")


def _keep(out: Path, network: LiteMedSAM, recipe: Recipe, base_hash: str) -> None:
    if recipe.trainable.startswith("lora"):
        fresh = out / f".{ADAPTER}.partial"
        save_adapter(fresh, network, lora_options(recipe), base_hash, trained_beside_adapters(network))
        shutil.rmtree(out / ADAPTER, ignore_errors=True)
        fresh.replace(out / ADAPTER)
    else:
        state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
        save_atomically(state, out / BEST)


def _line(step: StepReport) -> str:
    gpu = "" if step.gpu_mib is None else f", GPU {step.gpu_mib:.0f} MiB"
    return (
        f"step {step.step} of {step.steps}: loss {step.loss:.4f}, lr {step.lr:.2e}, "
        f"{step.samples_per_s:.1f} samples/s{gpu}"
    )

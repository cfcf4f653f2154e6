"""What a run began with, written into its folder, and held up to what is to go on there."""

import json
from collections.abc import Collection
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from edge.data.files import file_hash, read_json
from edge.errors import RunError
from edge.system.machine import describe_machine
from train.networks import weights
from train.plan import Plan
from train.recipe import Recipe, load_recipe, spell_value, to_toml

RECIPE, RUN = "recipe.toml", "run.json"
BASE_FILE = "base_file_sha256"  # key of RUN: of the checkpoint that was given; null: none was
HOW = {"compile", "precision", "save_every", "wandb", "workers"}  # of a recipe: how it runs, whatever that comes to
MAY_CHANGE = HOW | {  # when a run is resumed: what is measured, how long it goes on
    "early_stop", "epochs", "max_steps", "validate_at_start", "validate_every", "validation_cases",
}  # fmt: skip
# whose versions are said in RUN, beside those of edge
PACKAGES = ("torch", "lightning-fabric", "peft", "monai", "safetensors", "segment-anything")


def write_start(out: Path, recipe: Recipe, plan: Plan, started: dict[str, str | None], base: Path | None) -> None:
    """Write a run's recipe and what it starts from into its folder.

    Args:
        started: what the run starts from -> its hash.
        base: the checkpoint that was given; None: random weights.

    Raises:
        RunError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / RECIPE).write_text(to_toml(recipe), encoding="utf-8")
        content: dict[str, Any] = {
            "seed": recipe.seed,
            **{f"{what}_sha256": sha256 for what, sha256 in started.items()},
            "machine": describe_machine(),
            "packages": {name: metadata.version(name) for name in PACKAGES},
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "plan": asdict(plan),
            BASE_FILE: base and file_hash(base),
        }
        (out / RUN).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from None


def check_same(out: Path, settings: Recipe, plan: Plan, started: dict[str, str | None]) -> None:
    """Whether a run that is to go on is this one.

    Raises:
        RunError: `out` holds no run, or one that started from something else or on other devices, or see
            `check_recipe`.
    """
    try:
        content = json.loads((out / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{out / RUN}: not a run to resume ({error})") from None
    for what, sha256 in started.items():
        if content.get(f"{what}_sha256") != sha256:
            raise RunError(f"{out}: the run began with other {what}; resume with the same, or start in another folder")
    check_recipe(out, settings, MAY_CHANGE)
    before, now = (facts["samples"] // facts["steps"] for facts in (content["plan"], asdict(plan)))
    if before != now:
        raise RunError(f"{out}: the run began with {before} samples a step, not {now}; resume with as many --devices")


def check_base(out: Path, base: Path | None) -> None:
    """Whether a run began from this checkpoint, a file or a name; None: from random weights.

    Raises:
        RunError: it did not, or there is no such checkpoint.
    """
    try:
        content = read_json(out / RUN)
        if base is not None and not (base := weights.resolve(base)).is_file():
            raise RunError(f"{base}: no such checkpoint")
        if BASE_FILE in content and content[BASE_FILE] != (base and _hash(base, base.stat().st_mtime_ns)):
            raise RunError(f"{out}: the run began with other base; resume with the same, or start in another folder")
    except FileNotFoundError:  # stopped before it was written
        return
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{out / RUN}: not a run to go on with ({error})") from None


@cache
def _hash(path: Path, _changed: int) -> str:
    return file_hash(path)


def check_recipe(out: Path, recipe: Recipe, may_change: Collection[str]) -> None:
    """Whether a run is of this recipe but for some of its keys.

    Raises:
        RunError: it is not; which key differs.
    """
    before, now = asdict(load_recipe(str(out / RECIPE))), asdict(recipe)
    now["epoch_samples"] = now["epoch_samples"] or before["epoch_samples"]  # 0: as many as there are slices
    for key in sorted(before.keys() - may_change):
        if before[key] != now[key]:
            raise RunError(
                f"{out}: the run began with {key}={spell_value(before[key])}, not {spell_value(now[key])}; resume with "
                "the same, or start in another folder"
            )

"""The learning rate at each step."""

import math
from typing import Any

from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from train.recipe import Recipe


class Schedule:
    """Warm-up times the recipe's curve; with `plateau` the peak shrinks whenever validation stands still.

    A LambdaLR, for torch's own cosines cannot be multiplied by a warm-up; SequentialLR would shift them behind it.
    """

    def __init__(self, optimizer: Any, recipe: Recipe, steps: int, epoch_steps: int = 1) -> None:
        """Args: steps: of the whole run; epoch_steps: of one epoch."""
        plain = getattr(optimizer, "optimizer", optimizer)  # Fabric's wrapper is not an Optimizer to torch
        self._optimizer, self._listens, self._steps = plain, recipe.schedule == "plateau", steps
        self._rate = LambdaLR(plain, lambda step: part_of_peak(recipe, step, steps, epoch_steps))
        self._plateau = ReduceLROnPlateau(plain, factor=recipe.plateau_factor, patience=recipe.plateau_patience)

    @property
    def lr(self) -> float:
        """As it is now, where a group's share is 1."""
        group = self._optimizer.param_groups[0]
        return group["lr"] / group["lr_share"]

    def step(self) -> None:
        """Go on to the next step's rate."""
        self._rate.step()

    def take_error(self, error: float) -> None:
        """Take a validation's error in; only `plateau` listens."""
        if not self._listens:
            return
        groups, peaks = self._optimizer.param_groups, self._rate.base_lrs
        parts = [group["lr"] / peak for group, peak in zip(groups, peaks, strict=True)]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak  # warm-up or not, it is the peak that shrinks
        self._plateau.step(error)
        self._rate.base_lrs = [group["lr"] for group in groups]
        for group, part in zip(groups, parts, strict=True):
            group["lr"] *= part

    def state(self) -> dict[str, Any]:
        return {"rate": self._rate.state_dict(), "plateau": self._plateau.state_dict(), "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; the rate of the next step is the optimiser's own to restore, or of a longer run its."""
        self._rate.load_state_dict(state["rate"])
        self._plateau.load_state_dict(state["plateau"])
        if state.get("steps", self._steps) != self._steps:
            for group, peak, part in zip(
                self._optimizer.param_groups, self._rate.base_lrs, self._rate.lr_lambdas, strict=True
            ):
                group["lr"] = peak * part(self._rate.last_epoch)


def part_of_peak(recipe: Recipe, step: int, steps: int, epoch_steps: int) -> float:
    """The part of the peak rate, 0 to 1, at a step counted from 0."""
    warm = min(1.0, (step + 1) / (recipe.warmup_steps + 1))
    if recipe.schedule == "cosine":
        return warm * _cosine(step / steps)
    if recipe.schedule == "step":
        return warm * recipe.step_factor ** (step // (recipe.step_epochs * epoch_steps))
    if recipe.schedule == "restarts":
        length = recipe.restart_epochs * epoch_steps
        while step >= length:
            step, length = step - length, length * recipe.restart_growth
        return warm * _cosine(step / length)
    return warm


def _cosine(way: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * way))

"""The learning rate at each step."""

import math
from collections.abc import Callable
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

from train.recipe import Recipe


class Schedule:
    """Warm-up times one of SHARES, or smaller whenever validation stands still."""

    def __init__(self, optimizer: Any, recipe: Recipe, steps: int, epoch_steps: int = 1) -> None:
        """Args: steps: of the whole run; epoch_steps: of one epoch."""
        self._optimizer, self._recipe, self._steps, self._epoch_steps = optimizer, recipe, steps, epoch_steps
        plain = getattr(optimizer, "optimizer", optimizer)  # Fabric's wrapper is not an Optimizer to torch
        self._plateau = ReduceLROnPlateau(plain, factor=recipe.plateau_factor, patience=recipe.plateau_patience)
        self._peak = recipe.lr

    @property
    def lr(self) -> float:
        """As it is now, where a group's share is 1."""
        group = self._optimizer.param_groups[0]
        return group["lr"] / group["lr_share"]

    def set(self, step: int) -> None:
        """Set the rate of a step, counted from 0."""
        share = min(1.0, (step + 1) / (self._recipe.warmup_steps + 1))
        if self._recipe.schedule in SHARES:
            share *= SHARES[self._recipe.schedule](self._recipe, step, self._steps, self._epoch_steps)
        self._write(self._peak * share)

    def take_error(self, error: float) -> None:
        """Take a validation's error in; only `plateau` listens."""
        if self._recipe.schedule == "plateau":
            self._write(self._peak)
            self._plateau.step(error)
            self._peak = self.lr

    def state(self) -> dict[str, Any]:
        return {"plateau": self._plateau.state_dict(), "peak": self._peak}

    def restore(self, state: dict[str, Any]) -> None:
        self._plateau.load_state_dict(state["plateau"])
        self._peak = state["peak"]

    def _write(self, lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["lr_share"]


def _cosine(_recipe: Recipe, step: int, steps: int, _epoch_steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _step(recipe: Recipe, step: int, _steps: int, epoch_steps: int) -> float:
    return recipe.step_factor ** (step // (recipe.step_epochs * epoch_steps))


def _restarts(recipe: Recipe, step: int, _steps: int, epoch_steps: int) -> float:
    length = recipe.restart_epochs * epoch_steps
    while step >= length:
        step, length = step - length, length * recipe.restart_growth
    return 0.5 * (1 + math.cos(math.pi * step / length))


# schedule -> part of the peak rate: from recipe, step from 0, steps in all, steps of an epoch; others keep the peak
SHARES: dict[str, Callable[[Recipe, int, int, int], float]] = {
    "cosine": _cosine,
    "step": _step,
    "restarts": _restarts,
}

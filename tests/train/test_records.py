"""A run's records: rows that follow the checkpoint, and a twin at Weights & Biases where it is asked for."""

import csv
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edge.errors import RunError
from train.recipe import Recipe
from train.records.records import Records, check_wandb
from train.validation import Validation


class Twin:
    """What `wandb.init` gives, as far as it is used; a fake, as a real one needs an account."""

    def __init__(self, **settings: Any) -> None:
        self.settings, self.rows = settings, []
        self.id = settings["id"] or "abc123"

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axis = (name, step_metric)

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> list[Twin]:
    """The runs that were begun at Weights & Biases, in order."""
    begun: list[Twin] = []
    module = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)
    module.init = lambda **settings: begun.append(Twin(**settings)) or begun[-1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return begun


def test_weights_and_biases_gets_losses_and_scores_and_a_resumed_run_goes_on(tmp_path: Path, twins: list[Twin]) -> None:
    """Over our own steps, in the project that the recipe names; the second time with the first one's id."""
    recipe = Recipe(wandb="trials")
    records = Records(tmp_path, 0, recipe)
    records.loss(1, 0.5, 1e-3)
    records.validation(1, Validation(0.7, {"CT": 0.7}, 1))
    Records(tmp_path, 1, recipe).loss(2, 0.25, 1e-3)
    first, second = twins
    assert first.settings["project"] == "trials" and first.settings["config"]["wandb"] == "trials"
    assert first.axis == ("*", "step")
    assert first.rows == [
        {"step": 1, "loss": 0.5, "lr": 1e-3},
        {"step": 1, "dsc/mean": 0.7},
        {"step": 1, "dsc/CT": 0.7},
    ]
    assert (first.settings["id"], second.settings["id"], second.settings["resume"]) == (None, "abc123", "allow")
    assert second.rows == [{"step": 2, "loss": 0.25, "lr": 1e-3}]


def test_nothing_goes_there_unless_it_is_asked_for(tmp_path: Path, twins: list[Twin]) -> None:
    """Installed is not asked for."""
    Records(tmp_path, 0, Recipe()).loss(1, 0.5, 1e-3)
    assert twins == []


def test_asked_for_without_its_package_is_one_line_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_wandb(Recipe())
    with pytest.raises(RunError, match="wandb=trials needs a package: pip install wandb"):
        check_wandb(Recipe(wandb="trials"))


def test_rows_from_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    """Killed after step 3, resumed from step 2."""
    records = Records(tmp_path, 0, Recipe())
    for step in (1, 2, 3):
        records.loss(step, 1 / step, 1e-3)
    Records(tmp_path, 2, Recipe())
    with (tmp_path / "losses.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]

"""The learning rate at each step, worked out by hand."""

import pytest
import torch

from train.networks.litemedsam import LiteMedSAM
from train.networks.parts import choose_trainable, parameter_groups
from train.recipe import Recipe, load_recipe
from train.schedule import Schedule


def optimizer() -> torch.optim.SGD:
    groups = [{"params": [torch.zeros(1)], "lr_share": share} for share in (1.0, 0.25)]
    return torch.optim.SGD(groups, lr=1.0)


def test_warm_up_rises_evenly_and_shares_are_kept() -> None:
    """Three warm-up steps to a rate of 1: 1/4, 2/4, 3/4, then 1; a group of share 0.25 has a quarter of it."""
    steps = optimizer()
    schedule = Schedule(steps, Recipe(lr=1.0, warmup_steps=3, schedule="constant"), steps=10)
    rates = []
    for step in range(5):
        schedule.set(step)
        rates.append(schedule.lr)
        assert steps.param_groups[1]["lr"] == pytest.approx(schedule.lr / 4)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_cosine_is_half_at_half_time_and_goes_to_nothing() -> None:
    """Steps 0, 5 and 10 of 10."""
    schedule = Schedule(optimizer(), Recipe(lr=2.0, schedule="cosine"), steps=10)
    rates = []
    for step in (0, 5, 10):
        schedule.set(step)
        rates.append(schedule.lr)
    assert rates == pytest.approx([2, 1, 0])


def rates(recipe: Recipe, steps: range, epoch_steps: int) -> list[float]:
    schedule = Schedule(optimizer(), recipe, steps=1000, epoch_steps=epoch_steps)
    found = []
    for step in steps:
        schedule.set(step)
        found.append(schedule.lr)
    return found


def test_steps_halve_after_ten_epochs_and_warm_up_is_kept() -> None:
    """Epochs of 2 steps: 1 until step 19, 0.5 until 39, 0.25; with 3 warm-up steps 1/4 at first."""
    recipe = Recipe(lr=1.0, schedule="step", step_epochs=10, step_factor=0.5)
    assert rates(recipe, range(0, 60, 19), 2) == pytest.approx([1, 1, 0.5, 0.25])
    assert rates(Recipe(lr=1.0, schedule="step", warmup_steps=3), range(1), 2) == pytest.approx([0.25])


def test_restarts_begin_anew_and_grow() -> None:
    """A first cosine of 2 epochs of 2 steps, the next twice as long: peaks at steps 0, 4 and 12, halves at 2 and 8."""
    recipe = Recipe(lr=1.0, schedule="restarts", restart_epochs=2, restart_growth=2)
    found = rates(recipe, range(13), 2)
    assert [found[step] for step in (0, 4, 12)] == pytest.approx([1, 1, 1])
    assert [found[step] for step in (2, 8)] == pytest.approx([0.5, 0.5])
    assert found[3] < 0.2 and found[11] < 0.1


def test_plateau_shrinks_after_patience_and_survives_a_restore() -> None:
    """Factor 0.9, patience 1: the second validation without improvement shrinks the rate, warm-up or not."""
    recipe = Recipe(lr=1.0, schedule="plateau", plateau_patience=1)
    first, second = Schedule(optimizer(), recipe, 100), Schedule(optimizer(), recipe, 100)
    for error in (0.5, 0.5):
        first.take_error(error)
    assert first.lr == pytest.approx(1)
    second.restore(first.state())
    for schedule in (first, second):
        schedule.take_error(0.5)
        schedule.set(50)
        assert schedule.lr == pytest.approx(0.9)


def test_the_decoder_learns_at_its_share_and_biases_do_not_decay() -> None:
    """Every parameter is in exactly one of the four groups."""
    network = LiteMedSAM()
    groups = parameter_groups(network, Recipe(trainable="all", decoder_lr_share=0.25, weight_decay=0.02))
    assert sorted((group["lr_share"], group["weight_decay"]) for group in groups) == [
        (0.25, 0),
        (0.25, 0.02),
        (1, 0),
        (1, 0.02),
    ]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    encoder = {id(parameter) for parameter in network.image_encoder.parameters()}
    assert all((id(p) in encoder) == (group["lr_share"] == 1) for group in groups for p in group["params"])


def test_adapters_learn_at_the_full_rate_and_what_trains_beside_them_at_the_decoders() -> None:
    """Of the encoder too."""
    recipe, network = load_recipe("litemedsam-lora", ["lora_rank=4"]), LiteMedSAM()
    choose_trainable(network, recipe)
    full = {id(p) for group in parameter_groups(network, recipe) if group["lr_share"] == 1 for p in group["params"]}
    shared = {id(p) for group in parameter_groups(network, recipe) if group["lr_share"] == 0.4 for p in group["params"]}
    trained = [(name, id(p)) for name, p in network.named_parameters() if p.requires_grad]
    assert full == {key for name, key in trained if ".lora_" in name}
    assert shared == {key for name, key in trained if ".lora_" not in name} and shared

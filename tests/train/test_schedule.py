"""The learning rate at each step, worked out by hand."""

import pytest
import torch

from train.networks.litemedsam import LiteMedSAM
from train.networks.parts import choose_trainable, parameter_groups
from train.optimisation.schedule import Schedule
from train.recipe import Recipe, load_recipe


def optimizer(peak: float = 1.0) -> torch.optim.SGD:
    groups = [{"params": [torch.zeros(1)], "lr": peak * share, "lr_share": share} for share in (1.0, 0.25)]
    return torch.optim.SGD(groups)


def rates(recipe: Recipe, count: int, epoch_steps: int = 1, steps: int = 1000) -> list[float]:
    """The rates of the first `count` steps; a group of share 0.25 always has a quarter."""
    optimiser = optimizer(recipe.lr)
    schedule = Schedule(optimiser, recipe, steps, epoch_steps)
    found = []
    for _ in range(count):
        found.append(schedule.lr)
        assert optimiser.param_groups[1]["lr"] == pytest.approx(schedule.lr / 4)
        optimiser.step()
        schedule.step()
    return found


def test_warm_up_rises_evenly() -> None:
    """Three warm-up steps to a rate of 1: 1/4, 2/4, 3/4, then 1."""
    assert rates(Recipe(lr=1.0, warmup_steps=3, schedule="constant"), 5) == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_cosine_is_half_at_half_time_and_goes_to_nothing() -> None:
    """Steps 0, 5 and 10 of 10."""
    found = rates(Recipe(lr=2.0, schedule="cosine"), 11, steps=10)
    assert [found[step] for step in (0, 5, 10)] == pytest.approx([2, 1, 0])


def test_steps_halve_after_ten_epochs_and_warm_up_is_kept() -> None:
    """Epochs of 2 steps: 1 until step 19, 0.5 until 39, 0.25; with 3 warm-up steps 1/4 at first."""
    recipe = Recipe(lr=1.0, schedule="step", step_epochs=10, step_factor=0.5)
    assert rates(recipe, 60, 2)[::19] == pytest.approx([1, 1, 0.5, 0.25])
    assert rates(Recipe(lr=1.0, schedule="step", warmup_steps=3), 1, 2) == pytest.approx([0.25])


def test_restarts_begin_anew_and_grow() -> None:
    """A first cosine of 2 epochs of 2 steps, the next twice as long: peaks at steps 0, 4 and 12, halves at 2 and 8."""
    recipe = Recipe(lr=1.0, schedule="restarts", restart_epochs=2, restart_growth=2)
    found = rates(recipe, 13, 2)
    assert [found[step] for step in (0, 4, 12)] == pytest.approx([1, 1, 1])
    assert [found[step] for step in (2, 8)] == pytest.approx([0.5, 0.5])
    assert found[3] < 0.2 and found[11] < 0.1


def test_plateau_shrinks_after_patience_warm_up_or_not() -> None:
    """Factor 0.9, patience 1: a second validation without improvement shrinks the peak, in the warm-up too."""
    optimiser = optimizer()
    schedule = Schedule(optimiser, Recipe(lr=1.0, schedule="plateau", plateau_patience=1, warmup_steps=1), 100)
    found = []
    for error in (0.5, 0.5, 0.5, 0.5, 0.5):
        schedule.take_error(error)
        found.append(schedule.lr)
    optimiser.step()
    schedule.step()
    assert found == pytest.approx([0.5, 0.5, 0.45, 0.45, 0.405]) and schedule.lr == pytest.approx(0.81)
    assert optimiser.param_groups[1]["lr"] == pytest.approx(0.81 / 4)


@pytest.mark.parametrize("kind", ["plateau", "cosine", "restarts"])
def test_a_restored_schedule_goes_on_to_the_bit(kind: str) -> None:
    """Steps and errors after a restore, and without one, give the same rates."""
    recipe = Recipe(lr=1.0, schedule=kind, plateau_patience=1, warmup_steps=4, restart_epochs=3)
    first = optimizer()
    schedule = Schedule(first, recipe, 20)

    def go_on(optimiser: torch.optim.SGD, schedule: Schedule) -> list[float]:
        found = []
        for _ in range(6):
            optimiser.step()
            schedule.step()
            schedule.take_error(0.5)
            found.append(schedule.lr)
        return found

    go_on(first, schedule)
    second = optimizer()
    restored = Schedule(second, recipe, 20)
    second.load_state_dict(first.state_dict())
    restored.restore(schedule.state())
    assert restored.lr == schedule.lr and go_on(second, restored) == go_on(first, schedule)


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


def test_a_finished_run_that_goes_on_has_the_longer_runs_rate() -> None:
    """Its own last rate is zero, at which nothing would be learnt."""
    recipe = Recipe(lr=1.0, schedule="cosine", warmup_steps=0)
    first, second = optimizer(), optimizer()
    schedule = Schedule(first, recipe, 4)
    for _ in range(4):
        first.step()
        schedule.step()
    assert schedule.lr == pytest.approx(0)
    longer = Schedule(second, recipe, 8)
    second.load_state_dict(first.state_dict())
    longer.restore(schedule.state())
    assert longer.lr == pytest.approx(0.5)  # half of the way

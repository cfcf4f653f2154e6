"""Recipes load, are overridden by type-checked key=value, and say what is wrong."""

from dataclasses import asdict
from pathlib import Path

import pytest

from edge.errors import RunError
from train.recipe import Recipe, load_recipe, recipe_names, to_toml


def test_the_papers_recipe_has_the_papers_numbers() -> None:
    """As printed: shares, jitter, loss, optimiser, schedule, clipping."""
    recipe = load_recipe("litemedsam-lora")
    assert (recipe.trainable, recipe.lora_rank, recipe.lora_targets) == ("lora", 4, ("qkv", "proj", "fc1", "fc2"))
    assert recipe.shares == {"CT": 0.40, "MR": 0.10, "others": 0.50} and recipe.epoch_samples == 100_000
    assert (recipe.jitter_px, recipe.flip, recipe.loss) == (10, 0.5, "dice+focal")
    assert (recipe.lr, recipe.weight_decay, recipe.batch, recipe.epochs) == (5e-5, 0.01, 16, 20)
    assert (recipe.schedule, recipe.plateau_factor, recipe.plateau_patience) == ("plateau", 0.9, 5)
    assert (recipe.clip_value, recipe.precision) == (2, "bf16-mixed")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_survives_being_written_and_read(tmp_path: Path, name: str) -> None:
    """The resolved recipe of a run is a recipe."""
    recipe = load_recipe(name)
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    assert load_recipe(str(tmp_path / "recipe.toml")) == recipe
    (tmp_path / "recipe.toml").write_bytes(b"\xef\xbb\xbf" + to_toml(recipe).replace("\n", "\r\n").encode())
    assert load_recipe(str(tmp_path / "recipe.toml")) == recipe  # as saved by an editor on Windows


def test_overrides_replace_and_keep_their_type() -> None:
    """Numbers, bare words, lists, tables, true and false; a whole number is good enough for a fraction."""
    overrides = ["max_steps=30", "lr=1", "schedule=cosine", 'only=["USGRA"]', "shares={ CT = 1.0 }", "compile=true"]
    recipe = load_recipe("litemedsam-lora", overrides)
    assert (recipe.max_steps, recipe.lr, recipe.schedule, recipe.only) == (30, 1.0, "cosine", ("USGRA",))
    assert recipe.shares == {"CT": 1.0} and recipe.compile is True
    assert type(recipe.lr) is float


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_step=30", "unknown key 'max_step'; the nearest is 'max_steps'"),
        ("learning=1", "unknown key"),
        ("batch=many", "batch must be of type int, got 'many'"),
        ("batch=1.5", "batch must be of type int"),
        ("compile=1", "compile must be of type bool"),
        ("batch=0", "batch must be at least 1"),
        ("schedule=linear", "schedule must be one of constant, cosine, plateau"),
        ("region_px=100", "multiple of 56"),
        ("ema=1.0", "ema must be at least 0 and below 1"),
        ("lr=-1", "lr must be above 0"),
        ("ellipse_steps=1", "ellipse_steps need task boxes and trainable all or decoder"),
        ("batch", "must be key=value"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override: str, message: str) -> None:
    """Key, what came, what was expected."""
    with pytest.raises(RunError, match=message):
        load_recipe("litemedsam-lora", [override])


def test_an_unknown_recipe_names_the_known_ones() -> None:
    """Instead of a missing file."""
    with pytest.raises(RunError, match="litemedsam-base, litemedsam-lora"):
        load_recipe("litemedsam")


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    """TOML's own message, with the path."""
    for content in (b"lr = = 1", b'wandb = "caf\xe9"'):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(RunError, match=r"bad\.toml: cannot be read as a recipe"):
            load_recipe(str(tmp_path / "bad.toml"))
    with pytest.raises(RunError, match=r"bad\.toml: cannot be read as a recipe"):
        load_recipe(str(tmp_path / "bad.toml"))


def test_every_default_is_of_a_type_that_toml_has() -> None:
    """Or an override could never be checked."""
    assert {type(value) for value in asdict(Recipe()).values()} <= {int, float, str, bool, tuple, dict}

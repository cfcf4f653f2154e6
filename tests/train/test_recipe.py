"""Recipes load, are overridden by type-checked key=value, and say what is wrong."""

from dataclasses import asdict
from pathlib import Path

import pytest

from edge.errors import RunError
from train.recipe import FOLDER, Recipe, load_recipe, recipe_names, to_toml


def test_the_papers_adapter_loss_and_shares_are_overrides() -> None:
    """Rank 4 on attention and MLP alone, Dice and focal, CT 0.40, MR 0.10, others 0.50."""
    overrides = [
        "lora_rank=4",
        "lora_alpha=4",
        "trainable=lora",
        "train_beside=[]",
        "loss=dice+focal",
        "loss_weights={}",
    ]
    overrides += ["shares={ CT = 0.40, MR = 0.10, others = 0.50 }"]
    recipe = load_recipe("litemedsam-lora", overrides)
    assert (recipe.trainable, recipe.lora_rank, recipe.lora_targets) == ("lora", 4, ("qkv", "proj", "fc1", "fc2"))
    assert recipe.shares == Recipe().shares and (recipe.loss, recipe.train_beside) == ("dice+focal", ())


def test_the_batch_of_views_is_the_sum_of_views_and_walks() -> None:
    """What the recipe's own head says of a GPU: 200; a batch beside it would be a second truth."""
    gpu = ["views={ 56 = 96, 112 = 40, 224 = 16 }", "walks={ 56 = 36, 112 = 12 }"]
    assert load_recipe("litemedsam-lora").batch == 11 and load_recipe("litemedsam-lora", gpu).batch == 200
    assert all(override.replace("{", "'{").replace("}", "}'") in HEAD for override in gpu)
    with pytest.raises(RunError, match="sum of views and walks; set those instead of batch"):
        load_recipe("litemedsam-lora", ["batch=16"])


HEAD = (FOLDER / "litemedsam-lora.toml").read_text()


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
        ("epochs=many", "epochs: input should be a valid integer, got 'many'"),
        ("only=[1]", "only.0: input should be a valid string, got 1"),
        ("shares={ CT = 'much' }", "shares.CT: input should be a valid number, got 'much'"),
        ("epochs=1.5", "epochs: input should be a valid integer, got 1.5"),
        ("compile=1", "compile: input should be a valid boolean, got 1"),
        ("epochs=0", "epochs: input should be greater than or equal to 1, got 0"),
        (
            "schedule=linear",
            "schedule: input should be 'constant', 'cosine', 'plateau'.* got 'linear'",
        ),
        ("views={ 100 = 1 }", "views: sizes are 56, 112, 224 px, got 100"),
        ("walks={ 56 = 0 }", "walks: counts must be whole numbers from 1 on, got 0"),
        ("task=maps", "task views is litemedsam's"),
        ("ema=1.0", "ema: input should be less than 1, got 1.0"),
        ("warmup_steps=-5", "warmup_steps: input should be greater than or equal to 0, got -5"),
        ("max_steps=-3", "max_steps: input should be greater than or equal to 0, got -3"),
        ("validate_every=-1", "validate_every: input should be greater"),
        ("lora_alpha=0", "lora_alpha: input should be greater than or equal to 1, got 0"),
        ("weight_decay=-1.0", "weight_decay: input should be greater"),
        ("flip=7.0", "flip: input should be less than or equal to 1, got 7"),
        ("plateau_factor=2.0", "plateau_factor: input should be less than 1, got 2"),
        ("precision=foo", "precision: input should be 'bf16-mixed', .* got 'foo'"),
        ("lr=-1", "lr: input should be greater than 0, got -1"),
        ("loss=dice+box-bce", "loss: input should be one of dice"),
        ("epochs", "must be key=value"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override: str, message: str) -> None:
    """Key, what came, what was expected."""
    with pytest.raises(RunError, match=message):
        load_recipe("litemedsam-lora", [override])


def test_short_names_of_precisions_are_fabrics() -> None:
    """As older runs have them in their recipe.toml."""
    for short, whole in (("32", "32-true"), ("bf16", "bf16-mixed"), ("16", "16-mixed")):
        assert load_recipe("litemedsam-lora", [f"precision='{short}'"]).precision == whole


def test_an_unknown_recipe_names_the_known_ones() -> None:
    """Instead of a missing file."""
    with pytest.raises(RunError, match="brats-sam-vit-b, litemedsam-lora, nuinsseg-mobilesam"):
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

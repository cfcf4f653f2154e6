"""Recipes: every number of a training run in one TOML file, overridden by `key=value`, checked by name and type."""

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from edge.errors import RunError
from train.data.sampler import BALANCED_SHARES, POLICIES, Layout
from train.losses import LOSSES
from train.networks.build import NETWORKS
from train.networks.sam import PATCH_PX

FOLDER = Path(__file__).parent / "recipes"
TRAINABLE = ("lora", "lora+decoder", "decoder", "all")
SCHEDULES = ("constant", "cosine", "plateau", "step", "restarts")
OPTIMIZERS = ("adamw", "adam")
TASKS = ("views", "maps", "sequences")
HEADS = ("decoder", "conv")
PROMPTS = ("none", "point", "box", "hybrid")
TARGETS = ("combine_all", "multi_all")  # or a class's number
NORMALISATIONS = ("sam", "medsam", "z-score")
SLICES = ("max", "every-second", "random", "all")


@dataclass(frozen=True)
class Recipe:
    """A training run; the file of the same name in `train/recipes` says what it is for."""

    # network
    network: str = "litemedsam"  # one of networks.NETWORKS
    image_size: int = 1024  # SAM networks: side of the input, px
    encoder_blocks: int = 0  # SAM's ViTs: 0 for all of them, fewer only for trials
    head: str = "decoder"  # SAM networks; "conv": a 1x1 convolution on the embedding instead, no prompts
    channels: int = 1  # of the answer; more than one: multi-mask outputs, background first
    # what trains
    trainable: str = "lora"  # one of TRAINABLE
    lora_rank: int = 4
    lora_alpha: int = 4
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ("qkv", "proj", "fc1", "fc2")  # q, k, v: thirds of a ViT's fused qkv
    lora_blocks: tuple[int, ...] = ()  # of the encoder; empty: all
    lora_decoder_targets: tuple[str, ...] = ()  # of the mask decoder's attentions, such as q_proj
    train_beside: tuple[str, ...] = ()  # parts that train in full beside the adapters: beginnings of parameter names
    # data
    task: str = "views"  # views: cases with box prompts; maps: images and label maps; sequences: MR subjects (NIfTI)
    target: str = "combine_all"  # of maps: any label, multi_all: each label a channel, or one label's number
    normalisation: str = "medsam"  # SAM networks: sam (mean and deviation of its colours), medsam ([0, 1]), z-score
    slices: str = "max"  # of a subject: max (largest tumour area), every-second, random, all
    split_instances: bool = False  # validation: cut touching instances by a watershed
    stratify: bool = False  # folds: the same share of every organ in each
    leave_out: tuple[str, ...] = ()  # data sets, the third word of a case's name
    only: tuple[str, ...] = ()  # data sets; empty: all
    # sampling
    sampling: str = "balanced"  # one of sampler.POLICIES
    shares: dict[str, float] = field(default_factory=lambda: dict(BALANCED_SHARES))
    epoch_samples: int = 100_000  # 0 (maps and sequences): each training image once
    # samples
    views: dict[str, int] = field(default_factory=dict)  # of task views: px of a view -> samples of a step
    walks: dict[str, int] = field(default_factory=dict)  # of task views: px -> samples of two steps through a volume
    flip: float = 0.5  # probability, horizontally and vertically each
    intensity: float = 0.0  # of views: probability of each change of gamma, contrast, brightness, colour, noise
    boxes_per_image: int = 4  # of maps: objects prompted together
    jitter_px: float = 10.0  # of maps and sequences: each side of a box moves outwards by up to this, in the input
    prompt: str = "none"  # of maps and sequences: none, point, box, hybrid (both)
    mask_px: int = 256  # of maps and sequences: side of the map that is compared
    equalise: float = 0.0  # of maps, probability
    colour_jitter: float = 0.0  # of maps: largest change of brightness, contrast, saturation
    resized_crop: float = 0.0  # of maps: smallest share of the area that is kept; 0: no cropping
    rotation_rad: float = 0.0  # of maps, largest, either way
    noise: float = 0.0  # of maps, probability
    # loss
    loss: str = "dice+focal"  # one of losses.LOSSES
    loss_weights: dict[str, float] = field(default_factory=dict)  # of its terms; a term that is not named: 1
    iou_weight: float = 0.0  # of the IoU head's squared error
    # optimiser
    optimizer: str = "adamw"  # one of OPTIMIZERS
    batch: int = 16  # samples per process and step; of task views the sum of `views` and `walks`
    epochs: int = 20
    max_steps: int = 0  # 0: as many as the epochs have
    lr: float = 5e-5
    decoder_lr_share: float = 1.0  # the decoder's and prompt encoder's part of `lr`
    weight_decay: float = 0.01
    warmup_steps: int = 0
    schedule: str = "plateau"  # one of SCHEDULES
    plateau_factor: float = 0.9
    plateau_patience: int = 5
    step_epochs: int = 10  # schedule step: the rate is multiplied by step_factor after each so many epochs
    step_factor: float = 0.5
    restart_epochs: int = 10  # schedule restarts: epochs of the first cosine
    restart_growth: int = 2  # each next cosine is so many times as long
    clip_value: float = 0.0  # of each gradient; 0: no clipping
    clip_norm: float = 0.0  # of all gradients together; 0: no clipping
    ema: float = 0.0  # decay per step of the averaged weights that are validated and kept; 0: none
    # run
    seed: int = 0
    precision: str = "bf16-mixed"  # or 32-true
    compile: bool = False  # torch.compile: 3.5 times faster on a CPU with BF16, after minutes of compiling
    workers: int = 0  # processes that prepare samples, no more than usable cores; 0: within the training process
    save_every: int = 500  # steps; a killed run resumes from there
    validate_every: int = 0  # steps; 0: once an epoch
    validate_at_start: bool = False  # too, so that curves begin where training did
    validation_cases: int = 33  # evenly over modalities or subjects; 0: no validation
    validation_slices: int = 5  # of a volume, around its middle
    hold_out: float = 0.05  # of the cases, when no validation folder is given
    early_stop: int = 0  # validations without improvement before the run ends; 0: never
    wandb: str = ""  # project at Weights & Biases that gets the records too; empty: none


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its name in `train/recipes` or by path, with `key=value` overrides in TOML's spelling.

    Raises:
        RunError: no such recipe, an unknown key (the nearest is named), a value of another type or out of range.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RunError(f"{name}: no such recipe; there are {', '.join(recipe_names())}, or give a .toml file") from None
    except (OSError, ValueError) as error:  # not TOML, or not UTF-8
        raise RunError(f"{path}: cannot be read as a recipe ({error})") from None
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise RunError(f"override {override!r} must be key=value")
        values[key.strip()] = parse_value(text.strip())
    return _checked(values, path.stem)


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe, as a file that `load_recipe` reads."""
    derived = ("batch",) if recipe.task == "views" else ()
    values = {key: value for key, value in asdict(recipe).items() if key not in derived}
    return "".join(f"{key} = {spell_value(value)}\n" for key, value in values.items())


def parse_value(text: str) -> Any:
    """A value in TOML's spelling; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string, so that schedule=cosine needs no quotes in a shell


def _checked(values: dict[str, Any], name: str) -> Recipe:
    known = {each.name: each for each in fields(Recipe)}
    defaults = asdict(Recipe())
    checked = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0)[0]
            raise RunError(f"{name}: unknown key {key!r}; the nearest is {near!r}")
        checked[key] = _typed(name, key, value, defaults[key], known[key].type)
    recipe = Recipe(**checked)
    _check_ranges(name, recipe)
    if recipe.task != "views":
        return recipe
    if "batch" in values:
        raise RunError(f"{name}: the batch of task views is the sum of views and walks; set those instead of batch")
    return replace(recipe, batch=len(Layout.of(recipe.views, recipe.walks).places))


def _typed(name: str, key: str, value: Any, default: Any, declared: Any) -> Any:
    if isinstance(default, float) and type(value) is int:
        return float(value)
    item = get_args(declared)[0] if isinstance(default, tuple) else str
    if isinstance(default, tuple) and isinstance(value, list) and all(type(each) is item for each in value):
        return tuple(value)
    if isinstance(default, str) and type(value) is int:
        return str(value)  # target=3 on a command line
    if type(value) is not type(default):
        lists = "list of strings" if item is str else "list of whole numbers"
        expected = {"tuple": lists, "dict": "table"}.get(type(default).__name__, type(default).__name__)
        raise RunError(f"{name}: {key} must be of type {expected}, got {value!r}")
    return value


def _check_ranges(name: str, recipe: Recipe) -> None:
    choices: dict[str, tuple[str, ...]] = {
        "network": NETWORKS, "task": TASKS, "head": HEADS, "prompt": PROMPTS, "normalisation": NORMALISATIONS,
        "slices": SLICES, "trainable": TRAINABLE, "sampling": POLICIES, "loss": LOSSES, "schedule": SCHEDULES,
        "optimizer": OPTIMIZERS,
    }  # fmt: skip
    for key, allowed in choices.items():
        if getattr(recipe, key) not in allowed:
            raise RunError(f"{name}: {key} must be one of {', '.join(allowed)}, got {getattr(recipe, key)!r}")
    for key in (
        "batch", "boxes_per_image", "epochs", "lora_rank", "save_every", "channels", "mask_px",
        "step_epochs", "restart_epochs", "restart_growth",
    ):  # fmt: skip
        if getattr(recipe, key) < 1:
            raise RunError(f"{name}: {key} must be at least 1, got {getattr(recipe, key)}")
    for key in ("intensity", "hold_out", "ema", "lora_dropout", "resized_crop"):
        if not 0 <= getattr(recipe, key) < 1:
            raise RunError(f"{name}: {key} must be at least 0 and below 1, got {getattr(recipe, key)}")
    for key in ("lr", "decoder_lr_share", "step_factor"):
        if getattr(recipe, key) <= 0:
            raise RunError(f"{name}: {key} must be above 0, got {getattr(recipe, key)}")
    if unknown := sorted(set(recipe.loss_weights) - set(recipe.loss.split("+"))):
        raise RunError(f"{name}: loss_weights names {', '.join(unknown)}, which {recipe.loss} does not have")
    _check_sam(name, recipe)


def _check_sam(name: str, recipe: Recipe) -> None:
    """What only some networks and tasks can do."""
    if (recipe.task == "views") != (recipe.network == "litemedsam"):
        raise RunError(f"{name}: task views is litemedsam's, maps and sequences are the SAM networks'")
    if recipe.epoch_samples < (1 if recipe.task == "views" else 0):
        raise RunError(f"{name}: epoch_samples must be at least 1, got {recipe.epoch_samples}")
    if recipe.image_size % PATCH_PX or recipe.image_size < PATCH_PX:
        raise RunError(f"{name}: image_size must be a multiple of {PATCH_PX}, got {recipe.image_size}")
    if recipe.target not in TARGETS and not recipe.target.isdigit():
        raise RunError(f"{name}: target must be {', '.join(TARGETS)} or a label's number, got {recipe.target!r}")
    if recipe.prompt != "none" and (recipe.head == "conv" or recipe.target == "multi_all"):
        raise RunError(f"{name}: prompt must be none with head conv or target multi_all, got {recipe.prompt!r}")
    if recipe.task == "sequences" and recipe.prompt == "none":
        raise RunError(f"{name}: task sequences needs a prompt, such as box")


def spell_value(value: Any) -> str:
    """A value in TOML's spelling."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(spell_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {spell_value(item)}' for key, item in value.items()) + " }"
    return str(value)

"""Recipes: every number of a training run in one TOML file, overridden by `key=value`, checked by name and type."""

import difflib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from edge.errors import RunError
from train.data.sampler import BALANCED_SHARES, POLICIES, Layout
from train.networks.build import NETWORKS
from train.optimisation.losses import LOSSES
from train.sam_systems.network import PATCH_PX

FOLDER = Path(__file__).parent / "recipes"
TARGETS = ("combine_all", "multi_all")  # or a class's number


def _one_of(words: Sequence[str]) -> AfterValidator:
    def check(word: str) -> str:
        if word not in words:
            raise ValueError(f"input should be one of {', '.join(words)}")
        return word

    return AfterValidator(check)


def _text(value: Any) -> Any:
    return str(value) if type(value) is int else value  # target=3 on a command line


Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Precision = Annotated[  # as Fabric calls them, its short names too
    Literal["bf16-mixed", "16-mixed", "32-true"],
    BeforeValidator(lambda word: {"16": "16-mixed", "32": "32-true", "bf16": "bf16-mixed"}.get(str(word), word)),
]
Head = Literal["decoder", "conv"]
Task = Literal["views", "maps", "sequences"]
Target = Annotated[str, BeforeValidator(_text)]
Normalisation = Literal["sam", "medsam", "z-score"]
Slices = Literal["max", "every-second", "random", "all"]


@dataclass(frozen=True)
class Recipe:
    """A training run; the file of the same name in `train/recipes` says what it is for."""

    __pydantic_config__ = ConfigDict(strict=True)

    # network
    network: Annotated[str, _one_of(NETWORKS)] = "litemedsam"
    image_size: Count = 1024  # SAM networks: side of the input, px
    encoder_blocks: Natural = 0  # SAM's ViTs: 0 for all of them, fewer only for trials
    head: Head = "decoder"  # SAM networks; "conv": a 1x1 convolution on the embedding instead, no prompts
    channels: Count = 1  # of the answer; more than one: multi-mask outputs, background first
    # what trains
    trainable: Literal["lora", "lora+decoder", "decoder", "all"] = "lora"
    lora_rank: Count = 4
    lora_alpha: Count = 4
    lora_dropout: Share = 0.0
    lora_targets: tuple[str, ...] = ("qkv", "proj", "fc1", "fc2")  # q, k, v: thirds of a ViT's fused qkv
    lora_blocks: tuple[int, ...] = ()  # of the encoder; empty: all
    lora_decoder_targets: tuple[str, ...] = ()  # of the mask decoder's attentions, such as q_proj
    train_beside: tuple[str, ...] = ()  # parts that train in full beside the adapters: beginnings of parameter names
    # data
    task: Task = "views"  # views: cases with box prompts; maps: images and label maps; sequences: MR subjects (NIfTI)
    target: Target = "combine_all"  # of maps: any label, multi_all: each label a channel, or one label's number
    normalisation: Normalisation = (
        "medsam"  # SAM networks: sam (mean and deviation of its colours), medsam ([0, 1]), z-score
    )
    slices: Slices = "max"  # of a subject: max (largest tumour area), every-second, random, all
    split_instances: bool = False  # validation: cut touching instances by a watershed
    stratify: bool = False  # folds: the same share of every organ in each
    leave_out: tuple[str, ...] = ()  # data sets, the third word of a case's name
    only: tuple[str, ...] = ()  # data sets; empty: all
    # sampling
    sampling: Annotated[str, _one_of(POLICIES)] = "balanced"
    shares: dict[str, float] = field(default_factory=lambda: dict(BALANCED_SHARES))
    epoch_samples: Natural = 100_000  # 0 (maps and sequences): each training image once
    # samples
    views: dict[str, int] = field(default_factory=dict)  # of task views: px of a view -> samples of a step
    walks: dict[str, int] = field(default_factory=dict)  # of task views: px -> samples of two steps through a volume
    flip: Probability = 0.5  # probability, horizontally and vertically each
    intensity: Share = 0.0  # of views: probability of each change of gamma, contrast, brightness, colour, noise
    boxes_per_image: Count = 4  # of maps: objects prompted together
    jitter_px: Amount = 10.0  # of maps and sequences: each side of a box moves outwards by up to this, in the input
    prompt: Literal["none", "point", "box", "hybrid"] = "none"  # of maps and sequences: none, point, box, hybrid (both)
    mask_px: Count = 256  # of maps and sequences: side of the map that is compared
    equalise: Probability = 0.0  # of maps, probability
    colour_jitter: Amount = 0.0  # of maps: largest change of brightness, contrast, saturation
    resized_crop: Share = 0.0  # of maps: smallest share of the area that is kept; 0: no cropping
    rotation_rad: Amount = 0.0  # of maps, largest, either way
    noise: Probability = 0.0  # of maps, probability
    # loss
    loss: Annotated[str, _one_of(LOSSES)] = "dice+focal"
    loss_weights: dict[str, float] = field(default_factory=dict)  # of its terms; a term that is not named: 1
    iou_weight: Amount = 0.0  # of the IoU head's squared error
    # optimiser
    optimizer: Literal["adamw", "adam"] = "adamw"
    batch: Count = 16  # samples per process and step; of task views the sum of `views` and `walks`
    epochs: Count = 20
    max_steps: Natural = 0  # 0: as many as the epochs have
    lr: Positive = 5e-5
    decoder_lr_share: Positive = 1.0  # the decoder's and prompt encoder's part of `lr`
    weight_decay: Amount = 0.01
    warmup_steps: Natural = 0
    schedule: Literal["constant", "cosine", "plateau", "step", "restarts"] = "plateau"
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.9
    plateau_patience: Natural = 5
    step_epochs: Count = 10  # schedule step: the rate is multiplied by step_factor after each so many epochs
    step_factor: Positive = 0.5
    restart_epochs: Count = 10  # schedule restarts: epochs of the first cosine
    restart_growth: Count = 2  # each next cosine is so many times as long
    clip_value: Amount = 0.0  # of each gradient; 0: no clipping
    clip_norm: Amount = 0.0  # of all gradients together; 0: no clipping
    ema: Share = 0.0  # decay per step of the averaged weights that are validated and kept; 0: none
    # run
    seed: int = 0
    precision: Precision = "bf16-mixed"  # or 32-true
    compile: bool = False  # torch.compile: 3.5 times faster on a CPU with BF16, after minutes of compiling
    workers: Natural = 0  # processes that prepare samples, no more than usable cores; 0: within the training process
    save_every: Count = 500  # steps; a killed run resumes from there
    validate_every: Natural = 0  # steps; 0: once an epoch
    validate_at_start: bool = False  # too, so that curves begin where training did
    validation_cases: Natural = 33  # evenly over modalities or subjects; 0: no validation
    validation_slices: Count = 5  # of a volume, around its middle
    hold_out: Share = 0.05  # of the cases, when no validation folder is given
    early_stop: Natural = 0  # validations without improvement before the run ends; 0: never
    wandb: str = ""  # project at Weights & Biases that gets the records too; empty: none


CHECK = TypeAdapter(Recipe)


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
    known = [each.name for each in fields(Recipe)]
    if unknown := [key for key in values if key not in known]:
        near = difflib.get_close_matches(unknown[0], known, 1, cutoff=0)[0]
        raise RunError(f"{name}: unknown key {unknown[0]!r}; the nearest is {near!r}")
    try:
        recipe = CHECK.validate_json(json.dumps(values, default=str))  # whose lists are taken for tuples
    except ValidationError as error:
        raise RunError(f"{name}: {_first_problem(error)}") from None
    if extra := sorted(set(recipe.loss_weights) - set(recipe.loss.split("+"))):
        raise RunError(f"{name}: loss_weights names {', '.join(extra)}, which {recipe.loss} does not have")
    _check_sam(name, recipe)
    if recipe.task != "views":
        return recipe
    if "batch" in values:
        raise RunError(f"{name}: the batch of task views is the sum of views and walks; set those instead of batch")
    return replace(recipe, batch=len(Layout.of(recipe.views, recipe.walks).places))


def _first_problem(error: ValidationError) -> str:
    """Key, what was expected, what came."""
    first = error.errors(include_url=False)[0]
    expected = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, first['loc']))}: {expected[0].lower()}{expected[1:]}, got {first['input']!r}"


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

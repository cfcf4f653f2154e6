"""The nuclei recipes' task: images with label maps, with or without prompts, validated as instances."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from edge.data.extent import box_of
from edge.scoring.instances import instances_from_mask, score_instances
from edge.scoring.score import mean_dice
from edge.views.prepare import prepare
from edge.views.view import View
from train.recipe import Recipe
from train.sam_systems.augment import Changes, Picture, augment
from train.sam_systems.batch import SamSample, SamTask, answer_targets, collate_sam
from train.sam_systems.map_files import MapSource, classes, instances, read_map, sources_hash
from train.sam_systems.network import Sam
from train.tasks.task import DataFacts
from train.validation import CaseRow, Validation, summarize

EDGE_NORMALISATIONS = {"medsam": "min-max"}  # a recipe's word -> edge's, where they differ


@dataclass(frozen=True)
class MapOptions:
    """How pictures become samples."""

    image_px: int
    mask_px: int
    normalisation: str  # of edge.views.prepare
    target: str
    channels: int
    prompt: str
    prompts_per_image: int  # objects prompted together; 0: all
    jitter_px: float  # each side of a box moves outwards by up to this, in the input
    changes: Changes


def map_options(recipe: Recipe) -> MapOptions:
    """What the recipe says of it."""
    changes = Changes(
        recipe.flip, recipe.rotation_rad, recipe.resized_crop, recipe.equalise, recipe.colour_jitter, recipe.noise
    )
    normalisation = EDGE_NORMALISATIONS.get(recipe.normalisation, recipe.normalisation)
    return MapOptions(
        recipe.image_size, recipe.mask_px, normalisation, recipe.target, recipe.channels, recipe.prompt,
        recipe.boxes_per_image, recipe.jitter_px, changes,
    )  # fmt: skip


def as_validated(options: MapOptions) -> MapOptions:
    """The same without chance: nothing changed, every object prompted."""
    return replace(options, changes=Changes(), jitter_px=0.0, prompts_per_image=0)


class MapTask(SamTask):
    """A `train.tasks.task.Task`."""

    def __init__(self, recipe: Recipe, training: Sequence[MapSource], validation: Sequence[MapSource]) -> None:
        super().__init__(recipe)
        self._options = map_options(recipe)
        self._training, self._validation = list(training), list(validation)
        groups = dict(sorted(Counter(source.group for source in training).items()))
        shares = {group: count / len(training) for group, count in groups.items()}
        files = [path for source in training for path in (source.image, source.labels) if path is not None]
        self.facts = DataFacts(groups, len(training), [], shares, sources_hash(files, [s.name for s in validation]))
        self.validates = bool(validation)

    def samples(self, epoch: int) -> Dataset:
        return MapSamples(self._training, self._options, self._recipe.seed, epoch)

    def validate(self, network: Sam) -> Validation:
        network.eval()
        split, options = self._recipe.split_instances, as_validated(self._options)
        return summarize([validate_map(network, source, options, split) for source in self._validation])


class MapSamples(Dataset):
    """The samples of one epoch by position: all images in an order drawn for the epoch, then again."""

    def __init__(self, sources: Sequence[MapSource], options: MapOptions, seed: int, epoch: int) -> None:
        self._sources, self._options, self._seed = sources, options, (seed, epoch)
        self._order = np.random.default_rng(self._seed).permutation(len(sources))

    def __getitem__(self, position: int) -> SamSample:
        chance = np.random.default_rng((*self._seed, position, 1))
        picture = read_map(self._sources[self._order[position % len(self._order)]])
        return make_map_sample(picture, self._options, chance)


def make_map_sample(picture: Picture, options: MapOptions, chance: np.random.Generator) -> SamSample:
    """A picture, changed by chance, as a sample; an image whose objects were all cut away is prompted at its whole."""
    picture = augment(picture, options.changes, chance)
    image = prepare(picture.image, options.image_px, options.normalisation)[None]
    frame = View.letterbox(picture.labels.shape[0], picture.labels.shape[1], options.mask_px)
    counted = into_frame(picture.counted, frame)
    if options.prompt == "none":
        answer = into_frame(classes(picture.labels, options.target, options.channels), frame)[None]
        return SamSample(image, answer, counted, _no_points(1), np.zeros((1, 0), np.float32))
    objects = instances(picture.labels, options.target)
    chosen = chance.permutation(np.setdiff1d(objects, [0]))[: options.prompts_per_image or None]
    if not len(chosen):
        chosen = np.array([-1])  # nothing: the answer to any prompt is empty
    masks = [objects == label for label in chosen]
    points, boxes = prompts_for(masks, options, chance)
    answers = np.stack([into_frame(mask, frame) for mask in masks]).astype(np.int64)
    return SamSample(image, answers, counted, points, boxes)


def prompts_for(
    masks: Sequence[npt.NDArray[np.bool_]], options: MapOptions, chance: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Points (T, 1, 2), one inside each mask, and boxes (T, 4) around them, in input px; empty where not wanted.

    While boxes jitter the point is any of the mask, else its innermost one.
    """
    scale = View.letterbox(masks[0].shape[0], masks[0].shape[1], options.image_px).scale
    points = np.stack([_point_in(mask, chance, options.jitter_px > 0) for mask in masks])[:, None] * scale
    extents = np.stack([_extent(mask) for mask in masks]) * scale
    extents += np.array([-1, -1, 1, 1]) * chance.uniform(0, options.jitter_px, extents.shape)
    boxes = np.clip(extents, 0, options.image_px - 1)
    return (
        points.astype(np.float32) if options.prompt in ("point", "hybrid") else _no_points(len(masks)),
        boxes.astype(np.float32) if options.prompt in ("box", "hybrid") else np.zeros((len(masks), 0), np.float32),
    )


@torch.inference_mode()
def validate_map(network: Sam, source: MapSource, options: MapOptions, split: bool) -> CaseRow:
    """One image's scores at its own size; ambiguous areas count, as in the papers."""
    picture = read_map(source)
    sample = make_map_sample(picture, options, np.random.default_rng(0))
    batch = collate_sam([sample]).to(next(network.parameters()).device)
    logits = to_image(answer_targets(network, batch), picture.labels.shape)
    if options.target == "multi_all":
        truth, answer = classes(picture.labels, options.target, options.channels), logits[0].argmax(axis=0)
        return CaseRow(source.name, source.group, {"dice": mean_dice(truth, answer)})
    labels = instances(picture.labels, options.target)
    if options.prompt == "none":
        found: npt.NDArray = instances_from_mask(_inside(logits)[0], split=split)
    else:
        margins = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        strength = np.concatenate([np.zeros((1, *labels.shape), np.float32), margins])
        found = strength.argmax(axis=0)
    return CaseRow(source.name, source.group, score_instances(labels, found).as_dict())


def to_image(logits: torch.Tensor, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Logits (T, C, h, h) of the padded square at an image's own size (T, C, H, W)."""
    side = max(shape)
    whole = F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
    return whole[..., : shape[0], : shape[1]].cpu().numpy()


def _inside(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1) > 0


def into_frame(part: npt.NDArray, frame: View) -> npt.NDArray:
    """A map (H, W) at the frame's size, nearest neighbours taken, zero beyond the image."""
    field = np.zeros((frame.size, frame.size), part.dtype)
    kind = np.uint8 if part.dtype == np.bool_ else np.int32
    size = (frame.inner_width, frame.inner_height)
    field[: size[1], : size[0]] = cv2.resize(part.astype(kind), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return field


def _no_points(count: int) -> npt.NDArray[np.float32]:
    return np.zeros((count, 0, 2), np.float32)


def _point_in(mask: npt.NDArray[np.bool_], chance: np.random.Generator, anywhere: bool) -> npt.NDArray[np.float64]:
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.zeros(2)
    if anywhere:
        chosen = int(chance.integers(len(rows)))
        return np.array([columns[chosen], rows[chosen]], np.float64)
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([column, row], np.float64)


def _extent(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """x_min y_min x_max y_max; the whole image for an empty mask."""
    return box_of(mask if mask.any() else np.ones_like(mask))

"""A drawn slice becomes what the network sees: cut, flipped, boxed, normalised; several objects of it together."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edge.crop import CROP_PX, LOOSE_PX, SHOWN_PX, crop_around, expected_extents
from edge.geometry import MODEL_SIZE
from edge.preprocess import prepare
from train.data.cache import Cache
from train.data.cases import Slice
from train.data.sampler import Draws
from train.networks.tiny_vit import STRIDE

MIN_VISIBLE = 0.75  # of an object's area, for it to be prompted in a region
HELD = 0.5  # of an object's area on a slice, for a followed box to prompt it
TIGHTER = 0.25  # of boxes are not as loose as they may be
SMALLEST_PX = 6  # a region shows its object no smaller than this


@dataclass(frozen=True)
class SampleOptions:
    """How samples are cut and augmented."""

    boxes_per_image: int = 4  # objects prompted together; fewer where the image has fewer
    jitter_px: float = 10  # each side of a box moves outwards by up to this, in the 256 frame
    region_px: int = MODEL_SIZE  # side of what is encoded; below 256 the slice is scaled so that the object fits
    zoom: float = 0.0  # regions: log-range of the random scale
    crops: bool = False  # crops around a box as `edge.crop` cuts them instead; jitter is in px of the original then
    flip: float = 0.5  # probability, horizontally and vertically each
    intensity: float = 0.0  # probability of each change of gamma, contrast, colour, noise


@dataclass  # not frozen: Fabric's mixed precision sets its tensors
class Batch:
    """Samples together: tensors as `LiteMedSAM.forward` takes them."""

    images: Tensor  # (B, 3, S, S)
    boxes: Tensor  # (N, 4), 256 frame
    image_of_box: Tensor  # (N,)
    corners: Tensor  # (B, 2), 256 frame
    masks: Tensor  # (N, S, S) bool

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in vars(self).values()))


@dataclass(frozen=True)
class Sample:
    """One image with its prompted objects."""

    image: npt.NDArray[np.float32]  # (3, S, S)
    boxes: npt.NDArray[np.float32]  # (K, 4), 256 frame
    masks: npt.NDArray[np.bool_]  # (K, S, S)
    corner: tuple[int, int]  # x, y of the region in the 256 frame


class Samples(Dataset):
    """The samples of one epoch, by position."""

    def __init__(self, cache: Cache, draws: Draws, options: SampleOptions, epoch: int) -> None:
        self._cache, self._draws, self._options, self._epoch = cache, draws, options, epoch

    def __getitem__(self, position: int) -> Sample:
        draw = self._draws.draw(self._epoch, position)
        entry = self._cache.entries[draw.entry]
        objects = np.array(entry.objects)
        chance = np.random.default_rng((*draw.seed, 1))  # another stream than the draw's own
        if self._options.crops:
            prompts = np.array(entry.prompts)
            part, scale = self._cache.read(draw.entry), entry.scale
            return make_crop(part, objects, prompts, draw.object, self._options, chance, scale=scale)
        return make_sample(self._cache.read(draw.entry), objects, draw.object, self._options, chance)


def collate(samples: list[Sample]) -> Batch:
    """Samples of one size as a batch."""
    counts = torch.tensor([len(sample.boxes) for sample in samples])
    return Batch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples])),
        boxes=torch.from_numpy(np.concatenate([sample.boxes for sample in samples])),
        image_of_box=torch.arange(len(samples)).repeat_interleave(counts),
        corners=torch.tensor([sample.corner for sample in samples]),
        masks=torch.from_numpy(np.concatenate([sample.masks for sample in samples])),
    )


def make_sample(
    part: Slice, objects: npt.NDArray[np.int64], first: int, options: SampleOptions, chance: np.random.Generator
) -> Sample:
    """A sample of a slice, prompting the object of row `first` and others that are visible beside it."""
    size = options.region_px
    image, labels, objects = _flip(part.image, part.labels, objects, options.flip, chance)
    window, corner = (0, 0, max(labels.shape)), np.zeros(2, dtype=np.int64)
    if size < MODEL_SIZE:
        window = _window_around(objects[first], max(labels.shape), options, chance)
        corner = STRIDE * chance.integers(0, (MODEL_SIZE - size) // STRIDE + 1, 2)
    rows = _choose(objects, first, _cut(labels, window), options.boxes_per_image, chance)
    masks = [_place((_cut(labels, window) == objects[row, 0]) * np.uint8(255), window, size) >= 128 for row in rows]
    boxes = (objects[rows, 1:5] - np.tile(window[:2], 2)) * (size / window[2])
    boxes += np.array([-1, -1, 1, 1]) * chance.uniform(0, options.jitter_px, (len(rows), 4))
    pixels = prepare(image) if size == MODEL_SIZE else _stretch(_place(_cut(image, window), window, size), image)
    if options.intensity:
        pixels = _vary_intensity(pixels, options.intensity, chance)
    boxes = np.clip(boxes, 0, size - 1) + np.tile(corner, 2)
    return Sample(pixels, boxes.astype(np.float32), np.stack(masks), (int(corner[0]), int(corner[1])))


def make_crop(
    part: Slice,
    objects: npt.NDArray[np.int64],
    prompts: npt.NDArray[np.float64],
    row: int,
    options: SampleOptions,
    chance: np.random.Generator,
    *,
    scale: float = 1.0,
) -> Sample:
    """A sample as `edge.pipeline` cuts one for the box of an object, a little shifted and scaled.

    Each side of the box is moved outwards, of every fourth box by less.

    Args:
        scale: px of the slice per px of the original, in which boxes are loose.
        prompts: (K, 4) boxes of the objects, px of the slice; where one holds less than half of its object, the
            object's extent is taken instead. The whole object is asked for, also where it reaches out of its box.
    """
    image, labels, boxes = _flip(part.image, part.labels, np.column_stack([objects, prompts]), options.flip, chance)
    label, extent, box = boxes[row, 0], boxes[row, 1:5], boxes[row, 6:]
    target = labels == label
    if _area_within(target, box) < HELD * objects[row, 5]:
        box = extent
    loosest = options.jitter_px * scale * (chance.random() if chance.random() < TIGHTER else 1)
    box = box + np.array([-1, -1, 1, 1]) * chance.uniform(0, loosest, 4)
    box = np.clip(box, 0, np.tile(np.array(labels.shape[::-1]) - 1, 2))
    shown = SHOWN_PX * np.exp(chance.uniform(-options.zoom, options.zoom))
    crop = crop_around(box, min(shown, CROP_PX - 2))
    room = (crop.side - 1 - (box[2:] - box[:2])).clip(min=0) / 2
    left, top = np.rint(np.array([crop.left, crop.top]) + chance.uniform(-room, room)).astype(int).tolist()
    crop = replace(crop, left=left, top=top)
    corner = STRIDE * chance.integers(0, (MODEL_SIZE - CROP_PX) // STRIDE + 1, 2)
    mask = crop.show(target * np.uint8(255), 0) >= 128
    pixels = crop.prepare(image, int(image.min()), int(image.max()))
    if options.intensity:
        pixels = _vary_intensity(pixels, options.intensity, chance)
    extent = expected_extents(box[None], LOOSE_PX * scale)
    prompt = np.clip(crop.boxes_to_model(extent), 0, CROP_PX - 1) + np.tile(corner, 2)
    return Sample(pixels, prompt.astype(np.float32), mask[None], (int(corner[0]), int(corner[1])))


def _area_within(mask: npt.NDArray[np.bool_], box: npt.NDArray[np.float64]) -> int:
    """Pixels of the mask that lie in a box of inclusive pixels."""
    (left, top), (right, bottom) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int) + 1
    return int(np.count_nonzero(mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]))


def _flip(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray,
    objects: npt.NDArray,
    probability: float,
    chance: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray, npt.NDArray]:
    objects = objects.copy()
    spans = {1: ((1, 3), (6, 8)), 0: ((2, 4), (7, 9))}  # axis -> columns of `objects` that hold x or y, prompts' last
    for axis in (1, 0):
        if chance.random() < probability:
            image, labels = np.flip(image, axis), np.flip(labels, axis)
            for low, high in spans[axis]:
                if high < objects.shape[1]:
                    objects[:, [low, high]] = labels.shape[axis] - 1 - objects[:, [high, low]]
    return np.ascontiguousarray(image), np.ascontiguousarray(labels), objects


def _window_around(
    row: npt.NDArray[np.int64], longest: int, options: SampleOptions, chance: np.random.Generator
) -> tuple[int, int, int]:
    """Left, top and side, in slice px, of a square around the object that shows it about as large as the frame does."""
    size = options.region_px
    _, x_min, y_min, x_max, y_max, _ = row.tolist()
    extent = max(x_max - x_min, y_max - y_min) + 1
    shown = extent * MODEL_SIZE / longest * np.exp(chance.uniform(-options.zoom, options.zoom))
    if shown > 0.7 * size:
        shown = size * chance.uniform(0.35, 0.95)
    side = max(extent + 2, round(size * extent / max(shown, SMALLEST_PX)))
    x, y = (int(chance.integers(high - side + 1, low + 1)) for low, high in ((x_min, x_max), (y_min, y_max)))
    return x, y, side


def _choose(
    objects: npt.NDArray[np.int64], first: int, seen: npt.NDArray, count: int, chance: np.random.Generator
) -> list[int]:
    """Rows of `objects`: the first, then by chance others of which enough is on the `seen` part of the labels."""
    rows = [first]
    for row in chance.permutation(len(objects)).tolist():
        if len(rows) == count:
            break
        if row != first and np.count_nonzero(seen == objects[row, 0]) >= MIN_VISIBLE * objects[row, 5]:
            rows.append(row)
    return rows


def _cut(array: npt.NDArray, window: tuple[int, int, int]) -> npt.NDArray:
    """The window's part of an array, without what lies beyond it."""
    x, y, side = window
    return array[max(y, 0) : y + side, max(x, 0) : x + side]


def _place(part: npt.NDArray, window: tuple[int, int, int], size: int) -> npt.NDArray[np.uint8]:
    """The cut of a window, area-averaged to its scale and set where it belongs in (size, size[, 3]) zeros."""
    x, y, side = window
    height, width = (max(1, int(length * size / side + 0.5)) for length in part.shape[:2])
    top, left = (min(int(max(-start, 0) * size / side + 0.5), size - 1) for start in (y, x))
    resized = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    field = np.zeros((size, size, *part.shape[2:]), dtype=np.uint8)
    target = field[top : top + height, left : left + width]
    target[:] = resized[: target.shape[0], : target.shape[1]]
    return field


def _stretch(region: npt.NDArray[np.uint8], whole: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(3, S, S) in [0, 1]: by the whole slice's minimum and maximum, as `edge.preprocess.prepare` does for a frame."""
    low, high = int(whole.min()), int(whole.max())
    stretched = np.clip((region.astype(np.float32) - low) / max(high - low, 1), 0, 1)
    if stretched.ndim == 2:
        return np.repeat(stretched[None], 3, axis=0)
    return np.ascontiguousarray(stretched.transpose(2, 0, 1))


def _vary_intensity(
    pixels: npt.NDArray[np.float32], probability: float, chance: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Gamma, contrast and brightness, the balance of channels, noise, inversion: each by its own chance."""
    shape = (len(pixels), 1, 1)
    changes = (
        lambda x: x ** np.exp(chance.uniform(-0.5, 0.5)),
        lambda x: x * chance.uniform(0.75, 1.2) + chance.uniform(-0.08, 0.08),
        lambda x: x * chance.uniform(0.85, 1.15, shape) if np.ptp(x, axis=0).any() else x,  # greys stay grey
        lambda x: x + chance.normal(0, chance.uniform(0, 0.05), (1, *x.shape[1:])),
    )
    for change in changes:
        if chance.random() < probability:
            pixels = np.clip(change(pixels), 0, 1)
    if chance.random() < probability / 8:
        pixels = 1 - pixels
    return pixels.astype(np.float32)

"""Walks: an object's mask taken from slice to slice of a volume, from the middle of its range to one end.

A sample of one step shows a slice, its neighbour and the neighbour's mask, and asks for the slice's own. One of two
steps asks for the neighbour's mask first, so that the network is given a mask that it has made itself.

The mask that a sample begins with is the true one, damaged; or, where the volume was predicted before, what a walk from
the box had come to there (DAgger, Ross et al. 2011: trained on the states that the model's own answers lead to).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.data.extent import box_of
from edge.prompts.propagation import mask_value, way_left
from train.data.batch import Box, Pixels, ViewSample
from train.data.damage import binary, damage
from train.data.placement import Placement, place_masks
from train.data.prepared import Prepared
from train.data.prompts import loosen, prompt_of

RANGE_KNOWN = 0.85  # of walks know where their range ends
OWN_MASK = 0.6  # of the masks that samples begin with are predicted ones, where there are such
LEAST_SHARED, LEAST_AREA = 0.5, 0.1  # of the smaller one of both, and of the true one: what a mask that is given has
TWO_SLICES = 0.2  # of steps pass over a slice, where there is one to pass over
OTHER_AXIS = 0.3  # of walks go along another axis than the slices', where there is enough to walk along
SHALLOWEST = 24  # slices of a volume, along each axis, for a walk along another one
NARROWEST = 3  # slices of an object along that axis
UNKNOWN = 255  # what a mask is drawn with where the end is not known; else `mask_value`


@dataclass(frozen=True)
class Walk:
    """The way of one object's mask."""

    volume: Pixels  # (D, H, W), D along the walk's axis
    labels: npt.NDArray[np.uint16]  # (D, H, W)
    label: int
    middle: int  # the slice where the walk begins
    end: int  # the last slice; where the range is not known, one beyond it
    step: int  # 1 or -1
    range_known: bool
    predicted: npt.NDArray[np.uint16] | None = None  # (D, H, W): labels that a model found on this way

    @property
    def steps(self) -> int:
        """Slices after the middle one."""
        return (self.end - self.middle) * self.step

    def mask(self, z: int) -> npt.NDArray[np.bool_]:
        """The object (H, W) on a slice."""
        return np.asarray(self.labels[z] == self.label)

    def own_mask(self, z: int) -> npt.NDArray[np.bool_] | None:
        """The object (H, W) on a slice as a model found it; None where it did not, or something else."""
        if self.predicted is None:
            return None
        found, true = np.asarray(self.predicted[z] == self.label), self.mask(z)
        shared, area, true_area = map(np.count_nonzero, (found & true, found, true))
        is_near = shared >= max(1, LEAST_SHARED * min(area, true_area)) and area >= LEAST_AREA * true_area
        return found if is_near else None

    def before(self, z: int, slices: int = 1) -> int:
        """The slice so many before z on the way, at the earliest the middle."""
        return self.middle + self.step * max((z - self.middle) * self.step - slices, 0)

    def mask_value(self, z: int) -> int:
        """What the mask given for slice z is drawn with."""
        return mask_value(way_left((z - self.middle) * self.step, self.steps)) if self.range_known else UNKNOWN


def draw_walk(data: Prepared, row: int, chance: np.random.Generator) -> Walk | None:
    """A walk through an object's range, along a drawn axis and direction; None where it has nowhere to go."""
    case, label, *corners, _ = data.objects[row].tolist()
    volume, labels = data.volume(case)
    axis = _draw_axis(corners, labels.shape, chance)
    first, last = corners[axis], corners[3 + axis]
    step, known = (1 if chance.random() < 0.5 else -1), bool(chance.random() < RANGE_KNOWN)
    end = (last if step > 0 else first) + (0 if known else step)
    end = min(max(end, 0), labels.shape[axis] - 1)
    volume, labels = np.moveaxis(volume[..., 0], axis, 0), np.moveaxis(labels, axis, 0)
    predicted = data.predicted(case) if axis == 0 else None
    walk = Walk(volume, labels, label, (first + last) // 2, end, step, known, predicted)
    return walk if first < last and walk.steps > 0 else None


def _draw_axis(corners: list[int], shape: tuple[int, ...], chance: np.random.Generator) -> int:
    """0, along the slices, or by chance 1 or 2, where volume and object are deep enough along it.

    Args:
        corners: z_min, y_min, x_min, z_max, y_max, x_max of the object.
    """
    axis = int(chance.integers(1, 3)) if chance.random() < OTHER_AXIS else 0
    deep_enough = min(shape) >= SHALLOWEST and corners[3 + axis] - corners[axis] + 1 >= NARROWEST
    return axis if deep_enough else 0


def make_walk(
    data: Prepared, row: int, size: int, flip: float, chance: np.random.Generator, *, unrolled: bool
) -> ViewSample | None:
    """A step, or two, of an object's walk, in views of `size` px.

    Args:
        flip: as `draw_placement` takes it.
        unrolled: two steps; the sample is then the first one, with the second one's slice and target beside it.

    Returns:
        None where the object gives no such step.
    """
    walk = draw_walk(data, row, chance)
    if walk is None:
        return None
    slices = _draw_slices(walk, chance)[: 3 if unrolled else 2]
    masks = np.stack([walk.mask(z) for z in slices], axis=-1)
    if not masks[..., 1:].any(axis=(0, 1)).all():
        return None  # a gap in the object
    begins_with_box = unrolled and slices[1] == walk.middle
    own = walk.own_mask(slices[-1]) if chance.random() < OWN_MASK and not begins_with_box else None
    if own is not None:
        masks = np.concatenate([masks, own[..., None]], axis=-1)
    placement, shown = place_masks(masks, box_of(masks[..., -1]), size, flip, chance)
    if not (shown[..., 1:] >= 128).any(axis=(0, 1)).all():
        return None  # thinner than a pixel of the view, or beyond it
    low, high = int(walk.volume.min()), int(walk.volume.max())
    pixels = placement.show(np.stack([walk.volume[z] for z in slices], axis=-1), low)
    steps = _Steps(walk, slices, pixels, shown, (float(low), float(high)), None if own is None else _plane(shown, -1))
    return steps.both(placement, chance) if unrolled else steps.one(chance)


def _draw_slices(walk: Walk, chance: np.random.Generator) -> tuple[int, int, int]:
    """A slice of the way after the middle, the one before it, and the one before that."""
    stride = 2 if walk.steps > 2 and chance.random() < TWO_SLICES else 1
    z = walk.middle + walk.step * int(chance.integers(min(stride, walk.steps), walk.steps + 1))
    near = walk.before(z, stride)
    return z, near, walk.before(near)


@dataclass(frozen=True)
class _Steps:
    """Slices of a walk as they are shown, the last one of the way first."""

    walk: Walk
    slices: tuple[int, ...]  # K of them
    pixels: Pixels  # (s, s, K)
    masks: Pixels  # (s, s, K or more), 0 to 255
    span: tuple[float, float]
    own: Pixels | None  # (s, s), 0 to 255: what is given as the last slice's mask; None: the true one, damaged

    def one(self, chance: np.random.Generator) -> ViewSample:
        """The last slice's mask is asked for, given a damaged or own one of the slice before."""
        pixels, prompt = self._given(0, chance)
        return ViewSample(len(self.pixels), pixels, self.span, True, prompt, _plane(self.masks, 0))

    def both(self, placement: Placement, chance: np.random.Generator) -> ViewSample:
        """The slice before is asked for first, given a damaged or own mask or, on the middle slice, a box."""
        z, near, _ = self.slices
        size, at_middle = len(self.pixels), near == self.walk.middle
        if at_middle:
            pixels = np.repeat(_plane(self.pixels, 1)[None], 3, axis=0)
            box = loosen(box_of(self.masks[..., 1] >= 128), placement.scale, (size, size), chance)
            prompt = prompt_of(box, placement.scale)
        else:
            pixels, prompt = self._given(1, chance)
        return ViewSample(
            size, pixels, self.span, not at_middle, prompt, _plane(self.masks, 1),
            _plane(self.pixels, 0), _plane(self.masks, 0), self.walk.mask_value(z),
        )  # fmt: skip

    def _given(self, number: int, chance: np.random.Generator) -> tuple[Pixels, Box]:
        """A slice with its neighbour and the mask given for that (3, s, s), and the mask's extent."""
        mask = damage(_plane(self.masks, number + 1), chance) if self.own is None else binary(self.own)
        drawn = mask // 255 * np.uint8(self.walk.mask_value(self.slices[number]))
        pixels = np.stack([_plane(self.pixels, number), _plane(self.pixels, number + 1), drawn])
        return pixels, box_of(mask > 0)


def _plane(planes: Pixels, number: int) -> Pixels:
    return np.ascontiguousarray(planes[..., number])

"""What prompts for an object in a view: a box as people draw them, and where the object is expected to end in it."""

import numpy as np
import numpy.typing as npt

from edge.choices import BOX_MARGIN_PX
from edge.prompts.prompt import expected_extents
from train.data.batch import Box

LOOSEST_PX = 2 * BOX_MARGIN_PX  # each side of a box lies up to this beyond its object, in px of the original
TIGHTER = 0.25  # of boxes are drawn less loosely
SLOPPY, SLOPPIEST = 0.3, 0.2  # of boxes have sides that are off, by up to this part of their extent
HELD = 0.5  # of an object's area on a slice must lie in a tracked box for that to prompt it


def loosen(box: Box, px_per_px: float, shape: tuple[int, int], chance: np.random.Generator) -> Box:
    """A box around an object as people draw it: both in px of a slice or view of a shape (H, W), clipped to it.

    Args:
        px_per_px: px of these per px of the original, in which boxes are loose.
    """
    loosest = LOOSEST_PX * px_per_px * (chance.random() if chance.random() < TIGHTER else 1)
    box = box + np.array([-1, -1, 1, 1]) * chance.uniform(0, loosest, 4)
    if chance.random() < SLOPPY:
        extent = np.tile(box[2:] - box[:2] + 1, 2)
        box = box + chance.uniform(-1, 1, 4) * chance.uniform(0, SLOPPIEST) * extent
    height, width = shape
    return box.clip(0, np.array([width, height, width, height]) - 1)


def prompt_of(box: Box, px_per_px: float) -> Box:
    """What the runtime prompts with for a box: where its object is expected to end; as `loosen`'s arguments."""
    return expected_extents(box[None], BOX_MARGIN_PX * px_per_px)[0]


def holds(box: Box, mask: npt.NDArray[np.bool_]) -> bool:
    """Whether a tracked box, inclusive pixels, holds enough of a mask (H, W) to prompt for it."""
    (left, top), (right, bottom) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int) + 1
    within = mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    return bool(np.count_nonzero(within) >= HELD * np.count_nonzero(mask))

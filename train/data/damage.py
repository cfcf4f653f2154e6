"""Masks damaged as a network's own might be, so that it learns to mend what it is given."""

import cv2
import numpy as np
import numpy.typing as npt

from train.data.batch import Pixels

CLEAN = 0.25  # of masks stay as they are
LEAST_IOU = 0.4  # of a damaged mask with the true one; a worse one is not given
BLUR = (0.01, 0.06)  # of the view's side: standard deviation, least and most
WAVES = 8  # across the view: how coarse the noise that moves a border is
PART_CHANGED, PART_LOST = 0.2, 0.6  # of masks lose or gain an ellipse; of these, lose
PART_RADIUS = (0.04, 0.15)  # of the view's side


def damage(mask: Pixels, chance: np.random.Generator) -> Pixels:
    """A mask (s, s) of 0 to 255 as a network might have found it, 0 or 255: its border moved, a part lost or added."""
    whole = binary(mask)
    if chance.random() < CLEAN:
        return whole
    field = _shifted(_with_moved_border(mask, chance), chance)
    if chance.random() < PART_CHANGED:
        _change_part(field, chance)
    found = np.where(field > 0, 255, 0).astype(np.uint8)
    shared, either = np.count_nonzero(found & whole), np.count_nonzero(found | whole)
    return found if shared >= LEAST_IOU * either else whole


def binary(mask: Pixels) -> Pixels:
    """A mask (s, s) of 0 to 255 as 0 or 255: covered by half or more."""
    return np.where(mask >= 128, 255, 0).astype(np.uint8)


def _with_moved_border(mask: Pixels, chance: np.random.Generator) -> npt.NDArray[np.float32]:
    """A field, positive inside: the blurred mask, raised or lowered by smooth noise and as a whole."""
    size = len(mask)
    blurred = cv2.GaussianBlur(mask.astype(np.float32) / 255 - 0.5, (0, 0), size * chance.uniform(*BLUR))
    waves = chance.normal(0, 1, (WAVES, WAVES)).astype(np.float32)
    noise = cv2.resize(waves, (size, size), interpolation=cv2.INTER_CUBIC)
    field = blurred + noise * chance.uniform(0, 0.15) + chance.normal(0, 0.1)
    return np.asarray(field, np.float32)


def _shifted(field: npt.NDArray[np.float32], chance: np.random.Generator) -> npt.NDArray[np.float32]:
    """Moved by a little, one and a half percent of the side as a standard deviation; the border is repeated."""
    size = len(field)
    x, y = chance.normal(0, 0.015 * size, 2)
    move = np.array([[1, 0, x], [0, 1, y]])
    return np.asarray(cv2.warpAffine(field, move, (size, size), borderMode=cv2.BORDER_REPLICATE), np.float32)


def _change_part(field: npt.NDArray[np.float32], chance: np.random.Generator) -> None:
    """An ellipse somewhere becomes outside or inside, in place."""
    size = len(field)
    x, y = chance.uniform(0, size, 2)
    width, height = 2 * size * chance.uniform(*PART_RADIUS, 2)
    value = -1.0 if chance.random() < PART_LOST else 1.0
    cv2.ellipse(field, ((x, y), (width, height), float(chance.uniform(0, 180))), value, -1)

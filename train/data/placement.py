"""Where a sample's view lies on a slice, and how it shows it: cut, by chance flipped and transposed, of walks warped.

A box is shown as the runtime shows it, always at one share of the view: how much smaller than that the prompt is tells
the network how loose the box may be (`edge.prompts.prompt.expected_extents`). A walk's mask may be of any size.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from edge.views.ladder import view_around
from edge.views.view import View
from train.data.batch import Box, Pixels

BOX_SHARE = 0.72  # of the view's side that the longer side of a given box fills, as `samedge export` has it
SHARE = (0.58, 0.86)  # and that of a walk's mask
OFF_CENTRE = 0.05  # of the view's side: standard deviation of a walk's mask's middle from the view's
WARPED = 0.4  # of walks are rotated and stretched
ANGLE_DEG, STRETCH = 15.0, 0.12  # standard deviations: of the rotation, of the logarithm of width to height
ROOM = 1.5  # side of what is cut, of the view's: a warp brings in what lies around it

Affine = npt.NDArray[np.float64]  # (2, 3), from px of what was cut to px of the view


@dataclass(frozen=True)
class Placement:
    """A view of a slice, to be warped (or not), then flipped, then transposed."""

    view: View  # what is cut; ROOM times as wide as what is seen where it is warped
    size: int  # px of the sample
    warp: Affine | None = None
    flip_x: bool = False
    flip_y: bool = False
    transposed: bool = False

    @property
    def scale(self) -> float:
        """Pixels of the sample per pixel of the slice, along an axis that is not stretched."""
        return self.view.scale

    def show(self, planes: Pixels, beyond: int) -> Pixels:
        """Planes (H, W, C) of a slice as (size, size, C).

        Args:
            beyond: the value of pixels beyond the slice's border.
        """
        shown = self.view.show(planes, beyond).reshape(self.view.size, self.view.size, -1)
        if self.warp is not None:
            shown = _warped(shown, self.warp, self.size, beyond)
        for flipped, axis in ((self.flip_x, 1), (self.flip_y, 0)):
            shown = np.flip(shown, axis) if flipped else shown
        return shown.swapaxes(0, 1) if self.transposed else shown

    def show_masks(self, masks: npt.NDArray[np.bool_]) -> Pixels:
        """Masks (H, W, M) of a slice as (size, size, M), 0 to 255: the part of a pixel that is covered."""
        return self.show(masks.view(np.uint8) * np.uint8(255), 0)

    def box_to_sample(self, box: Box) -> Box:
        """A box of the slice, inclusive pixels, in pixels of the sample; unclipped.

        Raises:
            ValueError: the slice is warped; a box does not stay one.
        """
        if self.warp is not None:
            raise ValueError("a box of a warped view is not a box of its slice")
        x_min, y_min, x_max, y_max = self.view.boxes_to_view(box[None])[0].astype(np.float64)
        last = self.size - 1
        if self.flip_x:
            x_min, x_max = last - x_max, last - x_min
        if self.flip_y:
            y_min, y_max = last - y_max, last - y_min
        return np.array([y_min, x_min, y_max, x_max] if self.transposed else [x_min, y_min, x_max, y_max])


def place_box(box: Box, size: int, flip: float, chance: np.random.Generator) -> Placement:
    """The view of `size` px in which the runtime shows a given box, inclusive pixels of the slice.

    Args:
        flip: probability of each flip; half of it, of the transposition.
    """
    return Placement(view_around(box, size, BOX_SHARE), size, None, *_draw_flips(flip, chance))


def draw_placement(box: Box, size: int, flip: float, chance: np.random.Generator, *, warped: bool = True) -> Placement:
    """A view of `size` px around a box, inclusive pixels of the slice: the box near its middle, at a share of SHARE.

    Args:
        flip: as `place_box` takes it.
        warped: whether WARPED of the placements are; False: none.
    """
    share = np.exp(chance.uniform(*np.log(SHARE)))
    side = max(2, round(float((box[2:] - box[:2]).max() + 1) / share))
    middle = (box[:2] + box[2:] + 1) / 2 + chance.normal(0, OFF_CENTRE, 2) * side
    warp, cut_px = None, size
    if chance.random() < WARPED and warped:
        side, cut_px = round(side * ROOM), round(size * ROOM)
        warp = _draw_warp(cut_px, size, chance)
    left, top = np.rint(middle - side / 2).astype(int).tolist()
    return Placement(View.square(left, top, side, cut_px), size, warp, *_draw_flips(flip, chance))


def _draw_flips(flip: float, chance: np.random.Generator) -> tuple[bool, bool, bool]:
    return bool(chance.random() < flip), bool(chance.random() < flip), bool(chance.random() < flip / 2)


def place_masks(
    masks: npt.NDArray[np.bool_], box: Box, size: int, flip: float, chance: np.random.Generator
) -> tuple[Placement, Pixels]:
    """A placement around a box of a slice, and masks (H, W, M) in it (size, size, M), 0 to 255.

    A warp is not taken where it turns a mask out of the view, or where the last mask is not seen.
    """
    placement = draw_placement(box, size, flip, chance)
    shown = placement.show_masks(masks)
    if placement.warp is not None:
        seen, unwarped = _is_seen(shown), replace(placement, warp=None)
        if not seen[-1] or (_is_seen(unwarped.show_masks(masks)) & ~seen).any():
            placement = draw_placement(box, size, flip, chance, warped=False)
            shown = placement.show_masks(masks)
    return placement, shown


def _is_seen(shown: Pixels) -> npt.NDArray[np.bool_]:
    """Which of the shown masks (s, s, M) cover a pixel by half or more."""
    return np.asarray((shown >= 128).any(axis=(0, 1)))


def _draw_warp(cut_px: int, size: int, chance: np.random.Generator) -> Affine:
    """Rotates and stretches; the middle of what was cut goes to the sample's middle."""
    middle = (cut_px - 1) / 2
    turn = np.asarray(cv2.getRotationMatrix2D((middle, middle), chance.normal(0, ANGLE_DEG), 1.0), np.float64)
    aspect = np.exp(chance.normal(0, STRETCH))
    warp = np.diag([aspect, 1 / aspect]) @ turn
    warp[:, 2] += (size - 1) / 2 - warp @ [middle, middle, 1]
    return warp


def _warped(planes: Pixels, warp: Affine, size: int, beyond: int) -> Pixels:
    how, border = cv2.INTER_LINEAR, cv2.BORDER_CONSTANT
    warped = cv2.warpAffine(planes, warp, (size, size), flags=how, borderMode=border, borderValue=(beyond,) * 4)
    return np.asarray(warped, np.uint8).reshape(size, size, -1)

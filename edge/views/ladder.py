"""Which view shows a box: how large it is goes by the box.

The network sees an object at about the scale it was trained at, and only what is around it is encoded. Small objects
fill the smallest view, the borders of large ones need the largest.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.views.view import View

LEAST_SHARE = 0.05  # of a view for its box: what is cut out of the image has twenty times the box's side then


@dataclass(frozen=True)
class ViewLadder:
    """The views that a model was trained on: `views` of its model folder."""

    sizes: tuple[int, ...]  # px, ascending
    box_share: float  # of a view's side that the longer side of a box fills
    least_scale: float  # px of the view per px of the image: the smallest view that shows a box at no less is taken
    walk_size: int | None = None  # px, the largest view while a mask travels: one of `sizes`; None: as large as any

    def problem(self, stride: int, frame_px: int) -> str | None:
        """Why a network cannot be given these views, `stride` px a cell and frames of `frame_px`; None: it can."""
        sizes = self.sizes
        fitting = all(isinstance(size, int) and size > 0 and size % stride == 0 for size in sizes)
        if not fitting or list(sizes) != sorted(set(sizes)):
            return f"sizes {sizes} must ascend and be multiples of {stride}"
        if not sizes or sizes[-1] >= frame_px:
            return f"sizes {sizes} must be at least one, and below {frame_px}, the side of a whole frame"
        if self.walk_size is not None and self.walk_size not in sizes:
            return f"walk_size {self.walk_size} must be one of {sizes}"
        if not LEAST_SHARE <= self.box_share <= 1:
            return f"box_share {self.box_share} must be {LEAST_SHARE} to 1"
        if not 0 < self.least_scale < math.inf:
            return f"least_scale {self.least_scale} must be above 0"
        return None

    def view_around(self, box: npt.NDArray[np.float64], *, walks: bool = False) -> View:
        """The view of a box (x_min, y_min, x_max, y_max), inclusive pixels, in its middle; the largest at most.

        Args: walks: the box is that of the mask on a neighbouring slice.
        """
        extent = float((box[2:] - box[:2]).max()) + 1
        fitting = (size for size in self.sizes if size * self.box_share >= self.least_scale * extent)
        largest = self.walk_size if walks and self.walk_size else self.sizes[-1]
        return view_around(box, min(next(fitting, largest), largest), self.box_share)


def view_around(box: npt.NDArray[np.float64], size: int, box_share: float) -> View:
    """The view of `size` px that shows a box (x_min, y_min, x_max, y_max), inclusive pixels, in its middle."""
    side = max(1, round((float((box[2:] - box[:2]).max()) + 1) / box_share))
    left, top = np.rint((box[:2] + box[2:] + 1 - side) / 2).astype(int).tolist()
    return View.square(left, top, side, size)

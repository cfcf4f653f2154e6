"""A view: a square of an image or slice around one box, shown at one of a few sizes.

The network sees an object at about the scale it was trained at, and only what is around it is encoded. How large a view
is goes by the box: small objects fill the smallest, the borders of large ones need the largest.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.views.letterbox import sampling_positions

WIDEST_MARGIN = 0.15  # of the box, at most
ELSEWHERE = np.float32(-2)  # sampling position of a pixel beyond the view: beside no pixel of it


@dataclass(frozen=True)
class View:
    """A square of an image, in px of the image, and the px it is shown in. Its corner may lie outside of the image."""

    left: int
    top: int
    side: int
    size: int

    @property
    def scale(self) -> float:
        """Pixels of the view per pixel of the image."""
        return self.size / self.side

    @property
    def inner_height(self) -> int:
        """Rows of the view that can hold a mask: all."""
        return self.size

    @property
    def inner_width(self) -> int:
        """Columns of the view that can hold a mask: all."""
        return self.size

    def prepare(self, image: npt.NDArray[np.uint8], low: int, high: int) -> npt.NDArray[np.float32]:
        """Network input (3, size, size) in [0, 1] of an image (H, W, 3) or slice (H, W); zeros beyond its border.

        Args:
            low, high: what becomes 0 and 1, the whole image's minimum and maximum.
        """
        shown = self.show(image, low)
        stretched = (shown.astype(np.float32) - low) / np.float32(max(high - low, 1))
        planes = stretched[None] if stretched.ndim == 2 else stretched.transpose(2, 0, 1)
        return np.ascontiguousarray(np.broadcast_to(planes, (3, self.size, self.size)))

    def show(self, image: npt.NDArray[np.uint8], beyond: int) -> npt.NDArray[np.uint8]:
        """The square of an image (H, W[, C]) at `size` px: area averages, or bilinear where it is enlarged."""
        square = np.full((self.side, self.side, *image.shape[2:]), beyond, dtype=np.uint8)
        top, left = max(self.top, 0), max(self.left, 0)
        part = image[top : self.top + self.side, left : self.left + self.side]
        square[top - self.top :, left - self.left :][: part.shape[0], : part.shape[1]] = part
        method = cv2.INTER_AREA if self.side > self.size else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(square, (self.size, self.size), interpolation=method), dtype=np.uint8)

    def boxes_to_view(self, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) of inclusive pixels of the image in those of the view: outer edge to outer edge."""
        outer = boxes + np.array([0, 0, 1, 1]) - np.array([self.left, self.top] * 2)
        return (outer * self.scale - np.array([0, 0, 1, 1])).astype(np.float32)

    def rows_to_view(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Sampling positions in the view for rows of the image, ELSEWHERE beyond it."""
        return self._positions(rows - self.top)

    def columns_to_view(self, columns: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Sampling positions in the view for columns of the image, ELSEWHERE beyond it."""
        return self._positions(columns - self.left)

    def _positions(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        within = (index >= 0) & (index < self.side)
        return np.where(within, sampling_positions(index, self.size, self.side), ELSEWHERE)


@dataclass(frozen=True)
class ViewLadder:
    """The views that a model was trained on: `views` of its model folder."""

    sizes: tuple[int, ...]  # px, ascending
    box_share: float  # of a view's side that the longer side of a box fills
    least_scale: float  # px of the view per px of the image: the smallest view that shows a box at no less is taken

    def problem(self, stride: int, frame_px: int) -> str | None:
        """Why a network cannot be given these views, `stride` px a cell and frames of `frame_px`; None: it can."""
        sizes = self.sizes
        fitting = all(isinstance(size, int) and size > 0 and size % stride == 0 for size in sizes)
        if not fitting or list(sizes) != sorted(set(sizes)):
            return f"sizes {sizes} must ascend and be multiples of {stride}"
        if not sizes or sizes[-1] > frame_px:
            return f"sizes {sizes} must be at least one, and at most {frame_px}"
        if not 0 < self.box_share <= 1:
            return f"box_share {self.box_share} must be above 0 and at most 1"
        if not 0 < self.least_scale < math.inf:
            return f"least_scale {self.least_scale} must be above 0"
        return None

    def view_around(self, box: npt.NDArray[np.float64]) -> View:
        """The view of a box (x_min, y_min, x_max, y_max), inclusive pixels, in its middle; the largest at most."""
        extent = float((box[2:] - box[:2]).max()) + 1
        fitting = (size for size in self.sizes if size * self.box_share >= self.least_scale * extent)
        return view_around(box, next(fitting, self.sizes[-1]), self.box_share)


def view_around(box: npt.NDArray[np.float64], size: int, box_share: float) -> View:
    """The view of `size` px that shows a box (x_min, y_min, x_max, y_max), inclusive pixels, in its middle."""
    side = max(1, round((float((box[2:] - box[:2]).max()) + 1) / box_share))
    left, top = np.rint((box[:2] + box[2:] + 1 - side) / 2).astype(int).tolist()
    return View(left, top, side, size)


def expected_extents(boxes: npt.NDArray[np.float64], margin_px: float) -> npt.NDArray[np.float64]:
    """Where the objects in boxes (N, 4) of inclusive pixels are expected to end: what prompts for them in their views.

    A view shows a box at about one size, whatever that was; how much lies between prompt and box tells the network how
    loose the box may be: much for a nucleus, nothing for a lung.

    Args:
        margin_px: expected between each side of a box and its object; 0: the boxes are tight.
    """
    margin = np.minimum(margin_px, WIDEST_MARGIN * (boxes[:, 2:] - boxes[:, :2] + 1))
    return boxes + np.concatenate([margin, -margin], axis=1)

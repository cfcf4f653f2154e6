"""A square of an image or slice around one box, shown so large that the box has the size the model was trained at.

Objects are seen at one scale, whatever they measure, at 0.05 of a frame's time to encode. Mean DSC over modalities of
208 public cases: 0.763 by samedge-base as it was trained on frames and regions, 0.788 after 90 minutes more on crops,
0.808 after 75 more with prompts that tell how loose a box may be, and 3D boxes that follow the image (alone 0.793).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.geometry import sampling_positions

CROP_PX = 56  # side of what is encoded: the encoder's window of 14 cells of 4 px, so that nothing is padded
SHOWN_PX = 46  # of the crop's side that the longer side of a box fills
LOOSE_PX = 2.5  # of the image between each side of a box and its object, as expected: the challenge's are 0 to 5
LOOSEST = 0.15  # of the box, at most
ELSEWHERE = np.float32(-2)  # sampling position of a pixel beyond the crop: beside no pixel of it


@dataclass(frozen=True)
class Crop:
    """A square of an image, in px of the image, and the px it is shown in. Its corner may lie outside of the image."""

    left: int
    top: int
    side: int
    size: int = CROP_PX

    @property
    def scale(self) -> float:
        """Crop pixels per pixel of the image."""
        return self.size / self.side

    @property
    def inner_height(self) -> int:
        """Rows of the crop that can hold a mask: all."""
        return self.size

    @property
    def inner_width(self) -> int:
        """Columns of the crop that can hold a mask: all."""
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

    def boxes_to_model(self, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) of inclusive pixels of the image in those of the crop: outer edge to outer edge."""
        outer = boxes + np.array([0, 0, 1, 1]) - np.array([self.left, self.top] * 2)
        return (outer * self.scale - np.array([0, 0, 1, 1])).astype(np.float32)

    def rows_to_model(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Sampling positions in the crop for rows of the image, ELSEWHERE beyond it."""
        return self._positions(rows - self.top)

    def columns_to_model(self, columns: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Sampling positions in the crop for columns of the image, ELSEWHERE beyond it."""
        return self._positions(columns - self.left)

    def _positions(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        within = (index >= 0) & (index < self.side)
        return np.where(within, sampling_positions(index, self.size, self.side), ELSEWHERE)


def crop_around(box: npt.NDArray[np.float64], shown_px: float = SHOWN_PX) -> Crop:
    """The crop that shows a box (x_min, y_min, x_max, y_max), inclusive pixels, in its middle and `shown_px` long."""
    extent = float((box[2:] - box[:2]).max()) + 1
    side = max(1, round(CROP_PX * extent / shown_px))
    left, top = np.rint((box[:2] + box[2:] + 1 - side) / 2).astype(int).tolist()
    return Crop(left, top, side)


def expected_extents(boxes: npt.NDArray[np.float64], loose_px: float) -> npt.NDArray[np.float64]:
    """Where the objects in boxes (N, 4) of inclusive pixels are expected to end: what prompts for them in their crops.

    A crop shows a box at one size, whatever that was; how much of the crop lies between prompt and box tells the
    network how loose the box may be: much for a nucleus, nothing for a lung.

    Args:
        loose_px: expected between each side of a box and its object; 0: the boxes are tight.
    """
    margin = np.minimum(loose_px, LOOSEST * (boxes[:, 2:] - boxes[:, :2] + 1))
    return boxes + np.concatenate([margin, -margin], axis=1)

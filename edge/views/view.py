"""A view: a part of an image or slice as the network is shown it. The only place where coordinates are converted.

Either a square around one box or, as a letterbox, the whole of it: one forward and one inverse geometry.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

FRAME_PX = 256  # side of the letterbox that the public checkpoint takes
ELSEWHERE = np.float32(-2)  # sampling position of a pixel beyond the view: beside no pixel of it


@dataclass(frozen=True)
class View:
    """A rectangle of an image, in px of the image, shown in the top left of `size` x `size` px, which it fills.

    Its corner may lie outside of the image.
    """

    left: int
    top: int
    width: int
    height: int
    size: int
    enlarging: int = cv2.INTER_LINEAR  # how OpenCV shows it where it is enlarged; reduced are area averages

    @classmethod
    def square(cls, left: int, top: int, side: int, size: int) -> "View":
        """A square of `side` px of the image."""
        return cls(left, top, side, side, size)

    @classmethod
    def letterbox(cls, height: int, width: int, size: int = FRAME_PX) -> "View":
        """All of an image (height, width), as the public baseline shows it."""
        return cls(0, 0, width, height, size, cv2.INTER_AREA)

    @property
    def scale(self) -> float:
        """Pixels of the view per pixel of the image."""
        return self.size / max(self.width, self.height)

    @property
    def inner_height(self) -> int:
        """Rows of the view that hold image; the rest is padding."""
        return max(1, int(self.height * self.scale + 0.5))

    @property
    def inner_width(self) -> int:
        """Columns of the view that hold image."""
        return max(1, int(self.width * self.scale + 0.5))

    def show(self, image: npt.NDArray, beyond: int = 0) -> npt.NDArray:
        """The view's part of an image (H, W[, C]) at (inner_height, inner_width[, C]), its type kept.

        Args:
            beyond: value outside of the image.
        """
        top, left = max(self.top, 0), max(self.left, 0)
        part = image[top : max(self.top + self.height, 0), left : max(self.left + self.width, 0)]
        if part.shape[:2] != (self.height, self.width):
            inside = part
            part = np.full((self.height, self.width, *image.shape[2:]), beyond, dtype=image.dtype)
            part[top - self.top :, left - self.left :][: inside.shape[0], : inside.shape[1]] = inside
        method = cv2.INTER_AREA if max(self.width, self.height) > self.size else self.enlarging
        shown = cv2.resize(part, (self.inner_width, self.inner_height), interpolation=method)
        return np.asarray(shown, dtype=image.dtype)

    def boxes_to_view(self, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) of inclusive pixels of the image in those of the view: outer edge to outer edge."""
        outer = boxes + np.array([0, 0, 1, 1]) - np.array([self.left, self.top] * 2)
        return (outer * self.scale - np.array([0, 0, 1, 1])).astype(np.float32)

    def rows_to_view(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Sampling positions in the view for rows of the image, ELSEWHERE beyond it."""
        return _positions(rows - self.top, self.inner_height, self.height)

    def columns_to_view(self, columns: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Sampling positions in the view for columns of the image, ELSEWHERE beyond it."""
        return _positions(columns - self.left, self.inner_width, self.width)


def _positions(index: npt.NDArray[np.int64], shown: int, length: int) -> npt.NDArray[np.float32]:
    """Where pixels of a line of `length` lie on one of `shown` pixels (bilinear, `align_corners=False`)."""
    ratio = np.float32(shown / length)
    positions = np.maximum((index.astype(np.float32) + np.float32(0.5)) * ratio - np.float32(0.5), 0)
    return np.where((index >= 0) & (index < length), positions, ELSEWHERE)

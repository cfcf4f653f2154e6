"""Where a pixel of the original lies in the model frame, and back: the only place where coordinates are rounded."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MODEL_SIZE = 256  # side of the model frame in px
PROPAGATION_MARGIN_PX = 3  # a mask's extent is widened by this much before it prompts the next slice


@dataclass(frozen=True)
class Frame:
    """The fit of an (height, width) image into the top left of a `size` x `size` frame, longest side filling it."""

    height: int  # of the original, px
    width: int  # of the original, px
    size: int = MODEL_SIZE  # side of the model frame, px

    @property
    def scale(self) -> float:
        """Model-frame pixels per original pixel."""
        return self.size / max(self.height, self.width)

    @property
    def inner_height(self) -> int:
        """Rows of the model frame that hold image; the rest is padding."""
        return max(1, int(self.height * self.scale + 0.5))

    @property
    def inner_width(self) -> int:
        """Columns of the model frame that hold image."""
        return max(1, int(self.width * self.scale + 0.5))

    def boxes_to_model(self, boxes: npt.NDArray[np.float64], *, truncate: bool = False) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) of the original in the model frame; `truncate` cuts to whole pixels as the baseline does."""
        scaled = boxes * self.scale
        return (np.trunc(scaled) if truncate else scaled).astype(np.float32)

    def rows_to_view(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Sampling positions on the model grid for rows of the original (bilinear, `align_corners=False`)."""
        return sampling_positions(rows, self.inner_height, self.height)

    def columns_to_view(self, columns: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Sampling positions on the model grid for columns of the original."""
        return sampling_positions(columns, self.inner_width, self.width)


def mask_extent(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """First and last row, first and last column (inclusive) of a mask's true pixels, or None where there are none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def box_around(mask: npt.NDArray[np.bool_], size: int = MODEL_SIZE) -> npt.NDArray[np.float32] | None:
    """The box (4,) that prompts the next slice: a model-frame mask's extent, widened, clipped to [0, size]."""
    extent = mask_extent(mask)
    if extent is None:
        return None
    top, bottom, left, right = extent
    corners = [left - PROPAGATION_MARGIN_PX, top - PROPAGATION_MARGIN_PX]
    corners += [right + PROPAGATION_MARGIN_PX, bottom + PROPAGATION_MARGIN_PX]
    return np.clip(np.array(corners, dtype=np.float32), 0, size)


def sampling_positions(index: npt.NDArray[np.int64], model_length: int, length: int) -> npt.NDArray[np.float32]:
    """Where pixels of a line of `length` lie on one of `model_length` (bilinear, `align_corners=False`)."""
    ratio = np.float32(model_length / length)
    return np.maximum((index.astype(np.float32) + np.float32(0.5)) * ratio - np.float32(0.5), 0)

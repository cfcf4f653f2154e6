"""Logits of the model frame back to the image's size, only where they can be positive.

The inverse of `preprocess`: crop the padding away, then bilinear (`align_corners=False`) to the original size. A
restored pixel mixes four model pixels, so it can be positive only beside a positive one: a `LogitWindow` keeps those
and their neighbours, and restoring any part of it gives the same numbers as restoring everything.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.views.letterbox import Frame, mask_extent
from edge.views.view import View

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LogitWindow:
    """The part of one box's logit map that can be positive after restoring, in its frame or view."""

    label: int  # k for the k-th box, from 1
    frame: Frame | View  # where the map lies in the image
    top: int  # row of the model frame where `logits` begins
    left: int  # column of the model frame where `logits` begins
    logits: Logits  # (h, w), owned
    positive_rows: tuple[int, int]  # first and last row of the model frame with a positive logit
    positive_columns: tuple[int, int]


def positive_window(logits: Logits, label: int, frame: Frame | View) -> LogitWindow | None:
    """The window of a frame's or view's logit map (size, size) around its positive pixels; None where none is."""
    inner = logits[: frame.inner_height, : frame.inner_width]
    extent = mask_extent(inner > 0)
    if extent is None:
        return None
    top, bottom, left, right = extent
    first_row, first_column = max(top - 1, 0), max(left - 1, 0)
    window = inner[first_row : bottom + 2, first_column : right + 2].copy()
    return LogitWindow(label, frame, first_row, first_column, window, (top, bottom), (left, right))


def restore_rows(window: LogitWindow, width: int, start: int, stop: int) -> tuple[slice, slice, Logits]:
    """The window's restored logits within rows start..stop (half-open) of an original of `width` columns.

    Returns:
        Rows and columns of the original (slices), and their logits; all empty when the window does not reach there.
    """
    frame = window.frame
    positions = frame.rows_to_view(np.arange(start, stop))
    rows, above, row_weight = _samples(positions, *window.positive_rows, frame.inner_height)
    if above.size == 0:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), dtype=np.float32)
    positions = frame.columns_to_view(np.arange(width))
    columns, before, column_weight = _samples(positions, *window.positive_columns, frame.inner_width)
    lowest, highest = int(above[0]), min(int(above[-1]) + 1, frame.inner_height - 1)
    band = window.logits[lowest - window.top : highest - window.top + 1]
    wide = _interpolate(band.T, before - window.left, column_weight).T
    rows = slice(rows.start + start, rows.stop + start)
    return rows, columns, _interpolate(np.ascontiguousarray(wide), above - lowest, row_weight)


def restore(logits: Logits, frame: Frame) -> Logits:
    """A whole logit map (size, size) at the original size (height, width)."""
    inner = logits[: frame.inner_height, : frame.inner_width]
    whole = LogitWindow(1, frame, 0, 0, inner, (0, frame.inner_height - 1), (0, frame.inner_width - 1))
    return restore_rows(whole, frame.width, 0, frame.height)[2]


def restored_mask(logits: Logits, frame: Frame) -> npt.NDArray[np.bool_]:
    """Where a whole logit map (size, size) is positive at the original size (height, width).

    Only the window that can be positive is restored: 0.1 ms instead of 2 ms for an object of 50 px in 512 x 512.
    """
    mask = np.zeros((frame.height, frame.width), dtype=bool)
    window = positive_window(logits, 1, frame)
    if window is not None:
        rows, columns, restored = restore_rows(window, frame.width, 0, frame.height)
        mask[rows, columns] = restored > 0
    return mask


def _samples(
    positions: npt.NDArray[np.float32], first: int, last: int, length: int
) -> tuple[slice, npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Which of the positions touch model pixels first..last: their range, lower neighbour and weight of the upper."""
    lower = np.minimum(positions.astype(np.intp), length - 1)
    reached = np.flatnonzero((lower >= first - 1) & (lower <= last))
    if reached.size == 0:
        return slice(0, 0), lower[:0], positions[:0]
    chosen = slice(int(reached[0]), int(reached[-1]) + 1)
    weight = positions[chosen] - lower[chosen].astype(np.float32)
    return chosen, lower[chosen], weight


def _interpolate(values: Logits, lower: npt.NDArray[np.intp], weight: npt.NDArray[np.float32]) -> Logits:
    """Rows of `values` mixed pairwise: row `lower` and the next one (the last row is its own neighbour)."""
    base = values[lower]
    step = values[np.minimum(lower + 1, len(values) - 1)]
    step -= base
    step *= weight[:, None]
    step += base
    return step

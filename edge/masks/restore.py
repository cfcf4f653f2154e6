"""Logits of a view back to the image's size, only where they can be positive.

The inverse of showing it: crop the padding away, then bilinear (`align_corners=False`) to the original size. A
restored pixel mixes four of the view, so it can be positive only beside a positive one: a `LogitWindow` keeps those
and their neighbours, and restoring any part of it gives the same numbers as restoring everything.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.data.extent import extent_of
from edge.prompts.prompt import Box, Mask
from edge.views.view import View

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LogitWindow:
    """The part of one box's logit map that can be positive after restoring, in its view."""

    label: int  # k for the k-th box, from 1
    view: View  # where the map lies in the image
    top: int  # row of the view where `logits` begins
    left: int  # column of the view where `logits` begins
    logits: Logits  # (h, w), owned
    positive_rows: tuple[int, int]  # first and last row of the view with a positive logit
    positive_columns: tuple[int, int]
    within: Box | None = None  # of the image, inclusive px, beyond which nothing is restored; None: nowhere


def positive_window(logits: Logits, label: int, view: View, within: Box | None = None) -> LogitWindow | None:
    """The window of a view's logit map (size, size) around its positive pixels; None where none is."""
    inner = logits[: view.inner_height, : view.inner_width]
    (top, bottom), (left, right) = ((part.start, part.stop - 1) for part in extent_of(inner > 0))
    if bottom < 0:
        return None
    first_row, first_column = max(top - 1, 0), max(left - 1, 0)
    window = inner[first_row : bottom + 2, first_column : right + 2].copy()
    return LogitWindow(label, view, first_row, first_column, window, (top, bottom), (left, right), within)


def restore_rows(window: LogitWindow, width: int, start: int, stop: int) -> tuple[slice, slice, Logits]:
    """The window's restored logits within rows start..stop (half-open) of an original of `width` columns.

    Of a box that is `within`, its own pixels at most, those it cuts included. A tight box holds all of its object:
    staying within it gave 0.1 to 1.4 DSC points on each of eleven modalities of 138 public images.

    Returns:
        Rows and columns of the original (slices), and their logits; all empty when the window does not reach there.
    """
    view = window.view
    left, top, right, bottom = _bounds(window.within, width, start, stop)
    positions = view.rows_to_view(np.arange(top, bottom))
    rows, above, row_weight = _samples(positions, *window.positive_rows, view.inner_height)
    positions = view.columns_to_view(np.arange(left, right))
    columns, before, column_weight = _samples(positions, *window.positive_columns, view.inner_width)
    if above.size == 0 or before.size == 0:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), dtype=np.float32)
    lowest, highest = int(above[0]), min(int(above[-1]) + 1, view.inner_height - 1)
    band = window.logits[lowest - window.top : highest - window.top + 1]
    wide = _interpolate(band.T, before - window.left, column_weight).T
    rows, columns = slice(rows.start + top, rows.stop + top), slice(columns.start + left, columns.stop + left)
    return rows, columns, _interpolate(np.ascontiguousarray(wide), above - lowest, row_weight)


def rows_reached(window: LogitWindow, height: int) -> tuple[int, int]:
    """The rows (half-open) of an original of `height` rows beyond which `restore_rows` gives nothing.

    At most a row of the view and one of the original too many on each side.
    """
    _, top, _, bottom = _bounds(window.within, 0, 0, height)
    view, (first, last) = window.view, window.positive_rows
    row_px = view.height / view.inner_height
    start, stop = math.floor((first - 1) * row_px) - 1, math.ceil((last + 2) * row_px) + 1
    return max(top, view.top + start), min(bottom, view.top + stop)


def restored_mask(window: LogitWindow, width: int, height: int) -> Mask | None:
    """Where a window is positive on its slice of `width` x `height` px, cut to its extent; None: nowhere.

    Only what can be positive is restored: 0.1 ms instead of 2 ms for an object of 50 px in 512 x 512.
    """
    rows, columns, restored = restore_rows(window, width, 0, height)
    return Mask.cut(restored > 0, columns.start, rows.start)


def _bounds(within: Box | None, width: int, start: int, stop: int) -> tuple[int, int, int, int]:
    """First column and row of the image to restore, and those after the last."""
    if within is None:
        return 0, start, width, stop
    (left, top), (right, bottom) = np.floor(within[:2]).astype(int), np.ceil(within[2:]).astype(int) + 1
    return max(0, int(left)), max(start, int(top)), min(width, int(right)), min(stop, int(bottom))


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

"""From each box's restored logits to one label map."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge.data.labels import label_dtype
from edge.masks.restore import Logits, LogitWindow, restore_rows, rows_reached

STRIP_ROWS = 64  # restored logits exist for this many rows at a time: in cache, and never a full-size float array
NESTED_WITHIN, NESTED_AREA = 0.8, 0.7  # of a box's area that lies in the outer one; of the outer one's area it may have

Nested = Sequence[tuple[int, int]]  # labels: the inner one, the outer one


def nested_boxes(boxes: npt.NDArray[np.float64]) -> Nested:
    """Which box (x_min, y_min, x_max, y_max), inclusive pixels, is nested in which.

    Four fifths of its area within the other, and clearly smaller: a left ventricle in its myocardium, a lesion in an
    organ, but not a cell beside a cell.
    """
    low, high = boxes[:, :2], boxes[:, 2:] + 1
    area = (high - low).prod(axis=1)
    pairs = []
    for outer in range(len(boxes)):
        overlap = (np.minimum(high, high[outer]) - np.maximum(low, low[outer])).clip(min=0).prod(axis=1)
        inner = (overlap >= NESTED_WITHIN * area) & (area <= NESTED_AREA * area[outer])
        pairs += [(int(row) + 1, outer + 1) for row in np.flatnonzero(inner)]
    return pairs


class LabelMaps:
    """The labels of a case's slices, each merged once all of its boxes have answered."""

    def __init__(
        self, shape: tuple[int, ...], boxes: int, boxes_per_slice: Mapping[int, int], *, nested: Nested, last_wins: bool
    ) -> None:
        """What is waited for.

        Args:
            shape: (D, H, W).
            boxes: in all.
            boxes_per_slice: slice -> how many of them have an answer there.
            nested, last_wins: as `merge` takes them.
        """
        self.labels: npt.NDArray = np.zeros(shape, label_dtype(boxes))
        self._nested, self._last_wins = nested, last_wins
        self._missing = dict(boxes_per_slice)
        self._windows: dict[int, list[LogitWindow]] = {z: [] for z in boxes_per_slice}

    def add(self, z: int, window: LogitWindow | None) -> bool:
        """One box's answer on slice z, None: nothing is positive; whether it was the slice's last."""
        if window is not None:
            self._windows[z].append(window)
        self._missing[z] -= 1
        if self._missing[z] == 0:
            merge(self._windows.pop(z), self.labels[z], nested=self._nested, last_wins=self._last_wins)
        return self._missing[z] == 0

    def so_far(self, z: int) -> npt.NDArray:
        """The labels (H, W) of slice z, merged of the boxes that have answered."""
        if self._missing[z] == 0:
            return self.labels[z]
        labels = np.zeros_like(self.labels[z])
        merge(self._windows[z], labels, nested=self._nested, last_wins=self._last_wins)
        return labels


def merge(
    windows: Iterable[LogitWindow],
    out: npt.NDArray,
    *,
    nested: Nested = (),
    last_wins: bool = False,
) -> None:
    """Fill `out` (height, width) with labels: argmax over background (logit 0) and boxes, after restoring each.

    Args:
        windows: of one slice, at most one per box.
        out: zeros, of `label_dtype`.
        nested: where a nested box is positive, those that it is nested in are out of the comparison: their masks tend
            to be filled. On 69 public 2D images of several objects, of which 10 are MR: DSC of MR 0.640 instead of
            0.572 by argmax alone and 0.606 by `last_wins`, of CT 0.726 of 0.714, of no modality lower.
        last_wins: later boxes overwrite earlier ones wherever they are positive, as the public baseline does.
    """
    in_order = sorted(windows, key=lambda window: window.label)
    height, width = out.shape
    reach = [rows_reached(window, height) for window in in_order]  # most boxes are in few of the strips
    for start in range(0, height, STRIP_ROWS):
        stop = min(start + STRIP_ROWS, height)
        here = [window for window, (top, end) in zip(in_order, reach, strict=True) if top < stop and end > start]
        restored = (_Part(window.label, *restore_rows(window, width, start, stop)) for window in here)
        parts = [part for part in restored if part.logits.size]
        _yield_to_nested(parts, nested)
        _merge_strip(parts, out, start, stop, last_wins)


class _Part(NamedTuple):
    """One box's restored logits within a strip."""

    label: int
    rows: slice  # of the image
    columns: slice
    logits: Logits


def _yield_to_nested(parts: list[_Part], nested: Nested) -> None:
    """Make outer boxes negative wherever a box nested in them is positive."""
    by_label = {part.label: part for part in parts}
    pairs = [(by_label[inner], by_label[outer]) for inner, outer in nested if inner in by_label and outer in by_label]
    positive = {inner.label: inner.logits > 0 for inner, _ in pairs}
    for inner, outer in pairs:
        rows, columns = _common(outer.rows, inner.rows), _common(outer.columns, inner.columns)
        taken = positive[inner.label][_within(rows, inner.rows), _within(columns, inner.columns)]
        outer.logits[_within(rows, outer.rows), _within(columns, outer.columns)][taken] = -1


def _common(one: slice, other: slice) -> slice:
    start = max(one.start, other.start)
    return slice(start, max(start, min(one.stop, other.stop)))


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def _merge_strip(parts: list[_Part], out: npt.NDArray, start: int, stop: int, last_wins: bool) -> None:
    best = np.zeros((stop - start, out.shape[1]), dtype=np.float32)
    for label, rows, columns, logits in parts:
        best_here = best[rows.start - start : rows.stop - start, columns]
        wins = logits > (0 if last_wins else best_here)
        out[rows, columns][wins] = label
        np.maximum(best_here, logits, out=best_here)

"""From each box's restored logits to one label map."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from edge.geometry import Frame
from edge.restore import LogitWindow, restore_rows

STRIP_ROWS = 64  # restored logits exist for this many rows at a time: in cache, and never a full-size float array


def label_dtype(boxes: int) -> type[np.uint8] | type[np.uint16]:
    """uint8 as the challenge writes it, uint16 where a label would not fit."""
    return np.uint8 if boxes <= np.iinfo(np.uint8).max else np.uint16


def merge(windows: Iterable[LogitWindow], frame: Frame, out: npt.NDArray, *, last_wins: bool = False) -> None:
    """Fill `out` (height, width) with labels: argmax over background (logit 0) and boxes, after restoring each.

    Args:
        windows: of one slice, at most one per box.
        out: zeros, of `label_dtype`.
        last_wins: later boxes overwrite earlier ones wherever they are positive, as the public baseline does.
    """
    in_order = sorted(windows, key=lambda window: window.label)
    for start in range(0, frame.height, STRIP_ROWS):
        _merge_strip(in_order, frame, out, start, min(start + STRIP_ROWS, frame.height), last_wins)


def _merge_strip(
    windows: list[LogitWindow], frame: Frame, out: npt.NDArray, start: int, stop: int, last_wins: bool
) -> None:
    best = np.zeros((stop - start, frame.width), dtype=np.float32)
    for window in windows:
        rows, columns, logits = restore_rows(window, frame, start, stop)
        if logits.size == 0:
            continue
        best_here = best[rows.start - start : rows.stop - start, columns]
        wins = logits > (0 if last_wins else best_here)
        out[rows, columns][wins] = window.label
        np.maximum(best_here, logits, out=best_here)

"""Which cells a box's mask can reach, and maps put together of those cells' pixels."""

import numpy as np
import pytest

from edge.engines.cells import OUTSIDE, cells_of, logit_maps, windows_over
from edge.engines.graph import Graph, decode_boxes
from edge.views.planners import widened

BOX = np.array([[8, 13, 11, 20]], np.float32)  # columns 2 to 2 and rows 3 to 5 of cells of 4 px


@pytest.mark.parametrize(
    ("reach_px", "window"),
    [(0, [3, 2, 6, 3]), (0.5, [3, 1, 6, 3]), (1, [3, 1, 6, 4]), (1.5, [2, 1, 6, 4]), (100, [0, 0, 8, 8])],
)
def test_a_window_holds_every_cell_within_reach_and_no_other(reach_px: float, window: list[int]) -> None:
    """On 8 x 8 cells of 4 px. x 8 to 11 widened by 0.5 begins in column 1, by 1 it ends at 12, in column 3."""
    assert windows_over(widened(BOX, reach_px), 8, 4).tolist() == [window]


@pytest.mark.parametrize(
    ("within", "stride", "cells"),
    [
        (None, 4, list(range(128))),
        (BOX, 4, [26, 34, 42, 64 + 26, 64 + 34, 64 + 42]),
        (None, 8, list(range(128))),
        (BOX, 8, [9, 17, 64 + 9, 64 + 17]),  # x 8 to 11 in column 1, y 13 to 20 in rows 1 and 2
    ],
)
def test_without_boxes_to_stay_within_all_cells_are_decoded(
    within: np.ndarray | None, stride: int, cells: list[int]
) -> None:
    """Two boxes on 8 x 8 cells: all 64 of each; or those that each reaches, fewer where cells are larger."""
    asked: list[np.ndarray] = []

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        asked.append(inputs["cells"])
        return np.zeros((len(inputs["cells"]), stride, stride), np.float32)

    graph = Graph(["embedding", "boxes", "cells"], run)
    boxes = np.repeat(BOX, 2, axis=0)
    embedding = np.zeros((1, 1, 8, 8), np.float32)
    logits = decode_boxes(graph, embedding, boxes, None if within is None else boxes, stride)
    assert logits.shape == (2, 8 * stride, 8 * stride)
    assert asked[0].tolist() == cells


def test_a_box_outside_the_frame_still_has_a_cell() -> None:
    """The nearest one: a decoder is never asked for nothing."""
    boxes = np.array([[-50, -50, -40, -40], [90, 90, 99, 99]], np.float32)
    assert windows_over(boxes, 8, 4).tolist() == [[0, 0, 1, 1], [7, 7, 8, 8]]


def test_cells_are_numbered_box_by_box_row_by_row() -> None:
    """Of two boxes on 3 x 3 cells: rows 1 and 2 of column 0, then the 2 x 2 cells of the second's lower right."""
    assert cells_of(np.array([[1, 0, 3, 1], [1, 1, 3, 3]]), 3).tolist() == [3, 6, 9 + 4, 9 + 5, 9 + 7, 9 + 8]


def test_patches_go_where_their_cells_are() -> None:
    """2 x 2 cells of 2 px each, their patches numbered: the second box asked for its right column only."""
    windows = np.array([[0, 0, 2, 2], [0, 1, 2, 2]])
    patches = np.arange(6 * 4, dtype=np.float32).reshape(6, 2, 2)
    first, second = logit_maps(patches, windows, 2)
    assert first.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    out = float(OUTSIDE)
    assert second.tolist() == [[out, out, 16, 17], [out, out, 18, 19], [out, out, 20, 21], [out, out, 22, 23]]

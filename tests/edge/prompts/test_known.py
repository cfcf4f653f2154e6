"""Prompts that are known beforehand, and what a prompt is made of."""

import numpy as np
import pytest

from edge.prompts.known import KnownPrompts
from edge.prompts.prompt import Mask, expected_extents
from edge.prompts.slice_ranges import SliceRanges

BOXES = np.array([[10, 10, 29, 29], [11, 11, 30, 30]], dtype=np.float64)


def test_a_box_is_asked_for_on_every_slice_of_its_range_in_one_round() -> None:
    """Slices 0 to 2 and 2 to 3, in order; both after each other on slice 2."""
    ranges = SliceRanges.from_boxes(np.array([[0, 0, 0, 9, 9, 2], [0, 0, 2, 9, 9, 3]], dtype=np.float64))
    (prompts,) = (list(prompts) for prompts in KnownPrompts(np.stack([BOXES] * 4), ranges, 0).rounds())
    assert [(prompt.z, prompt.row) for prompt in prompts] == [(0, 0), (1, 0), (2, 0), (2, 1), (3, 1)]
    for prompt in prompts:
        box = BOXES[prompt.row].tolist()
        assert prompt.box.tolist() == prompt.extent.tolist() == prompt.within.tolist() == box
        assert prompt.neighbour is None and prompt.in_frame is None


def test_each_slice_has_its_own_box_which_bounds_labels_and_whose_object_is_smaller() -> None:
    """Boxes that move by a pixel a slice, 2 px loose on each side."""
    moving = np.stack([BOXES + z for z in range(3)])
    ranges = SliceRanges.from_boxes(np.array([[0, 0, 0, 9, 9, 2], [0, 0, 0, 9, 9, 2]], dtype=np.float64))
    source = KnownPrompts(moving, ranges, 2)
    (prompts,) = (list(prompts) for prompts in source.rounds())
    assert len(prompts) == 6 and source.wants == "nothing"
    for prompt in prompts:
        box = moving[prompt.z, prompt.row]
        assert prompt.within.tolist() == prompt.box.tolist() == box.tolist()
        assert prompt.extent.tolist() == (box + np.array([2, 2, -2, -2])).tolist()


def test_prompts_are_made_when_they_are_asked_for() -> None:
    """Those of a long volume are never there all at once."""
    ranges = SliceRanges.from_boxes(np.array([[0, 0, 0, 9, 9, 1], [0, 0, 0, 9, 9, 1]], dtype=np.float64))
    boxes = np.stack([BOXES] * 2)
    (prompts,) = KnownPrompts(boxes, ranges, 0).rounds()
    first = next(iter(prompts))
    boxes[1] = 5
    assert first.box.tolist() == BOXES[0].tolist()
    assert [prompt.box.tolist() for prompt in prompts if prompt.z == 1] == [[5, 5, 5, 5]] * 2


def test_a_prompt_ends_where_the_object_is_expected_to() -> None:
    """2.5 px within each side of a large box, 15 % of a small one's side, each axis by itself; of slices, too."""
    boxes = np.array([[10, 20, 109, 29], [0, 0, 0, 0]], float)
    expected = [[12.5, 21.5, 106.5, 27.5], [0.15, 0.15, -0.15, -0.15]]
    assert expected_extents(boxes, margin_px=2.5).tolist() == expected
    assert expected_extents(np.stack([boxes, boxes]), margin_px=2.5).tolist() == [expected, expected]
    assert expected_extents(boxes[0], margin_px=1).tolist() == [11, 21, 108, 28]


@pytest.mark.parametrize(("left", "top"), [(0, 0), (3, 2), (4, 5)])
def test_a_mask_is_painted_where_it_was_cut_out(left: int, top: int) -> None:
    """Two rows of three pixels on a slice of 7 x 7, at its borders too."""
    mask = Mask(left, top, np.array([[1, 1, 0], [0, 0, 1]], bool))
    painted = mask.painted(7, 7)
    assert np.argwhere(painted).tolist() == [[top, left], [top, left + 1], [top + 1, left + 2]]
    assert mask.box.tolist() == [left, top, left + 2, top + 1]

"""Where 3D boxes live, worked out by hand."""

import numpy as np
import pytest

from edge.prompts.slice_ranges import SliceRanges


def ranges_of(*z_ranges: tuple[float, float]) -> SliceRanges:
    return SliceRanges.from_boxes(np.array([[0, 0, low, 9, 9, high] for low, high in z_ranges], dtype=np.float64))


@pytest.mark.parametrize(
    ("low", "high", "middle"),
    [(0, 8, 4), (1, 7, 4), (2, 6, 4), (0, 1, 0), (0, 0, 0), (5, 5, 5), (3, 8, 5), (3.5, 8.25, 5), (2, 5, 3)],
)
def test_the_middle_slice_is_the_challenges(low: float, high: float, middle: int) -> None:
    """`int((z_max - z_min) / 2 + z_min)`: 3 to 8 is 5.5, so 5; 0 to 1 is 0."""
    ranges = ranges_of((low, high))
    assert (ranges.first[0], ranges.middle[0], ranges.last[0]) == (int(low), middle, int(high))
    assert middle == int((high - low) / 2 + low)


def test_orders_cover_every_slice_of_every_box_both_ends_included() -> None:
    """Boxes over 2 to 6 and 9 to 10: nothing is walked between them."""
    ranges = ranges_of((2, 6), (9, 10))
    assert ranges.covered_order() == [2, 3, 4, 5, 6, 9, 10]
    assert ranges.ascending_order() == [4, 5, 6, 9, 10]
    assert ranges.descending_order() == [3, 2]
    assert ranges.boxes_per_slice() == {2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 9: 1, 10: 1}
    assert ranges_of((0, 3), (2, 4)).boxes_per_slice() == {0: 1, 1: 1, 2: 2, 3: 2, 4: 1}


def test_shares_are_an_ellipsoids_sections() -> None:
    """Slices 0 to 4 and 2 to 3: at 1 and 2 of 2.5 slices from the middle sqrt(0.84), 0.6, at 1 of 1.5 sqrt(5) / 3."""
    ranges = ranges_of((0, 4), (2, 3))
    assert ranges.shares(2).tolist() == [1, 1]
    assert ranges.shares(1)[0] == pytest.approx(0.84**0.5)
    assert ranges.shares(3) == pytest.approx([0.84**0.5, 5**0.5 / 3])
    assert [ranges.shares(0)[0], ranges.shares(4)[0]] == pytest.approx([0.6, 0.6])


def test_no_boxes_cover_nothing() -> None:
    """A volume without objects."""
    ranges = SliceRanges.from_boxes(np.zeros((0, 6)))
    assert ranges.covered_order() == ranges.ascending_order() == ranges.descending_order() == []

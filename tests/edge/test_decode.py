"""The walk of 3D boxes, worked out by hand against a decoder that remembers what it was asked."""

from collections.abc import Iterator

import numpy as np
import pytest

from edge.decode import decode_each, decode_propagating
from edge.prompts.slice_ranges import SliceRanges
from edge.views.letterbox import box_around

SIZE = 32


class Recorder:
    """Embeddings are filled with their slice; a decoder answers +1 inside the box given, -1 outside."""

    def __init__(self, empty_on: tuple[int, ...] = ()) -> None:
        self.calls: list[tuple[int, list[list[float]]]] = []
        self.empty_on = empty_on  # slices where nothing is found

    def decode(self, embedding: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        z = int(embedding[0, 0, 0, 0])
        self.calls.append((z, boxes.tolist()))
        logits = np.full((len(boxes), SIZE, SIZE), -1, np.float32)
        if z not in self.empty_on:
            for row, (x_min, y_min, x_max, y_max) in enumerate(boxes.astype(int)):
                logits[row, y_min : y_max + 1, x_min : x_max + 1] = 1
        return logits

    @property
    def walk(self) -> list[int]:
        return [z for z, _ in self.calls]


def ranges_of(*z_ranges: tuple[float, float]) -> SliceRanges:
    return SliceRanges.from_boxes(np.array([[0, 0, low, 9, 9, high] for low, high in z_ranges], dtype=np.float64))


def prompts(count: int) -> np.ndarray:
    """Boxes (N, 4) that can be told apart: 10 10 20 20, 11 11 20 20, ..."""
    return np.array([[10 + row, 10 + row, 20, 20] for row in range(count)], dtype=np.float32)


def embeddings(order: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    for z in order:
        yield z, np.full((1, 1, 1, 1), z, np.float32)


def next_prompt(logits: np.ndarray, _row: int) -> np.ndarray | None:
    return box_around(logits > 0, SIZE)


def propagate(recorder: Recorder, ranges: SliceRanges, block: int = 8) -> list[tuple[int, int]]:
    order = ranges.ascending_order() + ranges.descending_order()
    boxes = prompts(len(ranges.first))
    steps = decode_propagating(recorder.decode, embeddings(order), boxes, ranges, block, next_prompt)
    return [(z, row) for z, row, _ in steps]


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


def test_a_box_walks_from_its_middle_up_then_down_and_widens_by_three() -> None:
    """Slices 2 to 6, the mask is the prompt itself: 10 to 20 on slice 4, 7 to 23 on 5 and 3, 4 to 26 on 6 and 2."""
    recorder = Recorder()
    assert propagate(recorder, ranges_of((2, 6))) == [(4, 0), (5, 0), (6, 0), (3, 0), (2, 0)]
    by_slice = dict(recorder.calls)
    assert by_slice[4] == [[10, 10, 20, 20]]
    assert by_slice[5] == by_slice[3] == [[7, 7, 23, 23]]
    assert by_slice[6] == by_slice[2] == [[4, 4, 26, 26]]


def test_the_way_down_starts_from_the_middle_not_from_the_last_slice() -> None:
    """Nothing found on the way up at 5: slice 6 starts anew, slice 3 still follows slice 4."""
    recorder = Recorder(empty_on=(5,))
    propagate(recorder, ranges_of((2, 6)))
    by_slice = dict(recorder.calls)
    assert by_slice[6] == [[10, 10, 20, 20]]
    assert by_slice[3] == [[7, 7, 23, 23]] and by_slice[2] == [[4, 4, 26, 26]]


def test_after_an_empty_middle_both_ways_start_with_the_box_itself() -> None:
    """And after an empty slice on the way down, too."""
    recorder = Recorder(empty_on=(4, 3))
    propagate(recorder, ranges_of((2, 6)))
    by_slice = dict(recorder.calls)
    assert by_slice[5] == by_slice[3] == by_slice[2] == [[10, 10, 20, 20]]
    assert by_slice[6] == [[7, 7, 23, 23]]


@pytest.mark.parametrize("z", [0, 7])
def test_an_object_on_one_slice_is_decoded_there_once(z: int) -> None:
    """The public baseline refuses z_min equal to z_max."""
    recorder = Recorder()
    assert propagate(recorder, ranges_of((z, z))) == [(z, 0)]
    assert recorder.calls == [(z, [[10, 10, 20, 20]])]


def test_an_object_on_two_slices_has_its_middle_on_the_lower_one() -> None:
    """Slices 4 and 5: 4 first."""
    assert propagate(Recorder(), ranges_of((4, 5))) == [(4, 0), (5, 0)]


def test_all_boxes_of_a_slice_go_in_one_call_each_with_its_own_prompt() -> None:
    """Boxes on 0 to 4 and 2 to 6: slice 2 is the first's middle and already below the second's (4)."""
    recorder = Recorder()
    assert propagate(recorder, ranges_of((0, 4), (2, 6))) == [
        (2, 0), (3, 0), (4, 0), (4, 1), (5, 1), (6, 1), (3, 1), (2, 1), (1, 0), (0, 0),
    ]  # fmt: skip
    assert recorder.walk == [2, 3, 4, 5, 6, 3, 2, 1, 0]
    assert recorder.calls[2] == (4, [[4, 4, 26, 26], [11, 11, 20, 20]])
    assert recorder.calls[5] == (3, [[8, 8, 23, 23]])


@pytest.mark.parametrize("block", [1, 2, 3])
def test_blocks_bound_a_call_and_change_nothing(block: int) -> None:
    """Three boxes that share slices: the same prompts and order, in calls of `block`."""
    whole, blocks = Recorder(), Recorder()
    ranges = ranges_of((0, 4), (1, 3), (2, 3))
    assert propagate(blocks, ranges, block) == propagate(whole, ranges)
    asked = [(z, box) for z, boxes in whole.calls for box in boxes]
    assert [(z, box) for z, boxes in blocks.calls for box in boxes] == asked
    assert max(len(boxes) for _, boxes in blocks.calls) == block


def test_next_prompt_is_asked_for_the_right_row() -> None:
    """The baseline's rule depends on the box's label."""
    rows = []
    ranges, order = ranges_of((0, 2), (0, 2)), [1, 2, 0]

    def remember(_logits: np.ndarray, row: int) -> None:
        rows.append(row)

    steps = decode_propagating(Recorder().decode, embeddings(order), prompts(2), ranges, 8, remember)
    assert [row for _, row, _ in steps] == rows == [0, 1, 0, 1, 0, 1]


def test_fixed_decodes_the_box_as_it_is_on_every_slice_of_its_range() -> None:
    """Slices 0 to 2 and 2 to 3, in order; both in one call on slice 2."""
    recorder = Recorder()
    ranges = ranges_of((0, 2), (2, 3))
    steps = decode_each(recorder.decode, embeddings(ranges.covered_order()), np.stack([prompts(2)] * 4), ranges, 8)
    assert [(z, row) for z, row, _ in steps] == [(0, 0), (1, 0), (2, 0), (2, 1), (3, 1)]
    first, second = prompts(2).tolist()
    assert recorder.calls == [(0, [first]), (1, [first]), (2, [first, second]), (3, [second])]


def test_shares_are_an_ellipsoids_sections() -> None:
    """Slices 0 to 4 and 2 to 3: at 1 and 2 of 2.5 slices from the middle sqrt(0.84), 0.6, at 1 of 1.5 sqrt(5) / 3."""
    ranges = ranges_of((0, 4), (2, 3))
    assert ranges.shares(2).tolist() == [1, 1]
    assert ranges.shares(1)[0] == pytest.approx(0.84**0.5)
    assert ranges.shares(3) == pytest.approx([0.84**0.5, 5**0.5 / 3])
    assert [ranges.shares(0)[0], ranges.shares(4)[0]] == pytest.approx([0.6, 0.6])


def test_the_boxes_given_are_left_as_they_were() -> None:
    """Prompts move on copies."""
    boxes = prompts(2)
    ranges = ranges_of((0, 4), (0, 4))
    order = ranges.ascending_order() + ranges.descending_order()
    list(decode_propagating(Recorder().decode, embeddings(order), boxes, ranges, 8, next_prompt))
    assert np.array_equal(boxes, prompts(2))


def test_no_boxes_decode_nothing() -> None:
    """A volume without objects."""
    ranges = SliceRanges.from_boxes(np.zeros((0, 6)))
    assert ranges.covered_order() == [] and propagate(Recorder(), ranges) == []

"""The baseline's walk of 3D boxes, worked out by hand against a decoder that remembers what it was asked."""

import numpy as np
import pytest

from edge.prompts.baseline import BaselinePrompts, box_around
from edge.prompts.prompt import Mask, Prompt, PromptSource
from edge.prompts.slice_ranges import SliceRanges
from edge.views.planners import WholeSlice
from edge.views.view import View

SIZE = 32


class Recorder:
    """Asks for all prompts of a source in slices of the letterbox's size; finds the box given, or nothing."""

    def __init__(self, empty_on: tuple[int, ...] = ()) -> None:
        self.calls: list[tuple[int, list[list[float]]]] = []
        self.empty_on = empty_on  # slices where nothing is found

    def answer(self, source: PromptSource, block: int = 8) -> list[tuple[int, int]]:
        """Slice and row of each prompt, in order."""
        asked = []
        for prompts in source.rounds():
            for batch in WholeSlice(View.letterbox(SIZE, SIZE, SIZE), block).batches(prompts):
                (z,) = {prompt.z for prompt in batch.prompts}
                self.calls.append((z, batch.boxes().tolist()))
                for prompt, box in zip(batch.prompts, batch.boxes(), strict=True):
                    source.give(prompt, None if z in self.empty_on else filled(box))
                    asked.append((z, prompt.row))
        return asked

    @property
    def walk(self) -> list[int]:
        return [z for z, _ in self.calls]


def filled(box: np.ndarray) -> Mask:
    """Every pixel of a slice from a box's first to its last one."""
    left, top, right, bottom = box.astype(int).clip(0, SIZE - 1).tolist()
    return Mask(left, top, np.ones((bottom - top + 1, right - left + 1), bool))


def ranges_of(*z_ranges: tuple[float, float]) -> SliceRanges:
    return SliceRanges.from_boxes(np.array([[0, 0, low, 9, 9, high] for low, high in z_ranges], dtype=np.float64))


def boxes_of(count: int) -> np.ndarray:
    """Boxes (N, 4) that can be told apart: 10 10 20 20, 11 11 20 20, ..."""
    return np.array([[10 + row, 10 + row, 20, 20] for row in range(count)], dtype=np.float64)


def source_of(ranges: SliceRanges, boxes: np.ndarray | None = None) -> BaselinePrompts:
    boxes = boxes_of(len(ranges.first)) if boxes is None else boxes
    return BaselinePrompts(boxes, ranges, (SIZE, SIZE), SIZE, View.letterbox(SIZE, SIZE, SIZE).show)


def propagate(recorder: Recorder, ranges: SliceRanges, block: int = 8) -> list[tuple[int, int]]:
    return recorder.answer(source_of(ranges), block)


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


def test_a_mask_is_drawn_with_its_own_label() -> None:
    """The baseline's rule: one pixel of four averages to 0.25 for label 1, which is nothing, to 0.5 for label 2, 1."""
    boxes = np.array([[20, 20, 40, 40], [20, 20, 40, 40]], dtype=np.float64)
    show = View.letterbox(64, 64, 32).show
    source = BaselinePrompts(boxes, ranges_of((0, 2), (0, 2)), (64, 64), 32, show)
    rounds = source.rounds()
    for prompt in next(rounds):
        source.give(prompt, Mask(24, 26, np.ones((1, 1), bool)))
    own, around = [10, 10, 20, 20], [9, 10, 15, 16]  # 12 and 13, 3 px to either side
    assert [(prompt.row, prompt.in_frame.tolist()) for prompt in next(rounds)] == [(0, own), (1, around)]


def test_boxes_are_cut_to_whole_pixels_of_the_letterbox_after_scaling() -> None:
    """420 px to 256: 83 becomes 50.590, and 50. 3.9 px of a 128-px image is 7.8: 7, not twice 3."""

    def in_frame(box: list[float], shape: tuple[int, int]) -> list[float]:
        source = BaselinePrompts(
            np.array([box]), ranges_of((0, 0)), shape, 256, View.letterbox(shape[0], shape[1]).show
        )
        ((prompt,),) = source.rounds()
        assert prompt.in_frame.dtype == np.float32 and prompt.within is None
        return prompt.in_frame.tolist()

    assert in_frame([83.0, 48.0, 350.0, 242.0], (300, 420)) == [50, 29, 213, 147]
    assert in_frame([3.9, 0.4, 60.5, 128], (128, 128)) == [7, 0, 121, 256]


def test_box_around_a_mask_is_widened_by_three_and_clipped_to_the_letterbox() -> None:
    """x before y; the far clip is at 256, not 255, as the public baseline clips."""
    mask = np.zeros((256, 256), bool)
    assert box_around(mask, 256) is None
    mask[20:31, 40:61] = True
    assert box_around(mask, 256).tolist() == [37, 17, 63, 33]
    mask[:] = False
    mask[1, 2] = mask[255, 254] = True
    assert box_around(mask, 256).tolist() == [0, 0, 256, 256]
    assert box_around(mask, 256).dtype == np.float32


def test_the_boxes_given_are_left_as_they_were() -> None:
    """Prompts move on copies, and those of a round do not change once they are made."""
    boxes = boxes_of(2)
    source = source_of(ranges_of((0, 4), (0, 4)), boxes)
    made: list[tuple[Prompt, list[float]]] = []
    for prompts in source.rounds():
        made += [(prompt, prompt.in_frame.tolist()) for prompt in prompts]
        for prompt in prompts:
            source.give(prompt, filled(prompt.in_frame))
    assert np.array_equal(boxes, boxes_of(2))
    assert len(made) == 10 and all(prompt.in_frame.tolist() == box for prompt, box in made)


def test_no_boxes_decode_nothing() -> None:
    """A volume without objects."""
    assert propagate(Recorder(), SliceRanges.from_boxes(np.zeros((0, 6)))) == []

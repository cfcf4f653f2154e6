"""A mask that travels: order, what each step is given and where it ends by hand, and a tube that is followed."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge.data.case import Case, make_case
from edge.engines.model_folder import WALK, ModelDescription
from edge.pipeline import Options, segment
from edge.prompts import propagation
from edge.prompts.prompt import Mask, Neighbour, Prompt, expected_extents
from edge.prompts.propagation import PropagatedPrompts, mask_value
from edge.prompts.slice_ranges import SliceRanges
from edge.scoring.score import dice
from edge.views import prepare
from edge.views.view import View

BOXES = np.array([[10, 10, 29, 29], [40, 40, 59, 49], [5, 50, 14, 59]], dtype=np.float64)

Find = Callable[[Prompt], Mask | None]


def source_of(*z_ranges: tuple[float, float], margin_px: float = 0) -> PropagatedPrompts:
    ranges = SliceRanges.from_boxes(np.array([[0, 0, low, 9, 9, high] for low, high in z_ranges], dtype=np.float64))
    return PropagatedPrompts(BOXES[: len(z_ranges)], ranges, margin_px)


def mask_of(prompt: Prompt) -> Mask:
    """One that can be told apart: as far to the right as its slice, as far down as its row."""
    return Mask(prompt.z, prompt.row, np.ones((2, 3), bool))


def walk(source: PropagatedPrompts, find: Find = mask_of) -> list[list[Prompt]]:
    """The prompts of each round, each answered."""
    rounds = []
    for prompts in source.rounds():
        rounds.append(list(prompts))
        for prompt in rounds[-1]:
            source.give(prompt, find(prompt))
    return rounds


def places(rounds: list[list[Prompt]]) -> list[list[tuple[int, int]]]:
    return [[(prompt.z, prompt.row) for prompt in prompts] for prompts in rounds]


def by_slice(rounds: list[list[Prompt]]) -> dict[int, Prompt]:
    """Of one box."""
    return {prompt.z: prompt for prompts in rounds for prompt in prompts}


def test_both_directions_go_a_slice_further_in_each_round() -> None:
    """Slices 2 to 6 from 4, and 3 to 8 from 5, where one end is a slice farther."""
    assert places(walk(source_of((2, 6)))) == [[(4, 0)], [(3, 0), (5, 0)], [(2, 0), (6, 0)]]
    assert places(walk(source_of((3, 8)))) == [[(5, 0)], [(4, 0), (6, 0)], [(3, 0), (7, 0)], [(8, 0)]]


def test_all_boxes_go_together_slice_by_slice() -> None:
    """Over 0 to 4, 2 to 6 and 3 alone: the middles first, whatever slices they are, then a step of all."""
    assert places(walk(source_of((0, 4), (2, 6), (3, 3)))) == [
        [(2, 0), (3, 2), (4, 1)],
        [(1, 0), (3, 0), (3, 1), (5, 1)],
        [(0, 0), (2, 1), (4, 0), (6, 1)],
    ]


@pytest.mark.parametrize(("low", "high"), [(0, 0), (7, 7), (4, 5), (0, 11), (3.5, 8.25)])
def test_every_slice_of_the_range_is_asked_for_once_and_none_beyond(low: float, high: float) -> None:
    """One slice, two, an odd and an even number, fractions."""
    asked = [z for prompts in walk(source_of((low, high))) for z, _ in places([prompts])[0]]
    assert sorted(asked) == list(range(int(low), int(high) + 1))


def test_no_boxes_ask_for_nothing() -> None:
    """A volume without objects."""
    source = PropagatedPrompts(np.zeros((0, 4)), SliceRanges.from_boxes(np.zeros((0, 6))), 0)
    assert [prompt for prompts in source.rounds() for prompt in prompts] == []


def test_the_middle_slice_is_prompted_with_the_box_and_bounded_by_it() -> None:
    """The object is expected 2 px within it; there is no neighbour."""
    (prompt,) = walk(source_of((2, 6), margin_px=2))[0]
    assert prompt.box.tolist() == prompt.within.tolist() == BOXES[0].tolist()
    assert prompt.extent.tolist() == expected_extents(BOXES[0], 2).tolist() == [12, 12, 27, 27]
    assert prompt.neighbour is None and prompt.in_frame is None


def test_each_step_is_given_the_neighbours_mask_and_how_much_of_the_way_is_left() -> None:
    """Slices 3 to 8 from 5: upwards 3.5 steps, of which 2.5, 1.5, 0.5 are left; downwards 2.5, 1.5 and 0.5."""
    found = by_slice(walk(source_of((3, 8))))
    for z, before, left in ((6, 5, 2.5 / 3.5), (7, 6, 1.5 / 3.5), (8, 7, 0.5 / 3.5), (4, 5, 0.6), (3, 4, 0.2)):
        prompt = found[z]
        assert prompt.neighbour.z == before and prompt.neighbour.left == pytest.approx(left)
        assert prompt.neighbour.mask.left == before, "found there"
        assert prompt.box.tolist() == prompt.extent.tolist() == [before, 0, before + 2, 1]
        assert prompt.within is None, "an object may leave the box"


def test_every_box_walks_with_its_own_masks() -> None:
    """Three in each round."""
    for prompts in walk(source_of((0, 4), (2, 6), (1, 3)))[1:]:
        assert all(prompt.neighbour.mask.top == prompt.row for prompt in prompts)


def test_where_nothing_is_found_the_mask_found_last_goes_on() -> None:
    """Nothing on 6: slice 7 is given that of 5, and told the slice that it is of; the way down does not notice."""
    found = by_slice(walk(source_of((2, 8)), lambda prompt: None if prompt.z == 6 else mask_of(prompt)))
    assert [found[z].neighbour.z for z in (6, 7, 8)] == [5, 5, 7]
    assert found[7].neighbour.mask.left == 5 and found[7].neighbour.left == pytest.approx(1.5 / 3.5)
    assert [found[z].neighbour.z for z in (4, 3, 2)] == [5, 4, 3]


def test_before_anything_is_found_the_box_itself_prompts() -> None:
    """Nothing on the middle slice, 5, nor on 4: the box, by which labels are bounded; each direction by itself."""
    found = by_slice(walk(source_of((2, 8)), lambda prompt: None if prompt.z in (4, 5) else mask_of(prompt)))
    for z in (6, 4, 3):
        assert found[z].neighbour is None and found[z].within.tolist() == found[z].box.tolist() == BOXES[0].tolist()
    assert [found[z].neighbour.z for z in (7, 8, 2)] == [6, 7, 3]


def test_the_boxes_given_are_left_as_they_were() -> None:
    """Prompts are not written to."""
    before = BOXES.copy()
    walk(source_of((0, 4), (2, 6)))
    assert np.array_equal(BOXES, before)


def test_a_masks_value_says_how_much_of_the_way_is_left() -> None:
    """216 in the middle, 64 where nothing is left, never beyond them."""
    assert [mask_value(left) for left in (-1, 0, 0.2, 0.5, 1, 2)] == [64, 64, 94, 140, 216, 216]


# A tube, seen by a network that is a function of its three channels.

DEPTH, FIRST, LAST, TUBE_END = 24, 4, 20, 18  # slices of the volume, of the range; the last one of the tube


class Follower:
    """Finds what is near the neighbour's mask, and as bright as the neighbour is there.

    Where the third channel is the slice itself, all that is bright there.
    """

    backend, precision, threads = "none", "f32", 1
    REACH_PX = 9  # of the view

    def __init__(self) -> None:
        views = {"sizes": [56, 112], "box_share": 0.6, "least_scale": 1}
        self.description = ModelDescription("follower", 256, (3, 64, 64), {}, {}, views=views, channels=[*WALK])

    def prepare(self, batches: dict[int, int]) -> None:
        pass

    def encode(self, images: np.ndarray) -> np.ndarray:
        return images

    def decode(self, embedding: np.ndarray, boxes: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
        return np.stack([self._find(*channels) for channels in embedding])

    def _find(self, slice_: np.ndarray, neighbour: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if not (mask > 0).any():
            return np.full(slice_.shape, -1, np.float32)
        near = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, 5) <= self.REACH_PX
        before = np.median(neighbour[mask > 0])
        alike = (slice_ > before / 2) & (slice_ < before + 0.06)  # at its border as bright as half of it
        return np.where(near & alike, 1, -1).astype(np.float32)


def tube(z: int) -> np.ndarray:
    """Where it is: it moves to the right by 2 px a slice, and grows from 7 px at slice 4 by 0.25 px a slice."""
    y, x = np.mgrid[:110, :120]
    return np.hypot(x - (36 + 2 * (z - FIRST)), y - 40) <= 7 + 0.25 * (z - FIRST)


def rod(z: int) -> np.ndarray:
    """Another one that goes the other way and shrinks."""
    y, x = np.mgrid[:110, :120]
    return np.hypot(x - 60, y - (96 - z)) <= 12 - 0.3 * (z - FIRST)


@pytest.fixture(scope="module")
def case() -> Case:
    """Both get darker by 5 a slice, and go on before the range; the tube ends within it. Boxes of their middle, 12."""
    volume = np.full((DEPTH, 110, 120), 10, np.uint8)
    for z in range(DEPTH):
        volume[z][rod(z)] = 250 - 5 * z
        if z <= TUBE_END:
            volume[z][tube(z)] = 250 - 5 * z
    volume[:, 0, 0] = 255
    boxes = [[*extent(shape(12))[:2], FIRST, *extent(shape(12))[2:], LAST] for shape in (tube, rod)]
    return make_case("3DBox_CT_tube", volume, np.array(boxes))


def extent(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1], rows[-1]]


def truth(case: Case) -> np.ndarray:
    labels = np.zeros(case.shape, np.uint8)
    for z in range(FIRST, LAST + 1):
        labels[z][rod(z)] = 2
        if z <= TUBE_END:
            labels[z][tube(z)] = 1
    return labels


def propagated(case: Case, block: int = 8) -> np.ndarray:
    return segment(case, Follower(), Options("propagated", block=block)).labels


def overlap(labels: np.ndarray, case: Case) -> dict[tuple[int, int], float]:
    """Slice and label -> DSC, of those where the object is."""
    expected = truth(case)
    pairs = [(z, label) for z in range(DEPTH) for label in (1, 2) if (expected[z] == label).any()]
    return {(z, k): dice(expected[z] == k, labels[z] == k) for z, k in pairs}


def test_a_tube_is_followed_out_of_its_box_to_its_own_end(case: Case) -> None:
    """On every slice where it is; nothing on the last two of its range, where it has ended, and none beyond."""
    labels = propagated(case)
    scores = overlap(labels, case)
    assert min(scores.values()) > 0.99, scores
    assert not (labels[TUBE_END + 1 :] == 1).any()
    assert not labels[:FIRST].any() and not labels[LAST + 1 :].any()
    left = case.boxes[0, 0]
    columns = np.flatnonzero((labels == 1).any(axis=(0, 1)))
    assert columns[0] < left - 5, "it goes left of its box, in which it was drawn on the middle slice"


def test_a_neighbours_mask_of_zeros_leads_nowhere(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is followed is the mask: without it only the middle slice is found."""
    monkeypatch.setattr(prepare, "draw_mask", lambda view, _: np.zeros((view.size, view.size), np.float32))
    assert np.flatnonzero(propagated(case).any(axis=(1, 2))).tolist() == [12]


def test_with_directions_swapped_it_is_lost(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upwards is given what was found downwards, which moves away from it."""
    give = PropagatedPrompts.give

    def swapped(self: PropagatedPrompts, prompt: Prompt, mask: Mask | None) -> None:
        middle = self._walks[2 * prompt.row].middle
        give(self, replace(prompt, z=2 * middle - prompt.z), mask)

    monkeypatch.setattr(PropagatedPrompts, "give", swapped)
    scores = overlap(propagated(case), case)
    assert np.mean(list(scores.values())) < 0.6


def test_the_wrong_neighbouring_slice_is_noticed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second channel tells how bright the object was: that of a slice four away is 20 of 245 off."""

    def elsewhere(z: int, mask: Mask, left: float) -> Neighbour:
        return Neighbour(min(max(z + 4, 0), DEPTH - 1), mask, left)

    monkeypatch.setattr(propagation, "Neighbour", elsewhere)
    assert np.mean(list(overlap(propagated(case), case).values())) < 0.6


def test_bytes_are_the_same_in_every_run_and_block(case: Case) -> None:
    """Boxes one by one, or those of a round together."""
    first = propagated(case).tobytes()
    assert all(propagated(case, block).tobytes() == first for block in (8, 1, 2, 3))


def test_a_box_does_not_depend_on_the_others(case: Case) -> None:
    """Each alone, the same mask."""
    both = propagated(case)
    for label in (1, 2):
        alone = propagated(replace(case, boxes=case.boxes[[label - 1]]))
        assert np.array_equal(alone > 0, both == label)


def test_a_model_of_slices_is_shown_the_slice_alone(case: Case) -> None:
    """In a view around the neighbour's mask, three times the same."""
    engine, seen = Follower(), []
    engine.description = replace(engine.description, channels=["slice"] * 3)
    engine.encode = lambda images: seen.append(images) or images
    segment(case, engine, Options("propagated"))
    assert all(np.array_equal(images[:, 0], images[:, k]) for images in seen for k in (1, 2))


NEAR = Neighbour(0, Mask(30, 40, np.ones((10, 20), bool)), left=0.5)  # rows 40 to 49, columns 30 to 49


@pytest.mark.parametrize(
    ("view", "rows", "columns"),
    [
        (View.square(20, 30, 40, 80), slice(20, 40), slice(20, 60)),  # doubled
        (View.square(20, 30, 80, 40), slice(5, 10), slice(5, 15)),  # halved
        (View.square(30, 40, 10, 10), slice(0, 10), slice(0, 10)),  # its upper left
        (View.square(45, 45, 20, 20), slice(0, 5), slice(0, 5)),  # its lower right
        (View.square(-10, 0, 64, 64), slice(40, 50), slice(40, 60)),  # over the image's border
        (View.square(50, 0, 64, 64), slice(0, 0), slice(0, 0)),  # beside it
        (View.square(-70, 0, 64, 64), slice(0, 0), slice(0, 0)),
        (View.square(0, -60, 64, 64), slice(0, 0), slice(0, 0)),
    ],
)
def test_a_mask_is_drawn_where_it_lies_in_the_view(view: View, rows: slice, columns: slice) -> None:
    """At another place and scale than it was found at; half of the way is left: 140 of 255 inside, 0 outside."""
    expected = np.zeros((view.size, view.size), np.float32)
    expected[rows, columns] = np.float32(140 / 255)
    drawn = prepare.draw_mask(view, NEAR)
    assert drawn.dtype == np.float32 and np.array_equal(drawn, expected)


def test_a_pixel_of_the_view_is_inside_where_half_of_it_is_covered() -> None:
    """A third as large: of rows 40 to 49 in threes from 39 two, three, three and two are covered; columns likewise."""
    drawn = prepare.draw_mask(View.square(27, 39, 24, 8), replace(NEAR, left=1.0))
    assert np.unique(drawn).tolist() == [0, np.float32(216 / 255)]
    assert (drawn > 0).any(axis=1).tolist() == [True] * 4 + [False] * 4
    assert (drawn > 0).any(axis=0).tolist() == [False] + [True] * 7
    assert np.unique(prepare.draw_mask(View.square(27, 39, 24, 8), replace(NEAR, left=0.0)))[1] == np.float32(64 / 255)


def test_a_walk_shows_the_slice_its_neighbour_and_the_mask_stretched_by_the_volume() -> None:
    """Between 10 and 250 of the whole volume; without a neighbour, or of colours, the slice by its own range."""
    volume = np.stack([np.full((64, 64), value, np.uint8) for value in (10, 100, 130, 250)])
    volume[1, 0, 0] = 20
    view, box = View.square(10, 10, 56, 56), BOXES[0]
    step = Prompt(1, 0, box, box, neighbour=Neighbour(2, Mask(20, 20, np.ones((8, 8), bool)), left=1.0))
    inputs = prepare.ViewInputs(volume, "min-max", walks=True)
    shown = inputs.part(step, view)
    assert shown.shape == (3, 56, 56) and shown.dtype == np.float32
    assert shown[:, 5, 5].tolist() == [np.float32(90 / 240), np.float32(120 / 240), 0]
    assert shown[2, 10:18, 10:18].min() == shown[2].max() == np.float32(216 / 255)
    assert shown[:2, -1, -1].tolist() == [0, 0], "beyond the image it is as dark as the darkest of the volume"
    assert inputs.part(replace(step, neighbour=None), view)[:, 5, 5].tolist() == [1, 1, 1]
    plain = prepare.ViewInputs(volume, "min-max", walks=False)
    assert plain.part(step, view)[:, 5, 5].tolist() == [1, 1, 1]
    coloured = prepare.ViewInputs(np.stack([volume, volume // 2, volume * 0], axis=-1), "min-max", walks=True)
    assert coloured.part(step, view)[:, 5, 5].tolist() == [1, np.float32(0.5), 0]

"""From prompts to batches of views: which are encoded together, what prompts and what is looked at in each."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from edge.prompts.prompt import Mask, Neighbour, Prompt
from edge.views.ladder import ViewLadder
from edge.views.planners import PerBox, WholeSlice, reach_within_boxes
from edge.views.view import View

LADDER = ViewLadder((56, 112, 224), box_share=0.75, least_scale=1)  # boxes up to 42, 84 and 168 px
BOXES = np.array([[0, 0, 39, 9], [0, 0, 79, 9], [50, 0, 89, 9], [0, 0, 159, 9]], float)
LETTERBOX = View.letterbox(300, 512)


def prompts(slices: int = 5, *, bounded: bool = True) -> list[Prompt]:
    """Of every box on every slice, slice by slice; each object 2 px smaller than its box."""
    inner = np.array([2, 2, -2, -2])
    return [
        Prompt(z, row, box, box + inner, within=box if bounded else None)
        for z in range(slices)
        for row, box in enumerate(BOXES)
    ]


def test_views_of_one_size_come_together_the_larger_the_fewer() -> None:
    """Up to 8 of 56 px, 2 of 112, 1 of 224, across slices; each prompt once, in the view around its box."""
    found = list(PerBox(LADDER, 8).batches(iter(prompts())))
    sizes = [{view.size for view in batch.views} for batch in found]
    assert all(len(size) == 1 for size in sizes) and not any(batch.shared for batch in found)
    counts = Counter((len(batch.prompts), *size) for batch, size in zip(found, sizes, strict=True))
    assert counts == {(8, 56): 1, (2, 56): 1, (2, 112): 2, (1, 112): 1, (1, 224): 5}
    pairs = [pair for batch in found for pair in batch.pairs()]
    assert sorted((prompt.z, prompt.row) for prompt, _ in pairs) == [(z, row) for z in range(5) for row in range(4)]
    assert all(view == LADDER.view_around(BOXES[prompt.row]) for prompt, view in pairs)


def test_prompts_of_a_walk_come_in_views_of_its_size() -> None:
    """The middle slice's as large as its box asks."""
    own, mask = prompts(1)[3], Mask(0, 0, np.ones((9, 160), bool))
    after = Prompt(1, 3, mask.box, mask.box, neighbour=Neighbour(0, mask, 0.5))
    batches = PerBox(replace(LADDER, walk_size=112), 8).batches([own, after])
    assert sorted((batch.prompts[0].z, batch.views[0].size) for batch in batches) == [(0, 224), (1, 112)]


def test_what_will_be_shown_at_first_is_known_from_the_boxes() -> None:
    """Sizes and numbers of their own views; of walks, also those that a mask as large as the box has."""
    ladder = replace(LADDER, walk_size=112)
    assert PerBox(ladder, 8).first_batches(BOXES, walks=False) == {56: 2, 112: 1, 224: 1}
    assert PerBox(ladder, 8).first_batches(BOXES[[3, 3]], walks=False) == {224: 1}
    assert PerBox(ladder, 8).first_batches(BOXES[[3, 3]], walks=True) == {112: 2, 224: 1}
    assert PerBox(ladder, 8).first_batches(BOXES[[1, 3]], walks=True) == {112: 1, 224: 1}  # the walk comes later
    assert PerBox(ladder, 3).first_batches(BOXES[[0] * 5], walks=True) == {56: 3}
    assert WholeSlice(LETTERBOX, 3).first_batches(BOXES, walks=True) == {256: 3}


@pytest.mark.parametrize("block", [1, 2, 3, 6, 8])
def test_a_block_bounds_the_pixels_of_a_batch(block: int) -> None:
    """As many as `block` of the smallest views have, or one view."""
    for batch in PerBox(LADDER, block).batches(prompts(9)):
        size = batch.views[0].size
        assert len(batch.prompts) == 1 or len(batch.prompts) * size**2 <= block * 56**2


def test_a_batch_waits_for_no_more_prompts_than_it_holds() -> None:
    """A volume's prompts never exist all at once: the second view of 112 px comes with slice 1."""
    asked: list[Prompt] = []
    source = (asked.append(prompt) or prompt for prompt in prompts())
    batches = PerBox(LADDER, 8).batches(source)
    assert next(batches).views[0].size == 224 and len(asked) == 4
    assert [(prompt.z, prompt.row) for prompt in next(batches).prompts] == [(0, 1), (1, 1)] and len(asked) == 6


@pytest.mark.parametrize("block", [1, 3, 4, 9])
def test_a_whole_slice_is_shown_to_its_own_boxes_only(block: int) -> None:
    """Of 2 slices with 4 boxes each, in order, in blocks."""
    found = list(WholeSlice(LETTERBOX, block).batches(prompts(2)))
    assert [(p.z, p.row) for batch in found for p in batch.prompts] == [(z, row) for z in (0, 1) for row in range(4)]
    for batch in found:
        assert batch.shared and set(batch.views) == {LETTERBOX} and len({prompt.z for prompt in batch.prompts}) == 1
        assert len(batch.prompts) <= block


def test_a_view_is_prompted_with_the_expected_extent_a_letterbox_with_the_box() -> None:
    """A box of 84 x 10 px, its object of 80 x 6: halved, pixels 0 to 41; one to one, 14 + 2 px from the view's side."""
    prompt = Prompt(0, 0, np.array([10.0, 20, 93, 29]), np.array([12.0, 22, 91, 27]))
    (whole,), (views,) = (planner.batches([prompt]) for planner in (WholeSlice(LETTERBOX, 8), PerBox(LADDER, 8)))
    assert whole.boxes().tolist() == [[5, 10, 46, 14]]
    assert views.boxes().tolist() == [[16, 53, 95, 58]]
    assert views.boxes().dtype == whole.boxes().dtype == np.float32


def test_a_box_of_the_letterbox_is_taken_as_it_is() -> None:
    """The baseline's prompts."""
    own = np.array([1, 2, 3, 4], np.float32)
    (batch,) = WholeSlice(LETTERBOX, 8).batches([Prompt(0, 0, BOXES[0], BOXES[0], in_frame=own)])
    assert batch.boxes().tolist() == [[1, 2, 3, 4]] and batch.within() is None


@pytest.mark.parametrize("planner", [PerBox(LADDER, 8), WholeSlice(LETTERBOX, 8)])
def test_logits_are_needed_a_little_beyond_the_box_that_bounds_them(planner: PerBox | WholeSlice) -> None:
    """The box's, not the smaller prompt's; anywhere as soon as one of a batch is not bounded."""
    for batch in planner.batches(prompts(1)):
        within = batch.within()
        assert within is not None
        for looked_at, (prompt, view) in zip(within, batch.pairs(), strict=True):
            box = view.boxes_to_view(prompt.box[None])[0]
            reach = reach_within_boxes(view.scale)
            np.testing.assert_allclose(looked_at, box + np.array([-reach, -reach, reach, reach]), atol=1e-4)
    mixed = [prompts(1)[0], prompts(1, bounded=False)[2]]
    (batch,) = planner.batches(mixed)
    assert batch.within() is None

"""The prompts of a walk from boxed slices, by hand and beside the method `propagated`."""

import numpy as np
import pytest

from edge.prompts.prompt import Mask, Prompt
from edge.prompts.propagation import PropagatedPrompts
from edge.prompts.slice_ranges import SliceRanges
from edge.serve.walk import BoxedWalk, Ends

BOX = np.array([10.0, 20.0, 29.0, 49.0])


def mask_of(pixels: int) -> Mask:
    return Mask(12, 22, np.ones((1, pixels), bool))


def asked(source: BoxedWalk | PropagatedPrompts, areas: dict[int, int]) -> list[list[Prompt]]:
    """All rounds, where each slice is answered with a mask of so many pixels, 0 or not named: with nothing."""
    rounds = []
    for prompts in source.rounds():
        rounds.append(list(prompts))
        for prompt in rounds[-1]:
            source.give(prompt, mask_of(areas[prompt.z]) if areas.get(prompt.z) else None)
    return rounds


def test_one_box_with_known_ends_is_walked_as_propagated_does() -> None:
    """Prompt by prompt, how much of the way is left included; also over a slice where nothing is found."""
    areas = {z: 50 - abs(z - 8) for z in range(3, 14) if z != 10}
    ranges = SliceRanges.from_boxes(np.array([[10.0, 20, 3, 29, 49, 13]]))
    expected = asked(PropagatedPrompts(BOX[None], ranges, 2.5), areas)
    found = asked(BoxedWalk({8: BOX}, Ends(3, 13, None), 2.5), areas)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(sorted(one, key=lambda prompt: prompt.z), other, strict=True):
            assert a.z == b.z and np.array_equal(a.box, b.box) and np.array_equal(a.extent, b.extent)
            assert (a.within is None) == (b.within is None) and (a.neighbour is None) == (b.neighbour is None)
            if a.neighbour and b.neighbour:
                assert (a.neighbour.z, a.neighbour.left) == (b.neighbour.z, b.neighbour.left)
                assert np.array_equal(a.neighbour.mask.pixels, b.neighbour.mask.pixels)


@pytest.mark.parametrize(("areas", "last"), [({5: 100, 6: 100, 7: 0}, 7), ({5: 20, 6: 100, 7: 10}, 7), ({5: 0}, 5)])
def test_a_walk_to_an_unknown_end_ends_with_next_to_nothing(areas: dict[int, int], last: int) -> None:
    """A tenth of the largest mask of the way is next to nothing; with nothing on the boxed slice it does not begin."""
    rounds = asked(BoxedWalk({5: BOX}, Ends(5, 50, 10.0), 2.5), dict.fromkeys(range(8, 50), 50) | areas)
    assert [prompt.z for prompts in rounds for prompt in prompts] == list(range(5, last + 1))


def test_how_much_of_the_way_is_left() -> None:
    """Towards another box all of it; beyond the outermost it falls to nothing where the object is expected to end."""
    areas = dict.fromkeys(range(60), 100)
    rounds = asked(BoxedWalk({10: BOX, 14: BOX}, Ends(0, 59, 4.0), 2.5), areas)
    left = {prompt.z: prompt.neighbour.left for prompts in rounds for prompt in prompts if prompt.neighbour}
    assert [left[z] for z in (11, 12, 13)] == [1, 1, 1]
    assert [round(left[z], 3) for z in (15, 16, 17, 18)] == [round((4.5 - step) / 4.5, 3) for step in (1, 2, 3, 4)]
    assert left[9] == left[15] and max(left) == 14 + 12 and min(left) == 0

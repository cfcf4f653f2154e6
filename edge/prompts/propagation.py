"""A mask that travels: from a box's middle slice to both ends of its range, each slice after the one before it.

The network sees where the object was on the neighbouring slice, so the box on a slice is not guessed. A model that was
trained for it is shown the slice, the neighbour and the neighbour's mask as its three channels; any other the slice
alone, in a view around the neighbour's mask.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.prompts.prompt import Mask, Neighbour, Prompt, Wants, expected_extents
from edge.prompts.slice_ranges import SliceRanges

NEAREST, FARTHEST = 64, 216  # what a neighbour's mask is drawn with at the walk's end and at its beginning, of 255


def way_left(done: int, length: float) -> float:
    """What of a way of `length` slices is left, 0 to 1, before its `done`-th is decoded; all of an infinite one."""
    return 1.0 if math.isinf(length) else (length - done + 0.5) / (length + 0.5)


def mask_value(left: float) -> int:
    """What a neighbour's mask is drawn with where so much of the way, 0 to 1, is left to the range's end."""
    return round(NEAREST + (FARTHEST - NEAREST) * min(max(left, 0.0), 1.0))


@dataclass(eq=False)
class _Walk:
    """One box's way to one end of its range."""

    row: int
    middle: int
    steps: int  # slices after the middle one
    direction: int  # 1 or -1
    mask: Mask | None = None  # found last
    found_on: int = 0  # the slice it was found on

    def left(self, z: int) -> float:
        """What of the way is left before slice z is decoded, 0 to 1."""
        return way_left((z - self.middle) * self.direction, self.steps)


class PropagatedPrompts:
    """A `PromptSource`: the middle slices of all boxes, then one step of every walk in each round.

    Where nothing is found on a slice, the mask found last goes on; before anything was found, the box itself prompts,
    and labels stay within it. Within a round prompts come slice by slice.
    """

    wants: Wants = "merged"

    def __init__(self, boxes: npt.NDArray[np.float64], ranges: SliceRanges, margin_px: float) -> None:
        """What is walked through.

        Args:
            boxes: (N, 4) on the middle slices of their ranges, inclusive px of the image.
            margin_px: how loose they are expected to be, as `expected_extents` takes it.
        """
        self._boxes, self._extents = boxes, expected_extents(boxes, margin_px)
        self._walks = [
            _Walk(row, middle, abs(end - middle), 1 if end > middle else -1)
            for row, (first, middle, last) in enumerate(
                zip(ranges.first.tolist(), ranges.middle.tolist(), ranges.last.tolist(), strict=True)
            )
            for end in (last, first)
        ]

    def rounds(self) -> Iterator[Iterable[Prompt]]:
        yield _by_slice(self._own(walk.middle, walk.row) for walk in self._walks[::2])
        for step in range(1, 1 + max((walk.steps for walk in self._walks), default=0)):
            yield _by_slice(self._after(walk, step) for walk in self._walks if step <= walk.steps)

    def give(self, prompt: Prompt, mask: Mask | None) -> None:
        for walk in self._walks[2 * prompt.row : 2 * prompt.row + 2]:
            if mask is not None and (prompt.z - walk.middle) * walk.direction >= 0:
                walk.mask, walk.found_on = mask, prompt.z

    def _own(self, z: int, row: int) -> Prompt:
        return Prompt(z, row, self._boxes[row], self._extents[row], within=self._boxes[row])

    def _after(self, walk: _Walk, step: int) -> Prompt:
        z = walk.middle + step * walk.direction
        if walk.mask is None:
            return self._own(z, walk.row)
        neighbour = Neighbour(walk.found_on, walk.mask, walk.left(z))
        return Prompt(z, walk.row, walk.mask.box, walk.mask.box, neighbour=neighbour)


def _by_slice(prompts: Iterable[Prompt]) -> list[Prompt]:
    return sorted(prompts, key=lambda prompt: prompt.z)

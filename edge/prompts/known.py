"""Prompts that are known before anything is decoded: of an image, and of a volume whose boxes were tracked."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from edge.prompts.prompt import Mask, Prompt, Wants, expected_extents
from edge.prompts.slice_ranges import SliceRanges


class KnownPrompts:
    """A `PromptSource` of one round, slice by slice; labels stay within the boxes."""

    wants: Wants = "nothing"

    def __init__(self, boxes: npt.NDArray[np.float64], ranges: SliceRanges, margin_px: float) -> None:
        """What is known.

        Args:
            boxes: (D, N, 4) on every slice, inclusive px; beyond a box's range they mean nothing.
            margin_px: how loose they are expected to be, as `expected_extents` takes it.
        """
        self._boxes, self._ranges, self._margin_px = boxes, ranges, margin_px

    def rounds(self) -> Iterator[Iterable[Prompt]]:
        yield self._prompts()

    def give(self, prompt: Prompt, mask: Mask | None) -> None:
        """Nothing depends on it."""

    def _prompts(self) -> Iterator[Prompt]:
        for z in self._ranges.covered_order():
            extents = expected_extents(self._boxes[z], self._margin_px)
            for row in self._ranges.rows_on(z).tolist():
                yield Prompt(z, row, self._boxes[z, row], extents[row], within=self._boxes[z, row])

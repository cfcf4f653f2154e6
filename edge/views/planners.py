"""From prompts to the views that are encoded: one around each box, or the whole slice for all of its boxes."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.prompts.prompt import Box, Prompt
from edge.views.ladder import ViewLadder
from edge.views.view import View

Boxes = npt.NDArray[np.float64]  # (N, 4) px of a slice, inclusive
ViewBoxes = npt.NDArray[np.float32]  # (N, 4) px of a view


@dataclass(frozen=True, eq=False)
class Batch:
    """Prompts that are decoded together, in views of one size."""

    prompts: list[Prompt]
    views: list[View]  # of each prompt
    shared: bool  # they are all the same, of one slice

    def boxes(self) -> ViewBoxes:
        """What prompts for each object, in its view."""
        return np.stack([_prompted(prompt, view, self.shared) for prompt, view in self.pairs()])

    def within(self) -> ViewBoxes | None:
        """Where in its view logits are needed for each; None: everywhere."""
        if any(prompt.within is None for prompt in self.prompts):
            return None
        return np.stack([_looked_at(prompt.within, view) for prompt, view in self.pairs() if prompt.within is not None])

    def pairs(self) -> Iterator[tuple[Prompt, View]]:
        """Each prompt and its view."""
        return zip(self.prompts, self.views, strict=True)


class Planner(Protocol):
    """How a slice is shown."""

    def batches(self, prompts: Iterable[Prompt]) -> Iterator[Batch]:
        """Every prompt once."""

    def first_batches(self, boxes: Boxes, *, walks: bool) -> dict[int, int]:
        """Side of each size of view or frame, in px, in which boxes (N, 4) are shown -> how many at once at first.

        Args: walks: also the sizes of a mask that travels, as far as its box stays what it is.
        """


@dataclass(frozen=True)
class WholeSlice:
    """The whole slice as a letterbox; prompts come slice by slice."""

    letterbox: View
    block: int  # boxes decoded at once, which bounds memory

    def batches(self, prompts: Iterable[Prompt]) -> Iterator[Batch]:
        for _, on_slice in groupby(prompts, key=lambda prompt: prompt.z):
            waiting = list(on_slice)
            for start in range(0, len(waiting), self.block):
                chosen = waiting[start : start + self.block]
                yield Batch(chosen, [self.letterbox] * len(chosen), shared=True)

    def first_batches(self, boxes: Boxes, *, walks: bool) -> dict[int, int]:
        return {self.letterbox.size: min(self.block, len(boxes))} if len(boxes) else {}


@dataclass(frozen=True)
class PerBox:
    """A view around each box; those of one size together, of whatever slice they are."""

    ladder: ViewLadder
    block: int  # boxes of the smallest views encoded and decoded at once, of larger ones fewer

    def batches(self, prompts: Iterable[Prompt]) -> Iterator[Batch]:
        waiting: dict[int, list[tuple[Prompt, View]]] = {size: [] for size in self.ladder.sizes}
        for prompt in prompts:
            view = self.ladder.view_around(prompt.box, walks=prompt.neighbour is not None)
            waiting[view.size].append((prompt, view))
            if len(waiting[view.size]) >= self._most(view.size):
                yield _batch(waiting.pop(view.size))
                waiting[view.size] = []
        yield from map(_batch, filter(None, waiting.values()))

    def first_batches(self, boxes: Boxes, *, walks: bool) -> dict[int, int]:
        shown, walked = (
            Counter(self.ladder.view_around(box, walks=walk).size for box in boxes) for walk in (False, walks)
        )
        return {size: min(count, self._most(size)) for size, count in {**walked, **shown}.items()}

    def _most(self, size: int) -> int:
        """Boxes at once in views of a size."""
        return max(1, int(self.block * (self.ladder.sizes[0] / size) ** 2))


def reach_within_boxes(scale: float) -> float:
    """How far from a box logits are needed where labels stay within it, in px of the view, `scale` of them a px.

    One more pixel of the original on each side is all that is looked at, and one of the view for interpolation.
    """
    return 1.5 * max(1.0, scale) + 1


def widened(boxes: ViewBoxes, by_px: float) -> ViewBoxes:
    """Boxes (N, 4) that reach farther on every side."""
    return boxes + np.array([-by_px, -by_px, by_px, by_px], np.float32)


def _batch(pairs: list[tuple[Prompt, View]]) -> Batch:
    prompts, views = zip(*pairs, strict=True)
    return Batch(list(prompts), list(views), shared=False)


def _prompted(prompt: Prompt, view: View, whole: bool) -> npt.NDArray[np.float32]:
    """A network for whole slices is prompted with boxes as they are, one for views with where the object ends."""
    if prompt.in_frame is not None:
        return prompt.in_frame
    return view.boxes_to_view((prompt.box if whole else prompt.extent)[None])[0]


def _looked_at(within: Box, view: View) -> npt.NDArray[np.float32]:
    return widened(view.boxes_to_view(within[None]), reach_within_boxes(view.scale))[0]

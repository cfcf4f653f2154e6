"""Boxes of a slice decoded together, and how a 3D box becomes a prompt on each slice of its range.

A 2D image is a volume of one slice. Prompts are either known beforehand, or they propagate from a box's middle slice
outwards: there the stages meet backwards, as the mask decoded on one slice is the prompt of the next.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.encode import Embedding
from edge.restore import Logits
from edge.view import View, ViewLadder, expected_extents

ModelBoxes = npt.NDArray[np.float32]
Decode = Callable[[Embedding, ModelBoxes], Logits]  # (1, C, h, w), (N, 4) -> (N, S, S)
NextPrompt = Callable[[Logits, int], ModelBoxes | None]  # logits (S, S) of box row -> box (4,), None: nothing found


@dataclass(frozen=True)
class SliceRanges:
    """Where each of N boxes lives: first, middle and last slice, all inclusive, each (N,)."""

    first: npt.NDArray[np.int64]
    middle: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    @classmethod
    def from_boxes(cls, boxes: npt.NDArray[np.float64]) -> "SliceRanges":
        """Ranges of boxes (N, 6); the middle slice is `int((z_max - z_min) / 2 + z_min)` as in the challenge."""
        low, high = boxes[:, 2], boxes[:, 5]
        return cls(*(np.floor(z).astype(np.int64) for z in (low, (high - low) / 2 + low, high)))

    def covered_order(self) -> list[int]:
        """The slices any box covers, ascending."""
        return _covered(self.first, self.last)

    def ascending_order(self) -> list[int]:
        """The slices any box covers from its middle up, ascending."""
        return _covered(self.middle, self.last)

    def descending_order(self) -> list[int]:
        """The slices any box covers below its middle, descending."""
        return _covered(self.first, self.middle - 1)[::-1]

    def boxes_per_slice(self) -> dict[int, int]:
        """How many boxes cover each covered slice."""
        return {z: len(_rows_on(self, z)) for z in self.covered_order()}

    def shares(self, z: int) -> npt.NDArray[np.float64]:
        """How large, (N,), an ellipsoid in each box is on slice z, 1 on the middle slice.

        At u of the way from its middle to its end it is sqrt(1 - u^2) of its middle's size; the end is half a slice
        beyond the last one. Rows whose range z is not in mean nothing.
        """
        half = np.where(z >= self.middle, self.last - self.middle, self.middle - self.first) + 0.5
        return np.sqrt((1 - ((z - self.middle) / half) ** 2).clip(min=0))


def widened(boxes: ModelBoxes, by_px: float) -> ModelBoxes:
    """Boxes (N, 4) that reach farther on every side."""
    return boxes + np.array([-by_px, -by_px, by_px, by_px], np.float32)


def reach_within_boxes(scale: float) -> float:
    """How far from a box logits are needed where labels stay within their boxes, in model pixels, `scale` of the image.

    One more pixel of the original on each side is all that is looked at, and one of the model for interpolation.
    """
    return 1.5 * max(1.0, scale) + 1


def decode_each(
    decode: Decode,
    embeddings: Iterable[tuple[int, Embedding]],
    prompts: npt.NDArray[np.float32],
    ranges: SliceRanges,
    block: int,
) -> Iterator[tuple[int, int, Logits]]:
    """Every box on each slice of its range, with prompts that are known beforehand.

    Args:
        embeddings: of `ranges.covered_order()`.
        prompts: (D, N, 4), the boxes on each slice in the model frame.
        block: boxes per call of `decode`, which bounds memory.

    Yields:
        Slice index, box row, logits (S, S).
    """
    for z, embedding in embeddings:
        for row, logits in _decode_rows(decode, embedding, prompts[z], _rows_on(ranges, z), block):
            yield z, row, logits


def decode_propagating(
    decode: Decode,
    embeddings: Iterable[tuple[int, Embedding]],
    boxes: ModelBoxes,
    ranges: SliceRanges,
    block: int,
    next_prompt: NextPrompt,
) -> Iterator[tuple[int, int, Logits]]:
    """Every box from its middle slice to its last, then from below the middle to its first.

    The prompt of a slice is `next_prompt` of the slice before it on the walk; where that found nothing, the box itself.

    Args:
        embeddings: of `ranges.ascending_order() + ranges.descending_order()`.

    Yields:
        Slice index, box row, logits (S, S).
    """
    steps = iter(embeddings)
    upward, downward = boxes.copy(), boxes.copy()
    for _ in ranges.ascending_order():
        z, embedding = next(steps)
        rows = np.flatnonzero((ranges.middle <= z) & (z <= ranges.last))
        for row, logits in _decode_rows(decode, embedding, upward.copy(), rows, block):
            upward[row] = _or_own(next_prompt(logits, row), boxes[row])
            if z == ranges.middle[row]:
                downward[row] = upward[row]
            yield z, row, logits
    for z, embedding in steps:
        rows = np.flatnonzero((ranges.first <= z) & (z < ranges.middle))
        for row, logits in _decode_rows(decode, embedding, downward.copy(), rows, block):
            downward[row] = _or_own(next_prompt(logits, row), boxes[row])
            yield z, row, logits


def decode_views(
    encode: Callable[[npt.NDArray[np.float32]], Embedding],
    decode: Callable[[Embedding, ModelBoxes, ModelBoxes], Logits],
    prepare_view: Callable[[int, View], npt.NDArray[np.float32]],
    prompts: npt.NDArray[np.float64],
    ranges: SliceRanges,
    block: int,
    ladder: ViewLadder,
    margin_px: float,
) -> Iterator[tuple[int, int, Logits, View]]:
    """Every box on each slice of its range, each in a view of its own; views of one size together.

    Args:
        decode: embeddings, prompts, and of each the box that its labels stay within, to logits.
        prepare_view: slice index and view to network input (3, s, s).
        prompts: (D, N, 4), the boxes on each slice in px of the image.
        block: boxes of the smallest views encoded and decoded at once, of one slice or several; of larger ones fewer.
        margin_px: how loose the boxes are expected to be (`edge.view.expected_extents`).

    Yields:
        Slice index, box row, logits (s, s), the view they are of.
    """

    def answer(asked: list[tuple[int, int, View]]) -> Iterator[tuple[int, int, Logits, View]]:
        views, boxes = [view for *_, view in asked], np.array([prompts[z, row] for z, row, _ in asked])
        embeddings = encode(np.stack([prepare_view(z, view) for z, _, view in asked]))
        extents = expected_extents(boxes, margin_px)
        prompted = np.concatenate([view.boxes_to_view(box[None]) for view, box in zip(views, extents, strict=True)])
        within = np.concatenate([_looked_at(view, box) for view, box in zip(views, boxes, strict=True)])
        for (z, row, view), logits in zip(asked, decode(embeddings, prompted, within), strict=True):
            yield z, row, logits, view

    waiting: dict[int, list[tuple[int, int, View]]] = {size: [] for size in ladder.sizes}
    for z in ranges.covered_order():
        for row in _rows_on(ranges, z).tolist():
            view = ladder.view_around(prompts[z, row])
            asked = waiting[view.size]
            asked.append((z, row, view))
            if len(asked) >= block * (ladder.sizes[0] / view.size) ** 2:
                yield from answer(asked)
                waiting[view.size] = []
    for asked in filter(None, waiting.values()):
        yield from answer(asked)


def _looked_at(view: View, box: npt.NDArray[np.float64]) -> ModelBoxes:
    """Where in its view, (1, 4), logits are needed for labels within a box of the image, whatever prompts for them."""
    return widened(view.boxes_to_view(box[None]), reach_within_boxes(view.scale))


def _rows_on(ranges: SliceRanges, z: int) -> npt.NDArray[np.intp]:
    """Rows of the boxes that cover a slice."""
    return np.flatnonzero((ranges.first <= z) & (z <= ranges.last))


def _decode_rows(
    decode: Decode, embedding: Embedding, boxes: ModelBoxes, rows: npt.NDArray[np.intp], block: int
) -> Iterator[tuple[int, Logits]]:
    for start in range(0, len(rows), block):
        chosen = rows[start : start + block]
        yield from zip(chosen.tolist(), decode(embedding, boxes[chosen]), strict=True)


def _or_own(prompt: ModelBoxes | None, own: ModelBoxes) -> ModelBoxes:
    return own if prompt is None else prompt


def _covered(first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> list[int]:
    covered: set[int] = set()
    for low, high in zip(first.tolist(), last.tolist(), strict=True):
        covered.update(range(low, high + 1))
    return sorted(covered)

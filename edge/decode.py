"""Boxes of a slice decoded together, and how a 3D box becomes a prompt on each slice of its range.

A 2D image is a volume of one slice. Prompts are either known beforehand, or they propagate from a box's middle slice
outwards: there the stages meet backwards, as the mask decoded on one slice is the prompt of the next.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from edge.encode import Embedding
from edge.masks.restore import Logits
from edge.prompts.slice_ranges import SliceRanges
from edge.views.view import View, ViewLadder, expected_extents

ModelBoxes = npt.NDArray[np.float32]
Decode = Callable[[Embedding, ModelBoxes], Logits]  # (1, C, h, w), (N, 4) -> (N, S, S)
NextPrompt = Callable[[Logits, int], ModelBoxes | None]  # logits (S, S) of box row -> box (4,), None: nothing found


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
        for row, logits in _decode_rows(decode, embedding, prompts[z], ranges.rows_on(z), block):
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
        margin_px: how loose the boxes are expected to be (`edge.views.view.expected_extents`).

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
        for row in ranges.rows_on(z).tolist():
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


def _decode_rows(
    decode: Decode, embedding: Embedding, boxes: ModelBoxes, rows: npt.NDArray[np.intp], block: int
) -> Iterator[tuple[int, Logits]]:
    for start in range(0, len(rows), block):
        chosen = rows[start : start + block]
        yield from zip(chosen.tolist(), decode(embedding, boxes[chosen]), strict=True)


def _or_own(prompt: ModelBoxes | None, own: ModelBoxes) -> ModelBoxes:
    return own if prompt is None else prompt

"""The slices of an image along one axis as the network is shown them; what it answered is remembered."""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from edge.engines.embeddings import Embedding, Embeddings
from edge.engines.model_folder import WALK
from edge.masks.restore import positive_window, restored_mask
from edge.masks.stability import Areas, mask_areas
from edge.methods import ladder_for
from edge.prompts.prompt import Mask, Prompt, PromptSource
from edge.segmenter import Segmenter
from edge.views.planners import Batch, PerBox, WholeSlice
from edge.views.prepare import ViewInputs
from edge.views.view import View

NEAR = 0.1  # of a view's width; boxes lose nothing there (measure/kept_views.py, docs/viewers.md)
REMEMBERED_BYTES = 2**26  # of masks in answers, and of the embeddings of views: twenty of 224 px


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network found on a slice."""

    z: int
    mask: Mask | None  # None: nothing
    areas: Areas  # (2,), see `edge.masks.stability`

    @property
    def nbytes(self) -> int:
        """Of the mask here and, at most, of its neighbour's in what was asked, and of the rest about."""
        return 1000 + (0 if self.mask is None else 2 * self.mask.pixels.nbytes)


class Slices:
    """Slices (D, H, W[, 3]), about which one thread asks at a time.

    Embeddings are kept, so that a changed box is decoded only: by a model for whole slices always, by a model for views
    in the view of an earlier box on its slice if that has the same size and no side farther than NEAR from those of its
    own. Views of a walk are not kept, as they show the mask of a neighbour. Answers are kept by all that was asked.
    """

    def __init__(self, slices: npt.NDArray[np.uint8], segmenter: Segmenter, method: str) -> None:
        """What is looked at.

        Args:
            method: as `edge.methods.chosen_method` returns it.
        """
        description, options = segmenter.engine.description, segmenter.options
        ladder = ladder_for(method, description)
        self.array, self._engine = slices, segmenter.engine
        self._letterbox = View.letterbox(slices.shape[1], slices.shape[2], description.input_size)
        self._planner = PerBox(ladder, options.block) if ladder else WholeSlice(self._letterbox, options.block)
        self._inputs = ViewInputs(slices, description.normalisation, walks=description.channels == WALK)
        budget_bytes = REMEMBERED_BYTES if ladder else options.embedding_budget_mib * 2**20
        self._embeddings = Embeddings[tuple[int, View]](budget_bytes)
        self._answers: dict[Hashable, Answer] = {}
        self._answer_bytes = 0

    @property
    def nbytes(self) -> int:
        """Of what is remembered."""
        return self._embeddings.nbytes + self._answer_bytes

    def ask(self, source: PromptSource) -> Iterator[Answer]:
        """The answers to a source's prompts of one box, each slice once, as they come."""
        for prompts in source.rounds():
            asked = list(prompts)
            known = {id(prompt): self._answers.get(_key(prompt)) for prompt in asked}
            answers = [(prompt, answer) for prompt in asked if (answer := known[id(prompt)])]
            yield from (answer for _, answer in answers)
            for batch in self._planner.batches(prompt for prompt in asked if known[id(prompt)] is None):
                answered = self._answer(batch)
                answers += zip(batch.prompts, answered, strict=True)
                yield from answered
            for prompt, answer in answers:
                source.give(prompt, answer.mask)

    def _answer(self, batch: Batch) -> list[Answer]:
        batch = replace(batch, views=[self._kept_view(*pair) for pair in batch.pairs()])
        logits = self._engine.decode(self._embeddings_of(batch), batch.boxes(), batch.within())
        height, width = self.array.shape[1:3]
        answers = []
        for (prompt, view), found in zip(batch.pairs(), logits, strict=True):
            window = positive_window(found, 1, view, prompt.within)
            mask = restored_mask(window, width, height) if window else None
            answer = Answer(prompt.z, mask, mask_areas(found, view))
            self._remember(prompt, answer)
            answers.append(answer)
        return answers

    def _remember(self, prompt: Prompt, answer: Answer) -> None:
        if (before := self._answers.pop(key := _key(prompt), None)) is not None:
            self._answer_bytes -= before.nbytes
        self._answers[key] = answer
        self._answer_bytes += answer.nbytes
        while self._answer_bytes > REMEMBERED_BYTES:
            self._answer_bytes -= self._answers.pop(next(iter(self._answers))).nbytes

    def _kept_view(self, prompt: Prompt, view: View) -> View:
        """The nearest of those that were encoded, if it is near; else the view itself."""
        kept = [one for z, one in self._embeddings if z == prompt.z] if prompt.neighbour is None else []
        nearest = min(kept, key=partial(_distance, view), default=view)
        return nearest if _distance(view, nearest) <= NEAR else view

    def _embeddings_of(self, batch: Batch) -> Embedding:
        pairs = list(batch.pairs())
        if not batch.shared and all(prompt.neighbour is not None for prompt, _ in pairs):
            return self._engine.encode(np.stack([self._inputs.part(*pair) for pair in pairs]))
        return np.concatenate([self._kept(*pair) for pair in pairs])

    def _kept(self, prompt: Prompt, view: View) -> Embedding:
        def encode() -> Embedding:
            is_whole = view == self._letterbox
            shown = self._inputs.whole(prompt.z, view.size) if is_whole else self._inputs.part(prompt, view)
            return self._engine.encode(shown[None])

        if prompt.neighbour is None or view == self._letterbox:
            return self._embeddings.get((prompt.z, view), encode)
        return encode()


def _distance(view: View, other: View) -> float:
    """How far the sides of another view lie from a view's, at most and of its width; infinite if it has another size.

    Both are squares, or the same.
    """
    if view.size != other.size:
        return math.inf
    left, top, wider = other.left - view.left, other.top - view.top, other.width - view.width
    return max(map(abs, (left, top, left + wider, top + wider))) / view.width


def _key(prompt: Prompt) -> Hashable:
    """All that a prompt's answer depends on."""
    arrays = (prompt.box, prompt.extent, prompt.within, prompt.in_frame)
    asked = tuple(None if array is None else array.tobytes() for array in arrays)
    if prompt.neighbour is None:
        return prompt.z, asked, None
    z, mask, left = prompt.neighbour.z, prompt.neighbour.mask, prompt.neighbour.left
    return prompt.z, asked, (z, left, mask.left, mask.top, mask.pixels.shape, np.packbits(mask.pixels).tobytes())

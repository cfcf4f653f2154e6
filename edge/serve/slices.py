"""The slices of an image along one axis as the network is shown them; what it answered is remembered."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.engines.embeddings import Embedding, Embeddings
from edge.engines.model_folder import WALK
from edge.masks.restore import positive_window, restored_mask
from edge.methods import ladder_for
from edge.prompts.prompt import Mask, Prompt, PromptSource
from edge.segmenter import Segmenter
from edge.views.planners import Batch, PerBox, WholeSlice
from edge.views.prepare import ViewInputs
from edge.views.view import View

REMEMBERED_BYTES = 2**26  # of masks in answers
STABLE = 1.0  # logits above and below the threshold 0 of a mask, as SAM's stability score has them


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network found on a slice."""

    z: int
    mask: Mask | None  # None: nothing
    stability: float  # SAM's score: IoU of the masks at logits of 1 and -1; 0 where nothing was found

    @property
    def nbytes(self) -> int:
        """Of the mask here and, at most, of its neighbour's in what was asked, and of the rest about."""
        return 1000 + (0 if self.mask is None else 2 * self.mask.pixels.nbytes)


class Slices:
    """Slices (D, H, W[, 3]), about which one thread asks at a time.

    Of a model for whole slices embeddings are kept, so that a changed box is decoded only. A model for views is shown
    each box in its own: none can be encoded before the box is drawn, and one takes a small part of a whole slice's
    time. Of both the answers are kept by all that was asked.
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
        self._embeddings = Embeddings(options.embedding_budget_mib * 2**20)
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
        if batch.shared:
            embeddings = self._whole(batch.prompts[0].z)
        else:
            embeddings = self._engine.encode(np.stack([self._inputs.part(*pair) for pair in batch.pairs()]))
        logits = self._engine.decode(embeddings, batch.boxes(), batch.within())
        height, width = self.array.shape[1:3]
        answers = []
        for (prompt, view), found in zip(batch.pairs(), logits, strict=True):
            window = positive_window(found, 1, view, prompt.within)
            mask = restored_mask(window, width, height) if window else None
            answer = Answer(prompt.z, mask, _stability(found) if mask else 0.0)
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

    def _whole(self, z: int) -> Embedding:
        return self._embeddings.get(z, lambda: self._engine.encode(self._inputs.whole(z, self._letterbox.size)[None]))


def _stability(logits: npt.NDArray[np.float32]) -> float:
    return float((logits > STABLE).sum() / (logits > -STABLE).sum())


def _key(prompt: Prompt) -> Hashable:
    """All that a prompt's answer depends on."""
    arrays = (prompt.box, prompt.extent, prompt.within, prompt.in_frame)
    asked = tuple(None if array is None else array.tobytes() for array in arrays)
    if prompt.neighbour is None:
        return prompt.z, asked, None
    z, mask, left = prompt.neighbour.z, prompt.neighbour.mask, prompt.neighbour.left
    return prompt.z, asked, (z, left, mask.left, mask.top, mask.pixels.shape, np.packbits(mask.pixels).tobytes())

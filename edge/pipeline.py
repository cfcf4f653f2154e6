"""The way of a case through the stages, in order, each timed."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from edge.choices import BLOCK, BOX_MARGIN_PX, FIXED, METHODS
from edge.data.case import Case
from edge.engines.embeddings import Embeddings
from edge.engines.graph import refuse_forked_process
from edge.engines.model_folder import WALK
from edge.engines.runtime import Engine
from edge.errors import RunError
from edge.masks.restore import Logits, LogitWindow, positive_window, restored_mask
from edge.masks.stability import mask_areas, stability
from edge.methods import Scene
from edge.prompts.prompt import Mask, Prompt
from edge.views.planners import Batch
from edge.views.prepare import ViewInputs
from edge.views.view import View

STAGES = ("preprocess", "encode", "decode", "restore+merge")

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """How a case is segmented."""

    method: str = "auto"  # one of `edge.choices.METHODS`, or FIXED
    box_margin_px: float = BOX_MARGIN_PX  # between each side of a box and its object, as expected; 0: boxes are tight
    block: int = BLOCK  # boxes decoded at once; bounds memory (about 40 MiB a box), changes nothing else
    embedding_budget_mib: int = 512  # of embeddings of whole slices kept for a second visit (4 MiB a slice)

    def __post_init__(self) -> None:
        if self.method not in (*METHODS, FIXED):
            raise RunError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.block < 1:
            raise RunError(f"block must be at least 1, got {self.block}")
        if not self.box_margin_px >= 0:
            raise RunError(f"box_margin_px must be at least 0, got {self.box_margin_px}")


@dataclass(frozen=True)
class Segmentation:
    """What came of a case."""

    name: str
    labels: npt.NDArray  # (H, W) or (D, H, W), uint8 or uint16; k for the k-th box, 0 background
    slices: int  # that were asked for
    boxes: int
    stage_s: dict[str, float] = field(default_factory=dict)  # stage -> seconds, in the order of STAGES
    stability: tuple[float, ...] = ()  # of each box's own mask, see `edge.masks.stability`


def segment(case: Case, engine: Engine, options: Options | None = None) -> Segmentation:
    """The label map of a case: prompts -> views -> encode -> decode -> restore -> merge.

    Raises:
        RunError: what the options ask for cannot be had, or see `edge.engines.graph.refuse_forked_process`.
    """
    refuse_forked_process()  # OpenCV would wait there, too
    stages = _Stages(case, engine, options or Options())
    for prompts in stages.source.rounds():
        for batch in stages.planner.batches(prompts):
            embeddings = stages.encode(batch)
            for (prompt, view), logits in zip(batch.pairs(), stages.decode(embeddings, batch), strict=True):
                stages.restore(prompt, view, logits)
        stages.give_back()
    return stages.result()


class _Stages:
    """What the prompts of one case go through, timed."""

    def __init__(self, case: Case, engine: Engine, options: Options) -> None:
        description = engine.description
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._name, self._shape, self._engine = case.name, case.shape, engine
        self._scene = Scene.of(case, description, options.method)
        with self._timed("preprocess"):
            self.source = self._scene.source(options.box_margin_px)
        self.planner = self._scene.planner(description, options.block)
        with self._timed("encode"):  # of the graphs' loading, before which nothing is encoded
            engine.prepare(self.planner.first_batches(self._scene.boxes, walks=self._scene.walks))
        self._inputs = ViewInputs(self._scene.slices, description.normalisation, walks=description.channels == WALK)
        self._embeddings = Embeddings[int](options.embedding_budget_mib * 2**20)
        self._maps = self._scene.label_maps()
        self._areas = np.zeros((len(self._scene.boxes), 2))
        self._answers: list[tuple[Prompt, LogitWindow | None]] = []  # of a round

    def encode(self, batch: Batch) -> Array:
        """Embeddings of a batch's views, a single one where they are all the same."""
        if batch.shared:
            z, size = batch.prompts[0].z, batch.views[0].size
            return self._embeddings.get(z, lambda: self._encode([self._inputs.whole(z, size)]))
        return self._encode(self._inputs.part(prompt, view) for prompt, view in batch.pairs())

    def _encode(self, inputs: Iterable[Array]) -> Array:
        with self._timed("preprocess"):
            images = np.stack(list(inputs))
        with self._timed("encode"):
            return self._engine.encode(images)

    def decode(self, embeddings: Array, batch: Batch) -> Array:
        """Logits (N, size, size)."""
        with self._timed("decode"):
            return self._engine.decode(embeddings, batch.boxes(), batch.within())

    def restore(self, prompt: Prompt, view: View, logits: Logits) -> None:
        """One box's answer on one slice, which becomes labels once the slice's others are there."""
        with self._timed("restore+merge"):
            self._areas[prompt.row] += mask_areas(logits, view)
            window = positive_window(logits, prompt.row + 1, view, prompt.within)
            if self.source.wants != "nothing":
                self._answers.append((prompt, window))
            if self._maps.add(prompt.z, window):
                self._embeddings.forget(prompt.z)

    def give_back(self) -> None:
        """The source of prompts is given the masks of a round."""
        answers, self._answers = self._answers, []
        with self._timed("restore+merge"):
            if self.source.wants == "merged":
                labels = {z: self._maps.so_far(z) for z in {prompt.z for prompt, _ in answers}}
                for prompt, _ in answers:
                    self.source.give(prompt, Mask.cut(labels[prompt.z] == prompt.row + 1))
            elif self.source.wants == "alone":
                height, width = self._scene.slices.shape[1:3]
                for prompt, window in answers:
                    self.source.give(prompt, restored_mask(window, width, height) if window else None)

    def result(self) -> Segmentation:
        """What came of all prompts."""
        slices, boxes = len(self._scene.ranges.covered_order()), len(self._scene.boxes)
        labels, sure = self._maps.labels.reshape(self._shape), tuple(map(stability, self._areas))
        return Segmentation(self._name, labels, slices, boxes, dict(self._seconds), sure)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - start


def set_image_threads(threads: int) -> None:
    """Threads of OpenCV's resizing; the engines have their own."""
    cv2.setNumThreads(threads)

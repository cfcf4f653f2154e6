"""The way of a case through the stages, in order, each timed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import ParamSpec, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from edge.choices import BLOCK, BOX_MARGIN_PX, FIXED, METHODS
from edge.data.case import Case
from edge.decode import (
    ModelBoxes,
    NextPrompt,
    decode_each,
    decode_propagating,
    decode_views,
    reach_within_boxes,
    widened,
)
from edge.encode import Embedding, encode_slices
from edge.engines.graph import refuse_forked_process
from edge.engines.runtime import Engine
from edge.errors import RunError
from edge.masks.merge import label_dtype, merge, nested_boxes
from edge.masks.restore import Logits, LogitWindow, positive_window, restored_mask
from edge.prompts.slice_ranges import SliceRanges
from edge.prompts.tracking import track_boxes
from edge.views.letterbox import Frame, box_around
from edge.views.prepare import prepare, resize_to_frame
from edge.views.view import View, ViewLadder

REACH_PX = 16  # how far beyond its prompt one looks for a mask that no box bounds, in model pixels
PROPAGATING = ("propagated", "baseline")
STAGES = ("preprocess", "encode", "decode", "restore+merge")

Embeddings = Iterator[tuple[int, Embedding]]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Options:
    """How a case is segmented."""

    method: str = "auto"  # one of `edge.choices.METHODS`, or FIXED
    box_margin_px: float = BOX_MARGIN_PX  # between each side of a box and its object, as expected; 0: boxes are tight
    block: int = BLOCK  # boxes decoded at once; bounds memory (about 40 MiB a box), changes nothing else
    batch: int = 1  # slices encoded at once
    embedding_budget_mib: int = 512  # of embeddings kept for a second visit (4 MiB a slice)

    def __post_init__(self) -> None:
        if self.method not in (*METHODS, FIXED):
            raise RunError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        for name in ("block", "batch"):
            if getattr(self, name) < 1:
                raise RunError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.box_margin_px >= 0:
            raise RunError(f"box_margin_px must be at least 0, got {self.box_margin_px}")


@dataclass(frozen=True)
class Segmentation:
    """What came of a case."""

    name: str
    labels: npt.NDArray  # (H, W) or (D, H, W), uint8 or uint16; k for the k-th box, 0 background
    slices: int  # encoded at least once
    boxes: int
    stage_s: dict[str, float] = field(default_factory=dict)  # stage -> seconds, in the order of STAGES


def segment(case: Case, engine: Engine, options: Options | None = None) -> Segmentation:
    """The label map of a case: preprocess -> encode -> decode -> restore + merge.

    A 2D image is a volume of one slice, on which every box lives. A model that takes no prompt answers once for all,
    with label 1, whatever boxes the case has.

    Raises:
        RunError: what the options ask for cannot be had, or see `edge.engines.graph.refuse_forked_process`.
    """
    refuse_forked_process()  # OpenCV would wait there, too
    options = options or Options()
    takes_boxes = engine.description.prompt == "box"
    case = case if takes_boxes else replace(case, boxes=_around_everything(case))
    slices = case.image if case.is_volume else case.image[None]
    boxes = case.boxes if case.is_volume else _on_slice_zero(case.boxes)
    ranges = SliceRanges.from_boxes(boxes)
    labels = np.zeros(slices.shape[:3], label_dtype(len(boxes)))
    flat_boxes = boxes[:, [0, 1, 3, 4]]
    walks = case.is_volume and takes_boxes
    tracked, propagates = (walks and options.method in them for them in (("auto", "tracked"), PROPAGATING))
    # whether labels stay within boxes known beforehand; else a slice's boxes say too little
    bounded = tracked if case.is_volume else options.method != "baseline"
    ladder = engine.description.ladder if bounded else None
    rules = {"last_wins": True} if options.method == "baseline" else {"nested": nested_boxes(flat_boxes)}

    watch = _Stopwatch()
    prompts = np.broadcast_to(flat_boxes, (len(slices), *flat_boxes.shape))
    if tracked:
        prompts = watch.timed("preprocess", track_boxes)(slices, flat_boxes, ranges)
    window_of = watch.timed("restore+merge", positive_window)
    merge_slice = watch.timed("restore+merge", partial(merge, **rules))
    walk = _Walk(slices, flat_boxes, ranges, prompts, bounded, propagates)
    decoded = _views(walk, ladder, engine, options, watch) if ladder else _frames(walk, engine, options, watch)
    missing = ranges.boxes_per_slice()
    windows: dict[int, list[LogitWindow]] = {z: [] for z in missing}
    for z, row, logits, frame in decoded:
        window = window_of(logits, row + 1, frame)
        if window is not None:
            windows[z].append(window)
        missing[z] -= 1
        if missing[z] == 0:
            merge_slice(windows.pop(z), labels[z], within=prompts[z] if bounded else None)
    return Segmentation(case.name, labels.reshape(case.shape), len(missing), len(boxes), watch.seconds())


@dataclass(frozen=True)
class _Walk:
    """Which boxes prompt which slices."""

    slices: npt.NDArray[np.uint8]  # (D, H, W[, 3])
    flat_boxes: npt.NDArray[np.float64]  # (N, 4), as given
    ranges: SliceRanges
    prompts: npt.NDArray[np.float64]  # (D, N, 4), boxes on each slice where they are known beforehand
    bounded: bool  # labels stay within `prompts`
    propagates: bool  # the mask on one slice prompts the next


def _frames(
    walk: _Walk, engine: Engine, options: Options, watch: "_Stopwatch"
) -> Iterator[tuple[int, int, Logits, Frame]]:
    """Slice, box row, logits and frame, through whole slices."""
    slices, ranges, baseline = walk.slices, walk.ranges, options.method == "baseline"
    frame = Frame(slices.shape[1], slices.shape[2], engine.description.input_size)
    normalise = engine.description.normalisation
    prepare_slice = watch.timed("preprocess", lambda z: prepare(slices[z], frame.size, normalise))
    encode = watch.timed("encode", engine.encode)
    reach_px = None if baseline else reach_within_boxes(frame.scale) if walk.bounded else REACH_PX

    def decode_within_reach(embedding: Embedding, prompts: ModelBoxes) -> Logits:
        return engine.decode(embedding, prompts, None if reach_px is None else widened(prompts, reach_px))

    decode = watch.timed("decode", decode_within_reach)

    to_model = partial(frame.boxes_to_model, truncate=baseline)
    prompts = to_model(walk.prompts)
    budget_bytes = options.embedding_budget_mib * 2**20
    embeddings: Callable[..., Embeddings] = partial(
        encode_slices, encode, prepare_slice, batch=options.batch, budget_bytes=budget_bytes
    )
    if walk.propagates:
        order = ranges.ascending_order() + ranges.descending_order()
        next_prompt = watch.timed("decode", _next_prompt(frame, label_value=baseline))
        decoded = decode_propagating(
            decode, embeddings(order), to_model(walk.flat_boxes), ranges, options.block, next_prompt
        )
    else:
        slices_once = embeddings(ranges.covered_order())
        decoded = decode_each(decode, slices_once, prompts, ranges, options.block)
    return ((z, row, logits, frame) for z, row, logits in decoded)


def _views(
    walk: _Walk, ladder: ViewLadder, engine: Engine, options: Options, watch: "_Stopwatch"
) -> Iterator[tuple[int, int, Logits, View]]:
    """Slice, box row, logits and view."""

    @lru_cache(maxsize=options.block)
    def range_of(z: int) -> tuple[int, int]:
        return int(walk.slices[z].min()), int(walk.slices[z].max())

    return decode_views(
        watch.timed("encode", engine.encode),
        watch.timed("decode", engine.decode),
        watch.timed("preprocess", lambda z, view: view.prepare(walk.slices[z], *range_of(z))),
        walk.prompts,
        walk.ranges,
        options.block,
        ladder,
        options.box_margin_px,
    )


def _around_everything(case: Case) -> npt.NDArray[np.float64]:
    """The one box, (1, 4) or (1, 6), that holds the whole image or volume."""
    last = np.array(case.shape[::-1], dtype=np.float64) - 1
    return np.concatenate([np.zeros_like(last), last])[None]


def _on_slice_zero(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    in_volume = np.zeros((len(boxes), 6))
    in_volume[:, [0, 1, 3, 4]] = boxes
    return in_volume


def _next_prompt(frame: Frame, *, label_value: bool) -> NextPrompt:
    """The next slice's box: the extent of the mask at full resolution, brought back to the model frame, widened.

    Args:
        label_value: the mask carries its label's value through uint8 area averaging, as in the public baseline
            (`CVPR24_LiteMedSAM_infer.py`), so a thin mask vanishes for label 1 and survives for label 2; otherwise the
            value is 1 for every label. The extent on the model grid instead, which is cheaper, was measured 0.1 DSC
            points worse on 17 public volumes.
    """

    def next_prompt(logits: Logits, row: int) -> ModelBoxes | None:
        value = np.uint8((row + 1) % 256 if label_value else 1)
        mask = restored_mask(logits, frame).astype(np.uint8) * value
        return box_around(resize_to_frame(mask, frame) > 0, frame.size)

    return next_prompt


class _Stopwatch:
    """Seconds spent within each stage's functions."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)

    def timed(self, stage: str, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._seconds[stage] += time.perf_counter() - start

        return wrapper

    def seconds(self) -> dict[str, float]:
        return dict(self._seconds)


def set_image_threads(threads: int) -> None:
    """Threads of OpenCV's resizing; the engines have their own."""
    cv2.setNumThreads(threads)

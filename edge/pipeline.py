"""The way of a case through the stages, in order, each timed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ParamSpec, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from edge.case import Case
from edge.decode import ModelBoxes, NextPrompt, SliceRanges, decode_each, decode_propagating
from edge.encode import Embedding, encode_slices
from edge.errors import RunError
from edge.geometry import Frame, box_around
from edge.merge import label_dtype, merge, nested_boxes
from edge.preprocess import prepare, resize_to_frame
from edge.region import encode_regions, regions_of_slices
from edge.restore import Logits, LogitWindow, positive_window, restored_mask
from edge.runtime import Engine

MODES = ("fast", "official")
VOLUME_POLICIES = ("auto", "taper", "propagate", "fixed")
REACH_PX = 16  # how far beyond its prompt `fast` looks for a mask that no box bounds, in model pixels
STAGES = ("preprocess", "encode", "decode", "restore+merge")

Embeddings = Iterator[tuple[int, Embedding]]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Options:
    """How a case is segmented."""

    mode: str = "fast"  # or "official": the masks of the public baseline, its quirks included
    volume: str = "auto"  # what prompts the slices of a 3D box, one of VOLUME_POLICIES; see `policy`
    block: int = 8  # boxes decoded at once; bounds memory (about 40 MiB a box), changes nothing else
    batch: int = 1  # slices encoded at once
    region: bool | None = None  # in a volume, encode only what the boxes of a slice can reach; None: see `by_region`
    embedding_budget_mib: int = 512  # of embeddings kept for a second visit (4 MiB a slice)

    def __post_init__(self) -> None:
        for name, value, known in (("mode", self.mode, MODES), ("volume", self.volume, VOLUME_POLICIES)):
            if value not in known:
                raise RunError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        for name in ("block", "batch"):
            if getattr(self, name) < 1:
                raise RunError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def policy(self) -> str:
        """What prompts the slices of a 3D box.

        `taper`: the box as an ellipsoid in it would be cut; `propagate`: each slice's mask prompts the next; `fixed`:
        the box as it is. `auto` is `propagate` in official mode, as the public baseline, and `taper` in fast mode: with
        samedge-base DSC of 49 public MR cases 0.560, by `propagate` 0.506, of 37 CT cases 0.641 and 0.615.
        """
        if self.volume != "auto":
            return self.volume
        return "propagate" if self.mode == "official" else "taper"


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
    """
    options = options or Options()
    takes_boxes = engine.description.prompt == "box"
    case = case if takes_boxes else replace(case, boxes=_around_everything(case))
    watch = _Stopwatch()
    slices = case.image if case.is_volume else case.image[None]
    boxes = case.boxes if case.is_volume else _on_slice_zero(case.boxes)
    frame = Frame(slices.shape[1], slices.shape[2], engine.description.input_size)
    ranges = SliceRanges.from_boxes(boxes)
    labels = np.zeros(slices.shape[:3], label_dtype(len(boxes)))
    official = options.mode == "official"
    flat_boxes = boxes[:, [0, 1, 3, 4]]
    policy = options.policy if case.is_volume and takes_boxes else "fixed"
    boxes_on = partial(ranges.tapered, flat_boxes) if policy == "taper" else lambda _: flat_boxes
    bounded = not official and (policy == "taper" or not case.is_volume)  # else a slice's boxes say too little
    rules = {"last_wins": True} if official else {"nested": nested_boxes(flat_boxes)}

    normalise = engine.description.normalisation
    prepare_slice = watch.timed("preprocess", lambda z: prepare(slices[z], frame.size, normalise))
    encode = watch.timed("encode", engine.encode)
    reach_px = None if official else _reach(frame, bounded=bounded)
    decode = watch.timed("decode", lambda embedding, prompts: engine.decode(embedding, prompts, reach_px))
    window_of = watch.timed("restore+merge", positive_window)
    merge_slice = watch.timed("restore+merge", partial(merge, **rules))

    to_model = partial(frame.boxes_to_model, truncate=official)
    budget_bytes = options.embedding_budget_mib * 2**20
    embeddings: Callable[..., Embeddings] = partial(
        encode_slices, encode, prepare_slice, batch=options.batch, budget_bytes=budget_bytes
    )
    if case.is_volume and takes_boxes and by_region(options, engine):
        regions = regions_of_slices(to_model(flat_boxes), ranges, frame.size)
        cells = engine.description.embedding_shape[-1]
        embeddings = partial(
            encode_regions, encode, prepare_slice, regions=regions, cells=cells, budget_bytes=budget_bytes
        )
    if policy == "propagate":
        order = ranges.ascending_order() + ranges.descending_order()
        next_prompt = watch.timed("decode", _next_prompt(frame, label_value=official))
        prompts = to_model(flat_boxes)
        decoded = decode_propagating(decode, embeddings(order), prompts, ranges, options.block, next_prompt)
    else:
        slices_once = embeddings(ranges.covered_order())
        decoded = decode_each(decode, slices_once, lambda z: to_model(boxes_on(z)), ranges, options.block)

    missing = ranges.boxes_per_slice()
    windows: dict[int, list[LogitWindow]] = {z: [] for z in missing}
    for z, row, logits in decoded:
        window = window_of(logits, row + 1, frame)
        if window is not None:
            windows[z].append(window)
        missing[z] -= 1
        if missing[z] == 0:
            merge_slice(windows.pop(z), frame, labels[z], within=boxes_on(z) if bounded else None)
    return Segmentation(case.name, labels.reshape(case.shape), len(missing), len(boxes), watch.seconds())


def _reach(frame: Frame, *, bounded: bool) -> float:
    """How far from a box logits are needed, in model pixels.

    Where labels stay within their boxes, one more pixel of the original on each side is all that is looked at, and one
    of the model for interpolation, so nothing changes.
    """
    return 1.5 * max(1.0, frame.scale) + 1 if bounded else REACH_PX


def by_region(options: Options, engine: Engine) -> bool:
    """Whether only that part of a volume's slices is encoded that their boxes can reach (`edge.region`).

    Where it is not asked for, it is so in fast mode with `taper`, whose labels stay within boxes known beforehand, if
    the engine can.

    Raises:
        RunError: it is asked for, and the engine encodes whole slices only.
    """
    if options.region and not engine.takes_regions:
        raise RunError(
            f"region: {engine.description.name} in {engine.backend} encodes whole slices only; use --backend openvino "
            "and a model that this version exported, or leave --region out"
        )
    if options.region is not None:
        return options.region
    return options.mode == "fast" and options.policy == "taper" and engine.takes_regions


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

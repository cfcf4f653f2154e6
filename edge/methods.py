"""What a method is made of: where prompts come from, how slices are shown, how masks are merged."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.choices import BASELINE, FIXED, PROPAGATED, TRACKED
from edge.data.case import Case
from edge.engines.model_folder import ModelDescription
from edge.masks.merge import LabelMaps, nested_boxes
from edge.prompts.baseline import BaselinePrompts
from edge.prompts.known import KnownPrompts
from edge.prompts.prompt import PromptSource
from edge.prompts.propagation import PropagatedPrompts
from edge.prompts.slice_ranges import SliceRanges
from edge.prompts.tracking import track_boxes
from edge.views.ladder import ViewLadder
from edge.views.planners import PerBox, Planner, WholeSlice
from edge.views.view import View


@dataclass(frozen=True, eq=False)
class Scene:
    """A case as a volume; an image is one of a single slice, on which every box lives."""

    slices: npt.NDArray[np.uint8]  # (D, H, W[, 3])
    boxes: npt.NDArray[np.float64]  # (N, 4) on the middle slices of their ranges, inclusive px
    ranges: SliceRanges
    letterbox: View
    method: str  # one of `edge.choices.METHODS` but auto, or FIXED

    @classmethod
    def of(cls, case: Case, description: ModelDescription, method: str) -> "Scene":
        """A model that takes no prompt answers once for the whole case, whatever boxes that has.

        Args:
            method: one of `edge.choices.METHODS`, or FIXED.
        """
        if description.prompt != "box":
            case = replace(case, boxes=_around_everything(case))
        ranges = SliceRanges.from_boxes(case.boxes_in_volume)
        letterbox = View.letterbox(case.slices.shape[1], case.slices.shape[2], description.input_size)
        return cls(case.slices, case.boxes_on_slice, ranges, letterbox, chosen_method(case, description, method))

    def source(self, margin_px: float) -> PromptSource:
        """Args: margin_px: expected between each side of a box and its object."""
        if self.method == BASELINE:
            return BaselinePrompts(
                self.boxes, self.ranges, self.slices.shape[1:3], self.letterbox.size, self.letterbox.show
            )
        if self.method == PROPAGATED:
            return PropagatedPrompts(self.boxes, self.ranges, margin_px)
        if self.method == TRACKED:
            return KnownPrompts(track_boxes(self.slices, self.boxes, self.ranges), self.ranges, margin_px)
        still = np.broadcast_to(self.boxes, (len(self.slices), *self.boxes.shape))
        return KnownPrompts(still, self.ranges, margin_px)

    @property
    def walks(self) -> bool:
        """Whether a mask travels from slice to slice."""
        return self.method == PROPAGATED and len(self.slices) > 1

    def planner(self, description: ModelDescription, block: int) -> Planner:
        """Args: block: boxes decoded at once."""
        ladder = ladder_for(self.method, description)
        return PerBox(ladder, block) if ladder else WholeSlice(self.letterbox, block)

    def label_maps(self) -> LabelMaps:
        """Nothing answered yet."""
        baseline = self.method == BASELINE
        nested = () if baseline else nested_boxes(self.boxes)
        on = self.ranges.boxes_per_slice()
        return LabelMaps(self.slices.shape[:3], len(self.boxes), on, nested=nested, last_wins=baseline)


def chosen_method(case: Case, description: ModelDescription, method: str) -> str:
    """What a method comes to for a case: of a model that takes no prompt FIXED, and for `auto` what validated best.

    Scores are of volumes; a picture has one slice, on which tracking and propagation are the same.
    """
    if description.prompt != "box":
        return FIXED
    if method == "auto":
        return description.method_for(case.modality) if case.is_volume else TRACKED
    return method


def ladder_for(method: str, description: ModelDescription) -> ViewLadder | None:
    """The views that a method shows the model; None: whole slices.

    Args:
        method: as `chosen_method` returns it.
    """
    return None if method == BASELINE else description.ladder


def _around_everything(case: Case) -> npt.NDArray[np.float64]:
    """The one box, (1, 4) or (1, 6), that holds the whole image or volume."""
    last = np.array(case.shape[::-1], dtype=np.float64) - 1
    return np.concatenate([np.zeros_like(last), last])[None]

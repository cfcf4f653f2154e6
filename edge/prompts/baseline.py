"""The prompts of the public baseline, `CVPR24_LiteMedSAM_infer.py`: a mask's extent on one slice prompts the next."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from edge.data.extent import box_of
from edge.prompts.prompt import Mask, Prompt, Wants
from edge.prompts.slice_ranges import SliceRanges

MARGIN_PX = 3  # of the letterbox: a mask's extent is widened by this much on every side

FrameBox = npt.NDArray[np.float32]  # (4,) px of the letterbox
Shrink = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]


class BaselinePrompts:
    """A `PromptSource`: from each box's middle slice up to its last, then from below the middle down to its first.

    Where nothing was found, the box itself prompts again.
    """

    wants: Wants = "alone"

    def __init__(
        self, boxes: npt.NDArray[np.float64], ranges: SliceRanges, shape: tuple[int, int], frame_px: int, shrink: Shrink
    ) -> None:
        """What is walked through.

        Args:
            boxes: (N, 4) on the middle slices of their ranges, px of the image.
            shape: (H, W) of a slice.
            frame_px: side of the letterbox.
            shrink: (H, W) to the letterbox's px, by area averages.
        """
        self._boxes, self._ranges, self._shape = boxes, ranges, shape
        self._frame_px, self._shrink = frame_px, shrink
        self._own = np.trunc(boxes * (frame_px / max(shape))).astype(np.float32)
        self._upward, self._downward = self._own.copy(), self._own.copy()

    def rounds(self) -> Iterator[Iterable[Prompt]]:
        ranges = self._ranges
        for z in ranges.ascending_order():
            yield self._on(z, np.flatnonzero((ranges.middle <= z) & (z <= ranges.last)), self._upward)
        for z in ranges.descending_order():
            yield self._on(z, np.flatnonzero((ranges.first <= z) & (z < ranges.middle)), self._downward)

    def give(self, prompt: Prompt, mask: Mask | None) -> None:
        row, middle = prompt.row, self._ranges.middle[prompt.row]
        following = None if mask is None else self._next(mask, row)
        following = self._own[row] if following is None else following
        if prompt.z >= middle:
            self._upward[row] = following
        if prompt.z <= middle:
            self._downward[row] = following

    def _on(self, z: int, rows: npt.NDArray[np.intp], boxes: npt.NDArray[np.float32]) -> list[Prompt]:
        return [Prompt(z, row, self._boxes[row], self._boxes[row], in_frame=boxes[row].copy()) for row in rows.tolist()]

    def _next(self, mask: Mask, row: int) -> FrameBox | None:
        """The mask carries its label's value through uint8 averages, so a thin one vanishes for label 1, not for 2."""
        drawn = mask.painted(*self._shape) * np.uint8((row + 1) % 256)
        return box_around(self._shrink(drawn) > 0, self._frame_px)


def box_around(mask: npt.NDArray[np.bool_], frame_px: int) -> FrameBox | None:
    """The box (4,) around the true pixels of a mask (h, w), widened, clipped to [0, frame_px]; None: there are none."""
    if not mask.any():
        return None
    widened = box_of(mask) + np.array([-MARGIN_PX, -MARGIN_PX, MARGIN_PX, MARGIN_PX])
    return widened.clip(0, frame_px).astype(np.float32)

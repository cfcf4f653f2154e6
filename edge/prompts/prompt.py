"""What asks for an object's mask on a slice, and what a source of prompts is given back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from edge.data.extent import extent_of

WIDEST_MARGIN = 0.15  # of the box, at most

# What a source is given back: nothing; each box's mask alone; or what its slice's other boxes leave of it.
Wants = Literal["nothing", "alone", "merged"]
Box = npt.NDArray[np.float64]  # (4,): x_min, y_min, x_max, y_max, inclusive pixels of the image


@dataclass(frozen=True, eq=False)
class Mask:
    """An object on a slice, cut to its extent."""

    left: int  # px of the image
    top: int
    pixels: npt.NDArray[np.bool_]  # (h, w), true on every side of it

    @classmethod
    def cut(cls, part: npt.NDArray[np.bool_], left: int = 0, top: int = 0) -> "Mask | None":
        """What is true of a part (h, w) of a slice, cut to its extent; None: nothing is.

        Args: left, top: of the part, px of the image.
        """
        rows, columns = extent_of(part)
        inside = part[rows, columns]
        return cls(left + columns.start, top + rows.start, inside) if inside.size else None

    @property
    def box(self) -> Box:
        """Its extent."""
        height, width = self.pixels.shape
        return np.array([self.left, self.top, self.left + width - 1, self.top + height - 1], np.float64)

    def painted(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """The mask on its whole slice (height, width)."""
        slice_ = np.zeros((height, width), dtype=bool)
        rows, columns = self.pixels.shape
        slice_[self.top : self.top + rows, self.left : self.left + columns] = self.pixels
        return slice_


@dataclass(frozen=True, eq=False)
class Neighbour:
    """The slice that a walk comes from."""

    z: int
    mask: Mask  # found there
    left: float  # of the walk to its end, 1 in the middle and 0 beyond the last slice


@dataclass(frozen=True, eq=False)
class Prompt:
    """What asks for the mask of one box on one slice."""

    z: int
    row: int  # of the box; its label is one more
    box: Box  # around the object, as loose as the boxes that were given
    extent: Box  # where the object is expected to end
    within: Box | None = None  # labels stay within it; None: they may be anywhere
    neighbour: Neighbour | None = None
    in_frame: npt.NDArray[np.float32] | None = None  # (4,) in px of the letterbox, in place of what `box` is there


class PromptSource(Protocol):
    """Where the prompts of a case come from."""

    wants: Wants

    def rounds(self) -> Iterator[Iterable[Prompt]]:
        """Prompts, once each box and slice; a round begins when all masks of the one before were given back."""

    def give(self, prompt: Prompt, mask: Mask | None) -> None:
        """The mask that a prompt led to; None: nothing was found."""


def expected_extents(boxes: npt.NDArray[np.float64], margin_px: float) -> npt.NDArray[np.float64]:
    """Where objects in boxes (..., 4) of inclusive pixels are expected to end: what prompts for them in their views.

    A view shows a box at about one size, whatever that was; how much lies between prompt and box tells the network how
    loose the box may be: much for a nucleus, nothing for a lung.

    Args:
        margin_px: expected between each side of a box and its object; 0: the boxes are tight.
    """
    margin = np.minimum(margin_px, WIDEST_MARGIN * (boxes[..., 2:] - boxes[..., :2] + 1))
    return boxes + np.concatenate([margin, -margin], axis=-1)

"""One sample of LiteMedSAM's training, and the samples of a step as tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]
Box = npt.NDArray[np.float64]  # (4,) x_min, y_min, x_max, y_max, inclusive px


@dataclass(frozen=True)
class ViewSample:
    """A view with its prompt and what is asked for. Masks are 0 to 255: the part of a pixel that the object covers."""

    size: int  # s, px
    pixels: Pixels  # (3, s, s): colours, a slice thrice, or slice, neighbouring slice and the neighbour's mask
    span: tuple[float, float]  # pixels that become 0 and 1
    masked: bool  # the third channel is a mask, 0 to 255
    prompt: Box  # px of the view
    target: Pixels  # (s, s)
    next_slice: Pixels | None = None  # (s, s): the walk's next slice, prompted by the mask found on this one
    next_target: Pixels | None = None  # (s, s)
    mask_value: int = 255  # what the found mask is drawn with when it is given to the next slice


@dataclass(frozen=True)
class Group:
    """Samples of one size, answered once each or all in two steps."""

    pixels: Tensor  # (B, 3, s, s) uint8
    span: Tensor  # (B, 2)
    masked: Tensor  # (B,) bool
    prompt: Tensor  # (B, 4)
    target: Tensor  # (B, s, s) uint8
    next_slice: Tensor | None  # (B, s, s) uint8
    next_target: Tensor | None  # (B, s, s) uint8
    mask_value: Tensor  # (B,) uint8

    def each(self, change: Callable[[Tensor], Tensor]) -> "Group":
        """The same with every tensor changed."""
        changed: dict[str, Any] = {k: None if tensor is None else change(tensor) for k, tensor in vars(self).items()}
        return Group(**changed)


class ViewBatch:
    """A step's samples. No dataclass: of those mixed precision rounds every tensor, and prompts need all bits."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups

    def to(self, device: torch.device) -> "ViewBatch":
        return ViewBatch([group.each(lambda tensor: tensor.to(device, non_blocking=True)) for group in self.groups])

    def pin_memory(self) -> "ViewBatch":
        return ViewBatch([group.each(Tensor.pin_memory) for group in self.groups])


def collate(samples: list[ViewSample]) -> ViewBatch:
    """Samples as tensors, grouped by size and by whether they have a next slice, in the order in which they come."""
    groups: dict[tuple[int, bool], list[ViewSample]] = {}
    for sample in samples:
        groups.setdefault((sample.size, sample.next_slice is not None), []).append(sample)
    return ViewBatch([_group(members) for members in groups.values()])


def _group(samples: list[ViewSample]) -> Group:
    unrolled = samples[0].next_slice is not None
    return Group(
        pixels=_stacked(samples, "pixels"),
        span=torch.tensor([sample.span for sample in samples], dtype=torch.float32),
        masked=torch.tensor([sample.masked for sample in samples]),
        prompt=_stacked(samples, "prompt").float(),
        target=_stacked(samples, "target"),
        next_slice=_stacked(samples, "next_slice") if unrolled else None,
        next_target=_stacked(samples, "next_target") if unrolled else None,
        mask_value=torch.tensor([sample.mask_value for sample in samples], dtype=torch.uint8),
    )


def _stacked(samples: list[ViewSample], name: str) -> Tensor:
    return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

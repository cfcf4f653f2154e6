"""Samples of the SAM networks as one batch, and their loss.

A sample has one or more targets (maps to answer) and one or more images; each target is answered on each of the
sample's images that asks for it, and its answers are averaged: one answer for a tissue image, one per sequence for an
MR slice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.optimisation.losses import map_loss, mean_over_images
from train.recipe import Recipe
from train.sam_systems.network import Prompts, Sam


@dataclass(frozen=True)
class SamSample:
    """One sample; every target is answered on every image."""

    images: npt.NDArray[np.float32]  # (I, 3, S, S), normalised
    classes: npt.NDArray[np.int64]  # (T, M, M) channel to answer
    counted: npt.NDArray[np.bool_]  # (M, M) where the answer counts
    points: npt.NDArray[np.float32]  # (T, P, 2) in input px; P may be 0
    boxes: npt.NDArray[np.float32]  # (T, 4) in input px, or (T, 0)


class SamBatch:
    """Samples together, A answers for T targets. No dataclass, for the reason that `ViewBatch` is none."""

    def __init__(
        self,
        images: Tensor,
        image_of_answer: Tensor,
        target_of_answer: Tensor,
        points: Tensor,
        boxes: Tensor,
        classes: Tensor,
        counted: Tensor,
        sample_of_target: Tensor,
    ) -> None:
        self.images = images  # (B, 3, S, S)
        self.image_of_answer = image_of_answer  # (A,)
        self.target_of_answer = target_of_answer  # (A,)
        self.points = points  # (A, P, 2)
        self.boxes = boxes  # (A, 4) or (A, 0)
        self.classes = classes  # (T, M, M)
        self.counted = counted  # (T, M, M)
        self.sample_of_target = sample_of_target  # (T,)

    def to(self, device: torch.device) -> "SamBatch":
        return SamBatch(*(tensor.to(device, non_blocking=True) for tensor in vars(self).values()))

    @property
    def prompts(self) -> Prompts:
        has_points, has_boxes = self.points.shape[1] > 0, self.boxes.shape[1] > 0
        return Prompts(
            self.image_of_answer,
            self.points if has_points else None,
            torch.ones(self.points.shape[:2], device=self.points.device) if has_points else None,
            self.boxes if has_boxes else None,
        )


def collate_sam(samples: list[SamSample]) -> SamBatch:
    """Samples of one size as a batch."""
    images, targets = [], []  # of each answer
    first_image = first_target = 0
    for sample in samples:
        count, asked = len(sample.images), len(sample.classes)
        images.append(first_image + np.repeat(np.arange(count), asked))
        targets.append(first_target + np.tile(np.arange(asked), count))
        first_image, first_target = first_image + count, first_target + asked
    repeats = [len(sample.images) for sample in samples]
    return SamBatch(
        images=torch.from_numpy(np.concatenate([sample.images for sample in samples])),
        image_of_answer=torch.from_numpy(np.concatenate(images)),
        target_of_answer=torch.from_numpy(np.concatenate(targets)),
        points=_repeated([sample.points for sample in samples], repeats),
        boxes=_repeated([sample.boxes for sample in samples], repeats),
        classes=torch.from_numpy(np.concatenate([sample.classes for sample in samples])),
        counted=torch.from_numpy(np.concatenate([np.broadcast_to(s.counted, s.classes.shape) for s in samples])),
        sample_of_target=torch.arange(len(samples)).repeat_interleave(torch.tensor([len(s.classes) for s in samples])),
    )


def answer_targets(network: Sam, batch: SamBatch) -> Tensor:
    """Logits (T, C, h, w) of the batch's targets: the mean of each one's answers."""
    logits = network(batch.images, batch.prompts).float()
    summed = logits.new_zeros(len(batch.classes), *logits.shape[1:]).index_add(0, batch.target_of_answer, logits)
    answers = torch.bincount(batch.target_of_answer, minlength=len(batch.classes))
    return summed / answers[:, None, None, None]


class SamLoss(nn.Module):
    """From a batch to its loss: logits brought to the maps' size, every sample counting the same."""

    def __init__(self, network: Sam, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self._loss = map_loss(recipe.loss, recipe.loss_weights)

    def forward(self, batch: SamBatch) -> Tensor:
        losses = loss_of(self._loss, answer_targets(self.network, batch), batch)
        return mean_over_images(losses, batch.sample_of_target, int(batch.sample_of_target[-1]) + 1)


def loss_of(loss: Callable[[Tensor, Tensor, Tensor], Tensor], logits: Tensor, batch: SamBatch) -> Tensor:
    """A `map_loss` (T,) of logits (T, C, h, w), brought to the maps' size first."""
    logits = F.interpolate(logits, size=batch.classes.shape[-2:], mode="bilinear", align_corners=False)
    return loss(logits, batch.classes, batch.counted)


def _repeated(parts: list[npt.NDArray[np.float32]], repeats: list[int]) -> Tensor:
    """Each sample's prompts once per image of it."""
    tiled = [np.tile(part, (count, *[1] * (part.ndim - 1))) for part, count in zip(parts, repeats, strict=True)]
    return torch.from_numpy(np.concatenate(tiled).astype(np.float32))


class SamTask:
    """What the tasks of SAM networks share: how samples become a batch, and its loss."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    @staticmethod
    def collate(samples: list[SamSample]) -> SamBatch:
        return collate_sam(samples)

    def kinds(self) -> list[int]:
        return [self._recipe.batch]

    def loss(self, network: Sam) -> nn.Module:
        return SamLoss(network, self._recipe)

"""The first lesson: what a box is. The decoder alone, noise for an embedding, the inscribed ellipse as the answer.

From random weights a network spends most of its time finding out what a box means, and an encoder that learns nothing
yet makes each of those steps expensive; without it a step costs a fifth.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from edge.geometry import MODEL_SIZE
from train.data.samples import Batch
from train.networks.litemedsam import LiteMedSAM
from train.networks.tiny_vit import EMBEDDING_WIDTH, STRIDE
from train.recipe import Recipe
from train.tasks.boxes import BoxLesson
from train.tasks.task import DataFacts
from train.validate import Validation

SIDES = {56: 48, 112: 12, 256: 4}  # side of the field in px -> boxes a step: about the same work each
SMALLEST_BOX_PX = 4
WARMUP_STEPS = 100


def ellipse_recipe(recipe: Recipe) -> Recipe:
    """How a recipe's `ellipse_steps` train: its decoder and prompt encoder, at its rate, falling to 0.

    The fall takes the DSC from 0.83 to 0.90 within 200 steps, where the full rate stood still.
    """
    return replace(
        recipe, trainable="decoder", train_beside=("prompt_encoder",), batch=1, epoch_samples=recipe.ellipse_steps,
        epochs=1, max_steps=recipe.ellipse_steps, decoder_lr_share=1.0, warmup_steps=WARMUP_STEPS, schedule="cosine",
        ema=0.0, workers=0, validate_every=0, validate_at_start=False, early_stop=0, wandb="",
    )  # fmt: skip


class EllipseTask:
    """A `train.tasks.task.Task` whose samples are whole batches, each of fields of one size."""

    facts = DataFacts({}, 0)
    validates = False

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def samples(self, epoch: int) -> "Ellipses":
        return Ellipses(self._recipe, epoch)

    @staticmethod
    def collate(samples: list[Batch]) -> Batch:
        (batch,) = samples
        return batch

    def lesson(self, network: LiteMedSAM) -> "EllipseLesson":
        return EllipseLesson(network, self._recipe)

    def validate(self, network: LiteMedSAM) -> Validation:
        raise NotImplementedError("ellipses are not validated")


class EllipseLesson(BoxLesson):
    """From a batch that holds embeddings to its loss."""

    def forward(self, batch: Batch) -> Tensor:
        return self.loss_of(batch.images, batch)


class Ellipses(Dataset):
    """The batches of an epoch, by position."""

    def __init__(self, recipe: Recipe, epoch: int) -> None:
        self._seed, self._first = recipe.seed, epoch * recipe.epoch_samples

    def __getitem__(self, position: int) -> Batch:
        return ellipse_batch(self._first + position, self._seed)


def ellipse_batch(step: int, seed: int) -> Batch:
    """Fields of noise for embeddings (N, 256, h, h), a box on each, ellipses (N, 4h, 4h): a function of the step.

    Two steps of three are on 56-px fields anywhere in the frame; sizes are even in their logarithm up to the field's.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    side = 56 if step % 3 else (112, 256)[step % 2]
    count = SIDES[side]
    cells = side // STRIDE
    corners = STRIDE * torch.randint(0, (MODEL_SIZE - side) // STRIDE + 1, (count, 2), generator=generator)
    spread = math.log(side / SMALLEST_BOX_PX)
    size = SMALLEST_BOX_PX * torch.exp(spread * torch.rand(count, 1, generator=generator)).expand(-1, 2)
    size = (size * torch.exp(torch.rand(count, 2, generator=generator) - 0.5)).clamp(SMALLEST_BOX_PX, side)
    low = torch.rand(count, 2, generator=generator) * (side - size)
    boxes = torch.cat([low, low + size - 1], dim=1)
    embeddings = torch.randn(count, EMBEDDING_WIDTH, cells, cells, generator=generator)
    placed = boxes + corners.repeat(1, 2)
    return Batch(embeddings, placed, torch.arange(count), corners, inscribed_ellipses(boxes, side))


def inscribed_ellipses(boxes: Tensor, side: int) -> Tensor:
    """The ellipses (N, side, side) bool that touch the outer edges of boxes (N, 4) of inclusive pixels."""
    low, high = boxes[:, :2, None], boxes[:, 2:, None] + 1
    places = torch.arange(side, device=boxes.device) + 0.5
    distance = ((places - (low + high) / 2) / ((high - low) / 2)).square()  # (N, 2, side): along x, along y
    return distance[:, 0, None, :] + distance[:, 1, :, None] <= 1

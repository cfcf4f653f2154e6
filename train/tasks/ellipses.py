"""The first lesson: what a box is. The decoder alone, noise for an embedding, the inscribed ellipse as the answer.

From random weights a network spends most of its time finding out what a box means, and an encoder that learns nothing
yet makes each of those steps expensive; without it a step costs a fifth.
"""

import math

import torch
from torch import Tensor

from edge.geometry import MODEL_SIZE
from train.display import Advance, silent
from train.losses import mask_loss
from train.networks.litemedsam import LiteMedSAM
from train.networks.tiny_vit import EMBEDDING_WIDTH, STRIDE
from train.recipe import Recipe

SIDES = {56: 48, 112: 12, 256: 4}  # side of the field in px -> boxes a step: about the same work each
SMALLEST_BOX_PX = 4
WARMUP_STEPS = 100
REPORTED_STEPS = 50  # that the DSC shown is the mean of


def ellipse_lesson(step: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embeddings (N, 256, h, h) of noise, boxes (N, 4), corners (N, 2), ellipses (N, 4h, 4h): a function of the step.

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
    return embeddings, boxes + corners.repeat(1, 2), corners, inscribed_ellipses(boxes, side)


def inscribed_ellipses(boxes: Tensor, side: int) -> Tensor:
    """The ellipses (N, side, side), 0 or 1, that touch the outer edges of boxes (N, 4) of inclusive pixels."""
    low, high = boxes[:, :2, None], boxes[:, 2:, None] + 1
    places = torch.arange(side, device=boxes.device) + 0.5
    distance = ((places - (low + high) / 2) / ((high - low) / 2)).square()  # (N, 2, side): along x, along y
    return (distance[:, 0, None, :] + distance[:, 1, :, None] <= 1).float()


def learn_ellipses(network: LiteMedSAM, recipe: Recipe, advance: Advance = silent) -> float:
    """Teach the decoder ellipses for `ellipse_steps`; returns the last tenth's DSC, 0 where there is no step.

    The same in every process, as it depends on the recipe alone.
    """
    if not recipe.ellipse_steps:
        return 0.0
    device = next(network.parameters()).device
    parts = torch.nn.ModuleList([network.mask_decoder, network.prompt_encoder])
    optimizer = torch.optim.AdamW([p for p in parts.parameters() if p.requires_grad], lr=recipe.lr, weight_decay=0.01)
    loss_of, scores = mask_loss(recipe.loss), []
    for step in range(recipe.ellipse_steps):
        for group in optimizer.param_groups:
            # falling to 0: from DSC 0.83 to 0.90 within 200 steps, where the full rate stood still
            group["lr"] = recipe.lr * min((step + 1) / WARMUP_STEPS, 1 - step / recipe.ellipse_steps)
        embeddings, boxes, corners, ellipses = (tensor.to(device) for tensor in ellipse_lesson(step, recipe.seed))
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision.startswith("bf16")):
            logits, _ = network.decode(embeddings, boxes, torch.arange(len(boxes), device=device), corners)
        logits = logits.float()
        loss_of(logits, ellipses, boxes - corners.repeat(1, 2)).mean().backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        answered = logits > 0
        overlap = 2 * (answered * ellipses).sum() / (answered.sum() + ellipses.sum())
        scores.append(float(overlap))
        recent = scores[-REPORTED_STEPS:]
        advance("ellipses", step + 1, recipe.ellipse_steps, f"DSC {sum(recent) / len(recent):.3f}")
    last = scores[-max(1, len(scores) // 10) :]
    return sum(last) / len(last)

"""From a batch of views to its loss."""

import torch
from torch import Tensor, nn

from train.data.batch import Group, ViewBatch
from train.networks.litemedsam import LiteMedSAM
from train.optimisation.losses import iou_loss, mask_loss
from train.recipe import Recipe
from train.tasks.intensity import Intensity, stretch


class ViewLoss(nn.Module):
    """The mean over a batch's samples; of a sample of two steps the second one's answer counts."""

    def __init__(self, network: LiteMedSAM, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self._mask_loss = mask_loss(recipe.loss, recipe.loss_weights)
        self._intensity, self._iou_weight = recipe.intensity, recipe.iou_weight

    def forward(self, batch: ViewBatch) -> Tensor:
        return torch.cat([self._losses(group) for group in batch.groups]).mean()

    def _losses(self, group: Group) -> Tensor:
        """The loss (B,) of each sample."""
        intensity = Intensity(len(group.prompt), self._intensity, group.prompt.device)
        images, prompt, target = stretched(group, intensity), group.prompt, group.target
        if group.next_slice is not None and group.next_target is not None:
            with torch.no_grad():
                found = self._answer(images, prompt)[0] > 0
            images, prompt = next_step(group, group.next_slice, images, found, intensity)
            target = group.next_target
        logits, iou = self._answer(images, prompt)
        masks = target.float() / 255
        losses = self._mask_loss(logits, masks)
        return losses + self._iou_weight * iou_loss(iou, logits, masks) if self._iou_weight else losses

    def _answer(self, images: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, s, s) and predicted IoU (B,) of images (B, 3, s, s) in [0, 1] and prompts (B, 4) in px of them."""
        logits, iou = self.network.decode_with_iou(self.network.image_encoder(images), prompt)
        return logits.float(), iou.float()


def stretched(group: Group, intensity: Intensity) -> Tensor:
    """A group's images (B, 3, s, s) in [0, 1], changed; a mask in the third channel is divided by 255 alone."""
    images = stretch(group.pixels, group.span)
    masks = group.pixels[:, 2:].float() / 255
    images = torch.cat([images[:, :2], torch.where(group.masked[:, None, None, None], masks, images[:, 2:])], dim=1)
    return intensity.apply(images, group.masked)


def next_step(
    group: Group, next_slice: Tensor, images: Tensor, found: Tensor, intensity: Intensity
) -> tuple[Tensor, Tensor]:
    """Images (B, 3, s, s) of the next slices (B, s, s), given masks found (B, s, s) on these, and their prompts (B, 4).

    Where nothing was found, the prompt stays the one before.
    """
    following = intensity.apply_to_slices(stretch(next_slice[:, None], group.span)[:, 0])
    drawn = found * (group.mask_value.float() / 255)[:, None, None]
    nothing = ~found.flatten(1).any(dim=1)
    prompt = torch.where(nothing[:, None], group.prompt, extents(found))
    return torch.stack([following, images[:, 0], drawn], dim=1), prompt


def extents(masks: Tensor) -> Tensor:
    """Boxes (B, 4), inclusive px, of masks (B, s, s) bool; an empty one's box means nothing."""
    rows, columns = masks.any(dim=2).float(), masks.any(dim=1).float()
    last = masks.shape[-1] - 1
    low = [columns.argmax(dim=1), rows.argmax(dim=1)]
    high = [last - columns.flip(1).argmax(dim=1), last - rows.flip(1).argmax(dim=1)]
    return torch.stack([*low, *high], dim=1).float()

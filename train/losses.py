"""What is minimised: masks, optionally the predicted IoU. Every image counts the same, however many boxes it has."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LOSSES = ("dice+focal", "dice+bce", "dice+box-bce")
BOX_MARGIN_PX = 2  # `dice+box-bce` counts this rim around the box as inside


def mask_loss(name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A loss by name, of logits (N, S, S), masks (N, S, S) and boxes (N, 4) in the same pixels, giving (N,).

    `dice+focal` and `dice+bce` are sums of equal weight. `dice+box-bce` means the cross-entropy inside and outside the
    box apart: from random weights a mean over the whole frame teaches the network to answer nothing (DSC 0.01 after 100
    steps of 8).

    Raises:
        KeyError: not one of LOSSES.
    """
    second = {"dice+focal": _focal, "dice+bce": _cross_entropy, "dice+box-bce": _box_cross_entropy}[name]
    return lambda logits, masks, boxes: _dice(logits, masks) + second(logits, masks, boxes)


def iou_loss(predicted: Tensor, logits: Tensor, masks: Tensor) -> Tensor:
    """Squared error (N,) of the IoU that the network predicts for its own masks."""
    answered, masks = logits.detach() > 0, masks.bool()
    union = (answered | masks).sum(dim=(1, 2)).clamp(min=1)
    return (predicted - (answered & masks).sum(dim=(1, 2)) / union).square()


def mean_over_images(losses: Tensor, image_of_box: Tensor, images: int) -> Tensor:
    """The mean over images of the mean over each one's boxes: the same when images are split over processes."""
    boxes = torch.bincount(image_of_box, minlength=images).to(losses.dtype)
    return (losses / boxes[image_of_box]).sum() / images


def _dice(logits: Tensor, masks: Tensor) -> Tensor:
    from monai.losses import DiceLoss

    dice = DiceLoss(sigmoid=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0)
    return dice(logits[:, None], masks[:, None]).view(-1)


def _focal(logits: Tensor, masks: Tensor, _boxes: Tensor) -> Tensor:
    from monai.losses import FocalLoss

    return FocalLoss(gamma=2.0, reduction="none")(logits[:, None], masks[:, None]).mean(dim=(1, 2, 3))


def _cross_entropy(logits: Tensor, masks: Tensor, _boxes: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean(dim=(1, 2))


def _box_cross_entropy(logits: Tensor, masks: Tensor, boxes: Tensor) -> Tensor:
    errors = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    inside = _box_masks(boxes, logits.shape[-1]).to(errors.dtype)
    return _mean_where(errors, inside) + _mean_where(errors, 1 - inside)


def _box_masks(boxes: Tensor, size: int) -> Tensor:
    places = torch.arange(size, device=boxes.device)
    low, high = boxes[:, :2, None] - BOX_MARGIN_PX, boxes[:, 2:, None] + BOX_MARGIN_PX
    within = (places >= low) & (places <= high)  # (N, 2, size): columns, rows
    return within[:, 1, :, None] & within[:, 0, None, :]


def _mean_where(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp(min=1)

"""What is minimised: masks, optionally the predicted IoU. Every image counts the same, however many boxes it has."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

LOSSES = ("dice+focal", "dice+bce", "dice+ce", "bce")


def mask_loss(name: str, weights: Mapping[str, float] | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss by name, of logits (N, S, S) and masks (N, S, S), 0 to 1, giving (N,).

    The sum of the terms in its name, each times its weight (1 unless given).

    Raises:
        KeyError: not one of LOSSES.
    """
    terms = _terms(name, weights)

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        weighed = (logits[:, None], masks[:, None], torch.ones_like(masks[:, None]))
        return torch.stack([weight * term(*weighed) for weight, term in terms]).sum(dim=0)

    return loss


def map_loss(name: str, weights: Mapping[str, float] | None = None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A loss by name, of logits (N, C, S, S), classes (N, S, S) and what counts (N, S, S), 0 or 1, giving (N,).

    With one channel the classes are 0 and 1 and probabilities a sigmoid's, with more a softmax's. Terms as in
    `mask_loss`; `ce` is the cross-entropy over the channels, `bce` that of each channel by itself.

    Raises:
        KeyError: not one of LOSSES.
    """
    terms = _terms(name, weights)

    def loss(logits: Tensor, classes: Tensor, counted: Tensor) -> Tensor:
        channels = logits.shape[1]
        truth = classes[:, None] if channels == 1 else F.one_hot(classes, channels).permute(0, 3, 1, 2)
        weighed = (logits, truth.to(logits.dtype), counted[:, None].to(logits.dtype))
        return torch.stack([weight * term(*weighed) for weight, term in terms]).sum(dim=0)

    return loss


def iou_loss(predicted: Tensor, logits: Tensor, masks: Tensor) -> Tensor:
    """Squared error (N,) of the IoU that the network predicts for its own logits (N, S, S); masks (N, S, S), 0 to 1."""
    answered, truth = logits.detach() > 0, masks >= 0.5
    union = (answered | truth).sum(dim=(1, 2)).clamp(min=1)
    return (predicted - (answered & truth).sum(dim=(1, 2)) / union).square()


def mean_over_images(losses: Tensor, image_of_box: Tensor, images: int) -> Tensor:
    """The mean over images of the mean over each one's boxes: the same when images are split over processes."""
    boxes = torch.bincount(image_of_box, minlength=images).to(losses.dtype)
    return (losses / boxes[image_of_box]).sum() / images


def _terms(name: str, weights: Mapping[str, float] | None) -> list[tuple[float, Callable[..., Tensor]]]:
    if name not in LOSSES:
        raise KeyError(name)
    return [((weights or {}).get(term, 1.0), _TERMS[term]) for term in name.split("+")]


# Each term takes logits and truth (N, C, S, S) and what counts (N, 1, S, S), and gives (N,).


def _dice(logits: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    from monai.losses import DiceLoss

    shares = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
    dice = DiceLoss(reduction="none", smooth_nr=1.0, smooth_dr=1.0)(shares * counted, truth * counted)
    return dice.flatten(1).mean(dim=1)


def _focal(logits: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    from monai.losses import FocalLoss

    focal = FocalLoss(gamma=2.0, reduction="none", use_softmax=logits.shape[1] > 1)(logits, truth)
    return _mean_where(focal.mean(dim=1), counted[:, 0])


def _binary_cross_entropy(logits: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    errors = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return _mean_where(errors.mean(dim=1), counted[:, 0])


def _cross_entropy(logits: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return _binary_cross_entropy(logits, truth, counted)
    return _mean_where(-(truth * logits.log_softmax(dim=1)).sum(dim=1), counted[:, 0])


_TERMS: dict[str, Callable[..., Tensor]] = {
    "dice": _dice,
    "focal": _focal,
    "bce": _binary_cross_entropy,
    "ce": _cross_entropy,
}


def _mean_where(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp(min=1)

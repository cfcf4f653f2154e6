"""Losses with answers worked out by hand."""

import pytest
import torch

from train.optimisation.losses import LOSSES, iou_loss, map_loss, mask_loss, mean_over_images


def half_mask() -> torch.Tensor:
    mask = torch.zeros(1, 8, 8)
    mask[0, 2:6, 2:6] = 1
    return mask


@pytest.mark.parametrize("name", LOSSES)
def test_a_right_answer_costs_nothing_and_a_wrong_one_much(name: str) -> None:
    """Logits of +-50 on the mask, then turned around."""
    mask = half_mask()
    right, wrong = (sign * 50 * (2 * mask - 1) for sign in (1, -1))
    assert mask_loss(name)(right, mask).item() < 1e-3
    assert mask_loss(name)(wrong, mask).item() > 1.5


def test_dice_and_cross_entropy_of_logits_zero() -> None:
    """Probabilities of 0.5: Dice 1 - (2 x 8 + 1) / (16 + 32 + 1); cross-entropy ln 2 everywhere."""
    loss = mask_loss("dice+bce")(torch.zeros(1, 8, 8), half_mask())
    assert loss.item() == pytest.approx(1 - 17 / 49 + 0.693147, abs=1e-5)


def test_dice_and_focal_of_logits_zero() -> None:
    """Focal with gamma 2 at probability 0.5: 0.25 ln 2."""
    loss = mask_loss("dice+focal")(torch.zeros(1, 8, 8), half_mask())
    assert loss.item() == pytest.approx(1 - 17 / 49 + 0.25 * 0.693147, abs=1e-5)


def test_weights_count_the_terms() -> None:
    """0.5 Dice + 0.5 focal, and a weighted Dice-CE: half, and 1 to 3."""
    logits, mask = torch.zeros(1, 8, 8), half_mask()
    half = mask_loss("dice+focal", {"dice": 0.5, "focal": 0.5})(logits, mask)
    assert half.item() == pytest.approx(0.5 * (1 - 17 / 49) + 0.5 * 0.25 * 0.693147, abs=1e-5)
    weighed = mask_loss("dice+ce", {"ce": 3.0})(logits, mask)
    assert weighed.item() == pytest.approx(1 - 17 / 49 + 3 * 0.693147, abs=1e-5)


def test_two_channels_are_a_softmax() -> None:
    """Margins of ln 3: probability 3/4 of the truth everywhere; Dice of both classes, cross-entropy -ln 3/4."""
    mask = half_mask().long()
    logits = torch.stack([1 - mask, mask], dim=1) * torch.log(torch.tensor(3.0))
    loss = map_loss("dice+ce")(logits, mask, torch.ones(1, 8, 8))
    inner, outer = 16 * 0.75, 48 * 0.75
    dice_inside = (2 * inner + 1) / (16 + inner + 48 * 0.25 + 1)
    dice_outside = (2 * outer + 1) / (48 + outer + 16 * 0.25 + 1)
    expected = 1 - (dice_inside + dice_outside) / 2 + 0.287682
    assert loss.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["dice+focal", "dice+ce", "bce"])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_does_not_count_does_not_count(name: str, channels: int) -> None:
    """The right half is wrong and ambiguous: as if it were not there, and no gradient flows to it."""
    mask = half_mask().long()
    right = (2 * mask - 1) * 50.0
    margin = right.clone()
    margin[..., 5:] *= -1
    counted = torch.ones(1, 8, 8)
    counted[..., 5:] = 0
    logits = margin[:, None] if channels == 1 else torch.stack([-margin, margin], dim=1)
    logits.requires_grad_(True)
    loss = map_loss(name)(logits, mask, counted)
    loss.sum().backward()
    assert loss.item() < 1e-3 and not logits.grad[..., 5:].any()


def test_the_iou_error_is_against_the_masks_own_iou() -> None:
    """Answered 8 x 4, truth 4 x 4 within it: IoU 0.5."""
    logits = torch.full((1, 8, 8), -1.0)
    logits[0, :, 2:6] = 1
    assert iou_loss(torch.tensor([0.5]), logits, half_mask()).item() == pytest.approx(0)
    assert iou_loss(torch.tensor([0.9]), logits, half_mask()).item() == pytest.approx(0.16)
    soft = torch.where(half_mask() > 0, half_mask(), torch.tensor(0.4))  # a pixel covered by less than half is outside
    assert iou_loss(torch.tensor([0.5]), logits, soft).item() == pytest.approx(0)


def test_every_image_counts_the_same() -> None:
    """Three boxes of loss 1 and one of loss 5: mean 3, not 2; and halves average to the whole."""
    losses, images = torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.tensor([0, 0, 0, 1])
    assert mean_over_images(losses, images, 2).item() == 3
    parts = mean_over_images(losses[:3], images[:3], 1) + mean_over_images(losses[3:], images[3:] - 1, 1)
    assert parts.item() / 2 == 3

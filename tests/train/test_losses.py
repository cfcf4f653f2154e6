"""Losses with answers worked out by hand."""

from dataclasses import replace

import pytest
import torch

from train.losses import LOSSES, iou_loss, map_loss, mask_loss, mean_over_images
from train.networks.litemedsam import LiteMedSAM
from train.networks.parts import choose_trainable
from train.recipe import load_recipe
from train.tasks.ellipses import EllipseLesson, Ellipses, ellipse_batch, ellipse_recipe, inscribed_ellipses

BOX = torch.tensor([[2.0, 2.0, 5.0, 5.0]])


def half_mask() -> torch.Tensor:
    mask = torch.zeros(1, 8, 8)
    mask[0, 2:6, 2:6] = 1
    return mask


@pytest.mark.parametrize("name", LOSSES)
def test_a_right_answer_costs_nothing_and_a_wrong_one_much(name: str) -> None:
    """Logits of +-50 on the mask, then turned around."""
    mask = half_mask()
    right, wrong = (sign * 50 * (2 * mask - 1) for sign in (1, -1))
    assert mask_loss(name)(right, mask, BOX).item() < 1e-3
    assert mask_loss(name)(wrong, mask, BOX).item() > 1.5


def test_dice_and_cross_entropy_of_logits_zero() -> None:
    """Probabilities of 0.5: Dice 1 - (2 x 8 + 1) / (16 + 32 + 1); cross-entropy ln 2 everywhere."""
    loss = mask_loss("dice+bce")(torch.zeros(1, 8, 8), half_mask(), BOX)
    assert loss.item() == pytest.approx(1 - 17 / 49 + 0.693147, abs=1e-5)


def test_dice_and_focal_of_logits_zero() -> None:
    """Focal with gamma 2 at probability 0.5: 0.25 ln 2."""
    loss = mask_loss("dice+focal")(torch.zeros(1, 8, 8), half_mask(), BOX)
    assert loss.item() == pytest.approx(1 - 17 / 49 + 0.25 * 0.693147, abs=1e-5)


def test_inside_and_outside_of_the_box_count_apart() -> None:
    """A large frame answered right outside does not hide a wrong answer inside: 6 x 6 of 64 x 64 px."""
    mask = torch.zeros(1, 64, 64)
    mask[0, 30:34, 30:34] = 1
    box = torch.tensor([[30.0, 30.0, 33.0, 33.0]])
    nothing = torch.full((1, 64, 64), -10.0)
    assert mask_loss("dice+bce")(nothing, mask, box).item() < 1.1
    assert mask_loss("dice+box-bce")(nothing, mask, box).item() == pytest.approx(0.94 + 16 * 10 / 64, abs=0.1)


def test_weights_count_the_terms() -> None:
    """0.5 Dice + 0.5 focal, and a weighted Dice-CE: half, and 1 to 3."""
    logits, mask = torch.zeros(1, 8, 8), half_mask()
    half = mask_loss("dice+focal", {"dice": 0.5, "focal": 0.5})(logits, mask, BOX)
    assert half.item() == pytest.approx(0.5 * (1 - 17 / 49) + 0.5 * 0.25 * 0.693147, abs=1e-5)
    weighed = mask_loss("dice+ce", {"ce": 3.0})(logits, mask, BOX)
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


def test_every_image_counts_the_same() -> None:
    """Three boxes of loss 1 and one of loss 5: mean 3, not 2; and halves average to the whole."""
    losses, images = torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.tensor([0, 0, 0, 1])
    assert mean_over_images(losses, images, 2).item() == 3
    parts = mean_over_images(losses[:3], images[:3], 1) + mean_over_images(losses[3:], images[3:] - 1, 1)
    assert parts.item() / 2 == 3


def test_an_ellipse_touches_its_box_and_fills_pi_over_four_of_it() -> None:
    """A box of 40 x 20 px: extent to the pixel, area 0.785 of 800."""
    ellipse = inscribed_ellipses(torch.tensor([[10.0, 20.0, 49.0, 39.0]]), 64)[0]
    rows, columns = torch.nonzero(ellipse, as_tuple=True)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 49, 20, 39)
    assert ellipse.sum().item() == pytest.approx(0.7854 * 800, rel=0.01)


def test_lessons_repeat_and_cover_all_field_sizes() -> None:
    """A step's lesson is always the same; boxes lie on their field, in the 256 frame."""
    sides = set()
    for step in range(12):
        batch = ellipse_batch(step, seed=5)
        embeddings, boxes, corners, ellipses = batch.images, batch.boxes, batch.corners, batch.masks
        assert torch.equal(boxes, ellipse_batch(step, seed=5).boxes)
        side = ellipses.shape[-1]
        sides.add(side)
        assert embeddings.shape[-1] * 4 == side
        assert (boxes >= corners.repeat(1, 2)).all() and (boxes <= corners.repeat(1, 2) + side).all()
        assert (ellipses.sum(dim=(1, 2)) > 0).all()
    assert sides == {56, 112, 256}


def test_ellipses_teach_decoder_and_prompt_encoder_and_leave_the_encoder_alone() -> None:
    """All that a box passes through, the embeddings of its corners included, as in the training that follows."""
    recipe, network = load_recipe("litemedsam-base"), LiteMedSAM()
    choose_trainable(network, ellipse_recipe(recipe))
    taught = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    choose_trainable(network, recipe)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert taught == {name for name in trained if not name.startswith("image_encoder")}
    assert {f"prompt_encoder.point_embeddings.{corner}.weight" for corner in (2, 3)} <= taught


def test_a_regions_loss_is_of_the_box_within_the_region() -> None:
    """Logits and mask lie on the region, boxes in the frame: the same box on another corner costs the same."""

    class Decoder(torch.nn.Module):
        def decode(self, embeddings: torch.Tensor, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
            return embeddings[:, 0].repeat_interleave(4, 1).repeat_interleave(4, 2), torch.zeros(len(embeddings))

    batch = ellipse_batch(1, seed=5)
    lesson = EllipseLesson(Decoder(), load_recipe("litemedsam-base"))  # type: ignore[arg-type]
    own = batch.boxes - batch.corners.repeat(1, 2)
    moved = replace(batch, boxes=own, corners=torch.zeros_like(batch.corners))
    assert batch.corners.any() and lesson(batch).item() == pytest.approx(lesson(moved).item(), rel=1e-6)
    logits = batch.images[:, 0].repeat_interleave(4, 1).repeat_interleave(4, 2)
    masks = mask_loss("dice+box-bce")(logits, batch.masks.float(), own)
    iou = iou_loss(torch.zeros(len(logits)), logits, batch.masks)
    assert lesson(batch).item() == pytest.approx((masks + 0.1 * iou).mean().item(), rel=1e-6)


def test_a_later_epoch_of_ellipses_goes_on_where_the_one_before_ended() -> None:
    """With several processes the steps are dealt out over as many epochs."""
    recipe = ellipse_recipe(load_recipe("litemedsam-base", ["ellipse_steps=4"]))
    assert torch.equal(Ellipses(recipe, 1)[0].boxes, ellipse_batch(4, recipe.seed).boxes)
    assert not torch.equal(Ellipses(recipe, 1)[0].boxes, Ellipses(recipe, 0)[0].boxes)

"""From views to their loss: intensities, the network's own masks given to the next slice, the mean over samples."""

import numpy as np
import pytest
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from torch import Tensor, nn

from train.data.batch import Group, ViewBatch, ViewSample, collate
from train.optimisation.losses import iou_loss, mask_loss
from train.recipe import load_recipe
from train.sam_systems.batch import SamSample, collate_sam
from train.tasks.intensity import Intensity, stretch
from train.tasks.view_loss import ViewLoss, extents, next_step, stretched

CPU = torch.device("cpu")
PLAIN = ["intensity=0"]


def group_of(pixels: Tensor, *, masked: bool = False, **others: Tensor) -> Group:
    """Samples with a target in the upper left quarter and a prompt of all of it."""
    count, side = len(pixels), pixels.shape[-1]
    target = torch.zeros(count, side, side, dtype=torch.uint8)
    target[:, : side // 2, : side // 2] = 255
    fields: dict[str, Tensor | None] = {
        "span": torch.tensor([[0.0, 255.0]]).repeat(count, 1),
        "masked": torch.full((count,), masked),
        "prompt": torch.tensor([[0.0, 0, side - 1, side - 1]]).repeat(count, 1),
        "target": target, "next_slice": None, "next_target": None,
        "mask_value": torch.full((count,), 255, dtype=torch.uint8),
    }  # fmt: skip
    return Group(pixels=pixels, **{**fields, **others})


def noise(count: int = 4, channels: int = 3, side: int = 56) -> Tensor:
    return torch.randint(0, 256, (count, channels, side, side), generator=torch.Generator().manual_seed(0)).byte()


class FirstChannel(nn.Module):
    """A network that finds what is brighter than a half in the first channel, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[Tensor, Tensor]] = []
        self.image_encoder = nn.Identity()

    def decode_with_iou(self, images: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        self.given.append((images, prompt))
        return 10 * (images[:, 0] - 0.5), torch.zeros(len(images))


def test_pixels_are_stretched_by_their_span_and_cut_at_its_ends() -> None:
    """By hand: 10 to 20 becomes 0 to 1; a flat image is 0."""
    pixels = torch.tensor([5, 10, 15, 20, 25], dtype=torch.uint8).reshape(1, 1, 1, 5)
    assert stretch(pixels, torch.tensor([[10.0, 20.0]])).flatten().tolist() == [0, 0, 0.5, 1, 1]
    assert stretch(pixels * 0 + 7, torch.tensor([[7.0, 7.0]])).max() == 0


def test_a_mask_in_the_third_channel_is_not_stretched() -> None:
    """Span 10 to 20, mask 64 and 255: 64 / 255 and 1, as a mask of the network's own is drawn."""
    pixels = torch.full((1, 3, 2, 2), 15, dtype=torch.uint8)
    pixels[0, 2] = torch.tensor([[0, 64], [255, 0]])
    group = group_of(pixels, masked=True, span=torch.tensor([[10.0, 20.0]]))
    images = stretched(group, Intensity(1, 0.0, CPU))
    assert images[0, 2].flatten().tolist() == pytest.approx([0, 64 / 255, 1, 0])
    assert images[0, :2].unique().tolist() == [0.5]


def test_changes_of_intensity_leave_masks_alone_and_greys_grey() -> None:
    """Of 64 samples every one is changed; masks to the bit; colours change apart, three equal channels alike."""
    torch.manual_seed(0)
    colours, greys = noise(64) / 255, noise(64, 1).expand(-1, 3, -1, -1) / 255
    intensity = Intensity(64, 0.9, CPU)
    masked, plain = torch.ones(64, dtype=torch.bool), torch.zeros(64, dtype=torch.bool)
    walked = intensity.apply(colours, masked)
    assert torch.equal(walked[:, 2], colours[:, 2])
    assert (walked[:, :2] != colours[:, :2]).flatten(1).any(dim=1).all()
    grey = intensity.apply(greys, plain)
    assert torch.equal(grey[:, 0], grey[:, 2]) and torch.equal(grey[:, 0], grey[:, 1])
    assert (grey != greys).flatten(1).any(dim=1).all()
    assert grey.min() >= 0 and grey.max() <= 1 and walked.min() >= 0 and walked.max() <= 1
    flat = torch.full_like(colours, 0.5)
    flat[:, 1] = 0.4
    flat[:, 2] = 0.3
    ratio = intensity.apply(flat, plain).flatten(2).mean(dim=2)
    assert (ratio[:, 0] / ratio[:, 1]).std() > 0.1  # each channel has a balance of its own


def test_some_samples_are_changed_and_some_are_not() -> None:
    """At a probability of 0.2, of five changes and an eighth of inversion: 1 - 0.8^5 x 0.975; at 0 none."""
    torch.manual_seed(0)
    images = torch.rand(400, 3, 4, 4).clamp(0.01, 1)
    plain = torch.zeros(400, dtype=torch.bool)
    changed = (Intensity(400, 0.2, CPU).apply(images, plain) - images).abs().flatten(1).amax(dim=1) > 1e-4
    assert changed.float().mean().item() == pytest.approx(1 - 0.8**5 * 0.975, abs=0.08)
    torch.testing.assert_close(Intensity(400, 0.0, CPU).apply(images, plain), images)


def test_all_slices_of_a_sample_change_alike() -> None:
    """A slice by itself as the same slice in the images; without noise to the bit."""
    torch.manual_seed(1)
    intensity = Intensity(32, 0.9, CPU)
    intensity._noise.zero_()
    slices = noise(32, 1) / 255
    walked = intensity.apply(slices.expand(-1, 3, -1, -1), torch.ones(32, dtype=torch.bool))
    torch.testing.assert_close(intensity.apply_to_slices(slices[:, 0]), walked[:, 0])


def test_extents_are_inclusive() -> None:
    """Worked by hand."""
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)[..., :6]
    masks[0, 1:3, 2:5] = True
    masks[1, 5, 0] = True
    assert extents(masks).tolist() == [[2, 1, 4, 2], [0, 5, 0, 5]]


def test_the_next_slice_is_prompted_by_the_mask_that_was_found() -> None:
    """Channels: next slice, this one, the mask at its value; prompt its extent; nothing found: the prompt before."""
    pixels, following = noise(2), noise(2, 1, 56)[:, 0]
    group = group_of(
        pixels, next_slice=following, next_target=following, mask_value=torch.tensor([64, 140], dtype=torch.uint8)
    )
    found = torch.zeros(2, 56, 56, dtype=torch.bool)
    found[0, 10:20, 30:50] = True
    plain = Intensity(2, 0.0, CPU)
    before = stretched(group, plain)
    images, prompt = next_step(group, following, before, found, plain)
    torch.testing.assert_close(images[:, 0], following / 255)
    torch.testing.assert_close(images[:, 1], before[:, 0])
    assert images[0, 2].unique().tolist() == pytest.approx([0, 64 / 255]) and not images[1, 2].any()
    assert torch.equal(images[0, 2] > 0, found[0])
    assert prompt.tolist() == [[30, 10, 49, 19], [0, 0, 55, 55]]


def test_two_steps_are_answered_on_the_next_slice_for_its_target() -> None:
    """The first answer has no gradient and no loss; the second is given the first one's mask."""
    this = torch.zeros(1, 3, 56, 56).byte()
    this[:, :, 5:25, 5:45] = 255  # found on this slice
    following = torch.zeros(1, 56, 56).byte()
    following[:, 10:30, 10:40] = 255
    network = FirstChannel()
    network.scale = nn.Parameter(torch.ones(()))
    group = group_of(this, next_slice=following, next_target=following)
    loss = ViewLoss(network, load_recipe("litemedsam-lora", PLAIN))(ViewBatch([group]))
    (first, box), (second, prompt) = network.given
    assert box.tolist() == [[0, 0, 55, 55]] and prompt.tolist() == [[5, 5, 44, 24]]
    assert torch.equal(second[0, 2] > 0.5, first[0, 0] > 0.5)
    expected = mask_loss("dice+bce", {"bce": 0.3})(10 * (following / 255 - 0.5), following / 255)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)  # near nothing; this slice's target would cost much


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_prompts_keep_all_their_bits_in_mixed_precision(precision: str) -> None:
    """Fabric converts what it is given on the way to the loss: of a view of 224 px a pixel would be lost, of SAM's
    frame two."""
    prompt = np.array([7.7, 8.3, 47.2, 46.6], np.float32)
    sample = ViewSample(56, np.zeros((3, 56, 56), np.uint8), (0, 255), False, prompt, np.zeros((56, 56), np.uint8))
    points, one = np.array([[[690.2, 880.9]]], np.float32), np.zeros((1, 8, 8), np.int64)
    of_sam = SamSample(np.zeros((1, 3, 16, 16), np.float32), one, one[0] == 0, points, prompt[None])
    convert = MixedPrecision(precision, "cpu").convert_input
    (views,), _ = convert(((collate([sample]),), {}))
    (maps,), _ = convert(((collate_sam([of_sam]),), {}))
    assert torch.equal(views.groups[0].prompt[0], torch.from_numpy(prompt))
    assert torch.equal(maps.boxes[0], torch.from_numpy(prompt)) and torch.equal(maps.points, torch.from_numpy(points))


def test_every_sample_counts_the_same() -> None:
    """Three of 56 px and one of 112: the mean over the four, not over the groups."""
    recipe, network = load_recipe("litemedsam-lora", PLAIN), FirstChannel()
    three, one = group_of(noise(3)), group_of(noise(1, side=112))
    loss = ViewLoss(network, recipe)
    apart = [loss(ViewBatch([group])).item() for group in (three, one)]
    assert loss(ViewBatch([three, one])).item() == pytest.approx((3 * apart[0] + apart[1]) / 4, abs=1e-6)
    assert apart[0] != pytest.approx(apart[1], abs=1e-4)


def test_the_predicted_iou_counts_by_its_weight() -> None:
    """Predicted 0 throughout."""
    network, group = FirstChannel(), group_of(noise(2))
    without, with_iou = (
        ViewLoss(network, load_recipe("litemedsam-lora", [*PLAIN, f"iou_weight={weight}"]))(ViewBatch([group]))
        for weight in (0.0, 2.0)
    )
    logits, masks = 10 * (group.pixels[:, 0] / 255 - 0.5), group.target / 255
    error = iou_loss(torch.zeros(2), logits, masks).mean()
    assert error > 0.01 and with_iou.item() - without.item() == pytest.approx(2 * error.item(), abs=1e-5)

"""A sample's image, boxes and masks belong together, however it was cut and flipped."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edge.crop import SHOWN_PX, crop_around, expected_extents
from edge.geometry import Frame
from edge.preprocess import prepare
from train.data.cases import Slice, find_objects
from train.data.samples import SampleOptions, collate, make_crop, make_sample

PLAIN = {"jitter_px": 0.0, "flip": 0.0}


def one_slice(height: int = 100, width: int = 80) -> tuple[Slice, npt.NDArray[np.int64]]:
    """Two bright rectangles on noise: label 1 is 20 x 10 px at (30, 40), label 2 is 8 x 8 px at (50, 70)."""
    image = np.random.default_rng(0).integers(0, 60, (height, width), dtype=np.uint8)
    labels = np.zeros((height, width), dtype=np.uint8)
    labels[40:50, 30:50], labels[70:78, 50:58] = 1, 2
    image[labels > 0] = 255
    return Slice("2DBox_US_1", 0, image, labels), find_objects(labels)


def test_a_whole_frame_is_what_the_runtime_would_see() -> None:
    """Pixel for pixel `edge.preprocess.prepare`, and boxes as `Frame` puts them."""
    part, objects = one_slice()
    sample = make_sample(part, objects, 0, SampleOptions(**PLAIN), np.random.default_rng(0))
    assert np.array_equal(sample.image, prepare(part.image))
    expected = Frame(100, 80).boxes_to_model(np.array([[30.0, 40, 49, 49]]))
    assert sample.boxes[0].tolist() == pytest.approx(expected[0].tolist())
    assert sample.corner == (0, 0)


@pytest.mark.parametrize("region_px", [56, 112, 256])
@pytest.mark.parametrize("seed", range(12))
def test_masks_lie_on_what_they_are_of_and_inside_their_boxes(region_px: int, seed: int) -> None:
    """Flipped, zoomed and cut: the mask's pixels are the bright ones, and the box with no jitter touches its extent."""
    part, objects = one_slice()
    options = SampleOptions(jitter_px=0, flip=0.5, region_px=region_px, zoom=0.4)
    sample = make_sample(part, objects, seed % 2, options, np.random.default_rng(seed))
    assert sample.image.shape == (3, region_px, region_px) and sample.masks.shape[1:] == (region_px, region_px)
    for mask, box in zip(sample.masks, sample.boxes - np.tile(sample.corner, 2), strict=True):
        rows, columns = np.nonzero(mask)
        assert sample.image[0][mask].mean() > 0.85
        scale = max(1.0, (box[2] - box[0]) / 8)
        extent = [columns.min(), rows.min(), columns.max(), rows.max()]
        assert np.abs(extent - box).max() <= scale + 1.5


def test_regions_lie_on_the_grid_of_the_embedding_and_inside_the_frame() -> None:
    """Corners are multiples of 4 px from 0 to 200; boxes are in the 256 frame."""
    part, objects = one_slice()
    corners = []
    for seed in range(60):
        sample = make_sample(part, objects, 0, SampleOptions(region_px=56), np.random.default_rng(seed))
        assert sample.corner[0] % 4 == 0 and min(sample.corner) >= 0 and max(sample.corner) <= 200
        assert (sample.boxes >= np.tile(sample.corner, 2)).all() and (sample.boxes <= 255).all()
        corners.append(sample.corner)
    assert len(set(corners)) > 40


def test_jitter_moves_sides_outwards_by_no_more_than_asked() -> None:
    """Up to 10 px of the 256 frame, and by different amounts."""
    part, objects = one_slice()
    tight = make_sample(part, objects, 0, SampleOptions(**PLAIN), np.random.default_rng(0)).boxes[0]
    options = SampleOptions(jitter_px=10, flip=0)
    moved = np.array([make_sample(part, objects, 0, options, np.random.default_rng(s)).boxes[0] for s in range(40)])
    outwards = (moved - tight) * [-1, -1, 1, 1]
    assert outwards.min() >= -1e-4 and outwards.max() <= 10.001 and outwards.std() > 1


def test_objects_beside_the_first_are_prompted_too_up_to_the_number_asked() -> None:
    """The drawn one comes first."""
    part, objects = one_slice()
    both = make_sample(part, objects, 1, SampleOptions(**PLAIN), np.random.default_rng(0))
    alone = make_sample(part, objects, 1, SampleOptions(boxes_per_image=1, **PLAIN), np.random.default_rng(0))
    assert len(both.boxes) == 2 and len(alone.boxes) == 1
    assert np.array_equal(both.boxes[0], alone.boxes[0])


def test_changed_intensities_stay_between_0_and_1_and_greys_stay_grey() -> None:
    """And something does change."""
    part, objects = one_slice()
    plain = make_sample(part, objects, 0, SampleOptions(**PLAIN), np.random.default_rng(0))
    changed = make_sample(part, objects, 0, SampleOptions(intensity=0.9, **PLAIN), np.random.default_rng(0))
    assert changed.image.min() >= 0 and changed.image.max() <= 1
    assert np.array_equal(changed.image[0], changed.image[2])
    assert not np.array_equal(changed.image, plain.image)


def test_a_batch_says_which_box_is_of_which_image() -> None:
    """Two boxes of the first image, one of the second."""
    part, objects = one_slice()
    first = make_sample(part, objects, 0, SampleOptions(), np.random.default_rng(0))
    second = make_sample(part, objects, 0, SampleOptions(boxes_per_image=1), np.random.default_rng(1))
    batch = collate([first, second])
    assert batch.image_of_box.tolist() == [0, 0, 1]
    assert batch.images.shape == (2, 3, 256, 256) and batch.masks.shape == (3, 256, 256)
    assert batch.masks.dtype == torch.bool


CROPS = {"crops": True, "intensity": 0.0}


def test_a_crop_is_what_the_runtime_would_cut() -> None:
    """Not flipped, shifted or scaled: pixel for pixel `edge.crop`, the box and the mask where it puts them."""
    part, objects = one_slice()
    options = SampleOptions(jitter_px=0, flip=0, **CROPS)
    for row, box in enumerate(objects[:, 1:5].astype(float)):
        crop = crop_around(box)
        found = [
            make_crop(part, objects, objects[:, 1:5], row, options, np.random.default_rng(seed)) for seed in range(40)
        ]
        unmoved = [s for s in found if np.array_equal(s.image, crop.prepare(part.image, 0, 255))]
        assert unmoved and len(unmoved) < len(found)  # the others are shifted
        sample = unmoved[0]
        corner = np.tile(sample.corner, 2)
        assert (sample.boxes[0] - corner).tolist() == pytest.approx(
            crop.boxes_to_model(expected_extents(box[None], 2.5))[0].tolist(), abs=1e-4
        )
        shown = np.argwhere(sample.masks[0])[:, ::-1]
        extent = [*shown.min(axis=0), *shown.max(axis=0)]
        assert np.abs(extent - crop.boxes_to_model(box[None])[0]).max() <= 0.5 * crop.scale


@pytest.mark.parametrize("seed", range(12))
def test_a_crop_shows_its_object_whole_however_it_is_changed(seed: int) -> None:
    """Flipped, zoomed, shifted, the box up to 5 px wider: the bright pixels are the mask, about where the prompt is."""
    part, objects = one_slice()
    options = SampleOptions(jitter_px=5, flip=0.5, zoom=0.3, **CROPS)
    sample = make_crop(part, objects, objects[:, 1:5], 0, options, np.random.default_rng(seed))
    assert sample.image[0][sample.masks[0]].mean() > 0.9
    bright = sample.image[0] > 0.9
    assert np.count_nonzero(bright & ~sample.masks[0]) <= 0.15 * np.count_nonzero(bright)
    left, top, right, bottom = sample.boxes[0] - np.tile(sample.corner, 2)
    rows, columns = np.nonzero(sample.masks[0])
    loose = 2.5 * max(crop_scale(objects[0]), 1) + 1
    assert np.abs([columns.min() - left, columns.max() - right, rows.min() - top, rows.max() - bottom]).max() <= loose


def crop_scale(row: np.ndarray) -> float:
    """Crop pixels per pixel of the slice around an object, its box as given."""
    return crop_around(row[1:5].astype(float)).scale


def test_boxes_are_loose_by_up_to_five_pixels_of_the_original() -> None:
    """The object is 20 px wide on a slice at half the original's scale: its box 20 to 25 px, a fourth mostly less."""
    part, objects = one_slice()
    options = SampleOptions(jitter_px=5, flip=0, **CROPS)
    shown = []
    for seed in range(400):
        sample = make_crop(part, objects, objects[:, 1:5], 0, options, np.random.default_rng(seed), scale=0.5)
        shown.append(np.count_nonzero(sample.masks[0].any(axis=0)))
    widths = 20 * SHOWN_PX / np.array(shown)  # a box is always shown as large, its object the smaller the looser it is
    assert 19.5 <= widths.min() < 21 and 24 < widths.max() <= 26
    assert 22 < widths.mean() < 22.6  # 2.5 px on average, of every fourth box half of that


def test_an_object_is_asked_for_whole_and_by_its_extent_where_its_box_holds_less_than_half() -> None:
    """Of 20 x 10 px the left 12 columns: the crop, 15 px a side, shows more of it; of 6 columns: all of it."""
    part, objects = one_slice()
    options = SampleOptions(jitter_px=0, flip=0, **CROPS)
    prompts = objects[:, 1:5].astype(float)
    prompts[0] = [30, 40, 41, 49]
    sample = make_crop(part, objects, prompts, 0, options, np.random.default_rng(0))
    crop = crop_around(prompts[0])
    assert crop.side == 15
    assert 12.5 * 10 * crop.scale**2 < np.count_nonzero(sample.masks[0]) <= 15 * 10 * crop.scale**2
    prompts[0] = [30, 40, 35, 49]
    sample = make_crop(part, objects, prompts, 0, options, np.random.default_rng(0))
    whole = crop_around(objects[0, 1:5].astype(float))
    assert np.count_nonzero(sample.masks[0]) == pytest.approx(20 * 10 * whole.scale**2, rel=0.05)


def test_a_prompt_on_a_scaled_slice_is_as_far_within_its_box_as_on_the_original() -> None:
    """2.5 px of the original are 1.25 px at half its scale, on each side of 20 px."""
    part, objects = one_slice()
    box = objects[:1, 1:5].astype(float)
    options = SampleOptions(jitter_px=0, flip=0, **CROPS)
    sample = make_crop(part, objects, objects[:, 1:5], 0, options, np.random.default_rng(0), scale=0.5)
    assert np.ptp(sample.boxes[0, [0, 2]]) == pytest.approx(17.5 * crop_around(box[0]).scale - 1, abs=1e-3)

"""Network input: resized, stretched, padded, in that order."""

import cv2
import numpy as np
import pytest

from edge.views.prepare import prepare
from edge.views.view import View


def test_stretch_is_over_all_channels_and_before_padding() -> None:
    """Values 50 to 150 in one channel, 100 in another: 0 to 1, 0.5; padding stays 0 though 50 is the minimum."""
    image = np.zeros((128, 256, 3), np.uint8)
    image[..., 0] = np.where(np.arange(256) < 128, 50, 150)
    image[..., 1] = 100
    image[..., 2] = 150
    prepared = prepare(image)
    assert prepared.shape == (3, 256, 256) and prepared.dtype == np.float32
    assert np.unique(prepared[0, :128, :128]) == 0 and np.unique(prepared[0, :128, 128:]) == 1
    assert np.unique(prepared[1, :128]) == 0.5 and np.unique(prepared[2, :128]) == 1
    assert not prepared[:, 128:].any()


def test_a_tall_image_is_padded_on_the_right() -> None:
    """Rows fill the letterbox; columns 100 of 200 become 128."""
    image = np.random.default_rng(0).integers(1, 255, (200, 100, 3), dtype=np.uint8)
    prepared = prepare(image)
    assert not prepared[:, :, 128:].any() and prepared[:, :, :128].any(axis=(0, 1)).all()


def test_halving_averages_two_by_two() -> None:
    """Area averaging on uint8: 0, 1, 2, 3 average to 1.5, which OpenCV rounds up."""
    image = np.tile(np.array([[0, 1], [2, 3]], np.uint8), (256, 256))
    resized = View.letterbox(512, 512).show(image)
    assert resized.dtype == np.uint8 and np.unique(resized).tolist() == [2]
    image = np.kron(np.arange(256 * 256, dtype=np.uint32).reshape(256, 256) % 251, np.ones((2, 2))).astype(np.uint8)
    assert np.array_equal(View.letterbox(512, 512).show(image), image[::2, ::2])


def test_an_image_of_the_frame_size_is_only_stretched() -> None:
    """256 x 256 from 10 to 210: (value - 10) / 200, bit for bit."""
    image = np.random.default_rng(1).integers(10, 211, (256, 256, 3), dtype=np.uint8)
    image[0, 0], image[0, 1] = 10, 210
    expected = (image.astype(np.float64) - 10) / 200
    assert np.array_equal(prepare(image), expected.astype(np.float32).transpose(2, 0, 1))


def test_a_slice_is_a_grey_image() -> None:
    """(H, W) answers as the same slice repeated to three channels."""
    grey = np.random.default_rng(2).integers(0, 256, (77, 190), dtype=np.uint8)
    assert np.array_equal(prepare(grey), prepare(np.repeat(grey[..., None], 3, axis=-1)))


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_image_becomes_zeros(value: int) -> None:
    """Nothing to stretch, and no division by nothing."""
    assert not prepare(np.full((30, 40, 3), value, np.uint8)).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1, 3), (2, 3, 3), (255, 257)])
def test_any_size_fits(shape: tuple[int, ...]) -> None:
    """One pixel, one row, one column, odd sizes."""
    image = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    prepared = prepare(image)
    assert prepared.shape == (3, 256, 256) and prepared.min() >= 0 and prepared.max() <= 1


def test_input_is_left_as_it_was_and_views_are_fine() -> None:
    """A transposed, read-only volume slice gives what its copy gives."""
    volume = np.random.default_rng(4).integers(0, 256, (50, 60, 70), dtype=np.uint8)
    volume.setflags(write=False)
    view = volume.transpose(2, 0, 1)[5]
    assert np.array_equal(prepare(view), prepare(view.copy()))
    resized = cv2.resize(view.copy(), (256, 213), interpolation=cv2.INTER_AREA)
    assert np.array_equal(View.letterbox(50, 60).show(view), resized)

"""Boxes as people draw them, and what is prompted with for them."""

import numpy as np
import pytest

from train.data import prompts
from train.data.damage import damage
from train.data.prompts import holds, loosen, prompt_of

BOX = np.array([20.0, 20, 39, 34])  # 20 x 15 px


def loosened(px_per_px: float) -> np.ndarray:
    """How far each side was moved outwards, in px of the original."""
    chance = np.random.default_rng(0)
    found = np.array([loosen(BOX, px_per_px, (224, 224), chance) for _ in range(4000)])
    return (found - BOX) * [-1, -1, 1, 1] / px_per_px


def test_sides_are_loose_by_up_to_five_pixels_of_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the view's scale; on average 2.5 px, of every fourth box half of that: 2.19."""
    monkeypatch.setattr(prompts, "SLOPPY", 0.0)
    for scale in (0.5, 2.0):
        moved = loosened(scale)
        assert moved.min() >= 0 and 4.9 < moved.max() <= 5
        assert moved.mean() == pytest.approx(2.19, abs=0.06)


def test_some_boxes_have_sides_that_are_off_by_up_to_a_fifth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 x 15 px up to 4 and 3 px, either way; three boxes of ten."""
    monkeypatch.setattr(prompts, "LOOSEST_PX", 0.0)
    moved = loosened(1.0)
    assert np.mean(moved.any(axis=1)) == pytest.approx(0.3, abs=0.03)
    for side, extent in zip(moved.T, (20, 15, 20, 15), strict=True):
        assert 0.17 * extent < side.max() <= 0.2 * extent and -0.2 * extent <= side.min() < -0.17 * extent


def test_boxes_stay_in_the_slice() -> None:
    """One that fills a slice 20 px high and 30 px wide."""
    box = np.array([0.0, 0, 29, 19])
    for seed in range(50):
        found = loosen(box, 2.0, (20, 30), np.random.default_rng(seed))
        assert found.min() >= 0 and (found[2:] <= [29, 19]).all()


def test_the_prompt_is_where_the_object_is_expected_to_end() -> None:
    """By hand: 2.5 px of the original within 20 px at scale 1; at scale 2 the limit, 15 % of 15 px, holds in y."""
    assert prompt_of(BOX, 1.0) == pytest.approx([22.5, 22.25, 36.5, 31.75])
    assert prompt_of(BOX, 0.5) == pytest.approx([21.25, 21.25, 37.75, 32.75])


def test_a_tracked_box_prompts_where_it_holds_half_of_the_object() -> None:
    """Of 20 columns the left 10, then the left 9."""
    mask = np.zeros((60, 60), np.bool_)
    mask[20:35, 20:40] = True
    assert holds(np.array([20.0, 20, 29, 34]), mask) and not holds(np.array([20.0, 20, 28, 34]), mask)
    assert not holds(np.array([-9.0, -9, -5, -5]), mask)


def disc(size: int = 112, radius: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (((rows - 50) ** 2 + (columns - 60) ** 2 < radius**2) * 255).astype(np.uint8)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return np.count_nonzero((one > 127) & (other > 127)) / np.count_nonzero((one > 127) | (other > 127))


def test_masks_are_damaged_but_not_beyond_recognition() -> None:
    """0 or 255; a quarter and more as they were, others down to an IoU of 0.4; the same generator, the same mask."""
    chance = np.random.default_rng(0)
    found = [damage(disc(), chance) for _ in range(1000)]
    assert all(set(np.unique(mask)) <= {0, 255} for mask in found)
    ious = np.array([iou(mask, disc()) for mask in found])
    assert 0.21 < np.mean(ious == 1) < 0.35 and 0.4 <= ious.min() < 0.7 and 0.75 < ious.mean() < 0.98
    sizes = np.array([np.count_nonzero(mask) / np.count_nonzero(disc()) for mask in found])
    assert sizes.min() < 0.85 and sizes.max() > 1.15
    assert np.array_equal(found[0], damage(disc(), np.random.default_rng(0)))


def test_a_mask_that_would_be_lost_is_given_whole() -> None:
    """A dot of 3 px that any blur puts out: soft pixels are taken by half."""
    dot = np.zeros((112, 112), np.uint8)
    dot[50:53, 50:53] = 255
    dot[53, 50:53] = 100
    for seed in range(60):
        found = damage(dot, np.random.default_rng(seed))
        assert np.count_nonzero(found) >= 4 or np.array_equal(found, np.where(dot > 127, 255, 0))

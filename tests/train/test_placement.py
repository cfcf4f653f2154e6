"""Where a view lies, and that pixels, masks and boxes stay together however it is flipped and warped."""

import itertools

import numpy as np
import pytest

from edge.data.extent import box_of
from edge.views.view import View
from train.data import placement as module
from train.data.placement import Placement, draw_placement, place_masks

BOX = np.array([30.0, 40, 49, 49])


@pytest.mark.parametrize(("flip_x", "flip_y", "transposed"), list(itertools.product([False, True], repeat=3)))
def test_a_box_goes_where_its_pixels_go(picture, flip_x: bool, flip_y: bool, transposed: bool) -> None:
    """A view of 56 px at twice the slice's scale: the shown object's extent is its box, to the pixel."""
    placed = Placement(View.square(26, 33, 28, 56), 56, None, flip_x, flip_y, transposed)
    image, labels = picture
    mask = placed.show_masks((labels == 1)[..., None])[..., 0]
    assert np.abs(box_of(mask >= 128) - placed.box_to_sample(BOX)).max() <= 0.5
    assert placed.show(image, 0)[mask == 255].min() > 150 and placed.scale == 2


def test_the_box_of_an_unflipped_view_is_the_runtimes() -> None:
    """By hand: x 30 to 49 from a view at 26, twice as large: edges 8 and 48, inclusive pixels 8 and 47."""
    placed = Placement(View.square(26, 33, 28, 56), 56)
    assert placed.box_to_sample(BOX).tolist() == [8, 14, 47, 33]
    flipped = Placement(View.square(26, 33, 28, 56), 56, flip_x=True, transposed=True)
    assert flipped.box_to_sample(BOX).tolist() == [14, 8, 33, 47]
    with pytest.raises(ValueError, match="warped"):
        Placement(View.square(26, 33, 42, 84), 56, np.eye(2, 3)).box_to_sample(BOX)


@pytest.mark.parametrize("seed", range(8))
def test_a_warp_turns_pixels_and_masks_alike(picture, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bright pixels are the mask's, about the middle, and of about the area that the scale says."""
    monkeypatch.setattr(module, "WARPED", 1.0)
    labels = picture[1]
    alone = np.where((labels == 1)[..., None], 255, 0).astype(np.uint8)
    placed, shown = place_masks((labels == 1)[..., None], BOX, 112, 0.5, np.random.default_rng(seed))
    assert placed.warp is not None and placed.view.size == 168
    assert np.array_equal(placed.show(alone, 0), shown)
    assert np.count_nonzero(shown >= 128) == pytest.approx(200 * placed.scale**2, rel=0.12)
    rows, columns = np.nonzero(shown[..., 0] >= 128)
    assert abs(rows.mean() - 55.5) < 25 and abs(columns.mean() - 55.5) < 25


def test_a_turn_by_90_degrees_is_one() -> None:
    """By hand: what was in the middle of the right border of the view is in the middle of the upper one."""
    turn = Placement(View.square(0, 0, 15, 15), 15, np.array([[0.0, 1, 0], [-1, 0, 14]]))
    slice_ = np.zeros((15, 15, 1), np.uint8)
    slice_[7, 14] = 255
    assert np.argwhere(turn.show(slice_, 0)[..., 0]).tolist() == [[0, 7]]


def test_views_show_their_box_at_the_shares_asked_about_their_middle() -> None:
    """A box of 20 px: 0.58 to 0.86 of the view; its middle off by 5 % of the side; two of five warped, half flipped."""
    drawn = [draw_placement(BOX, 56, 0.5, np.random.default_rng(seed)) for seed in range(2000)]
    unwarped = [placed for placed in drawn if placed.warp is None]
    shares = np.array([20 / placed.view.width for placed in unwarped])
    assert 0.56 < shares.min() < 0.6 and 0.84 < shares.max() < 0.89
    off = np.array([(p.view.left + p.view.width / 2 - 40) / p.view.width for p in unwarped])
    assert abs(off.mean()) < 0.01 and off.std() == pytest.approx(0.05, abs=0.01)
    assert 1 - len(unwarped) / 2000 == pytest.approx(0.4, abs=0.04)
    for name, expected in (("flip_x", 0.5), ("flip_y", 0.5), ("transposed", 0.25)):
        assert np.mean([getattr(placed, name) for placed in drawn]) == pytest.approx(expected, abs=0.04)


def test_a_warp_that_turns_a_mask_out_of_the_view_is_not_taken(picture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything moved by 1000 px; the second mask, of the object in the box, must be seen, the first one if it was."""
    monkeypatch.setattr(module, "WARPED", 1.0)
    monkeypatch.setattr(module, "_draw_warp", lambda *_: np.array([[1.0, 0, 1000], [0, 1, 0]]))
    masks = np.stack([picture[1] == 2, picture[1] == 1], axis=-1)
    placed, shown = place_masks(masks, BOX, 56, 0.0, np.random.default_rng(0))
    assert placed.warp is None and (shown[..., 1] >= 128).any()


def test_beyond_the_slice_there_is_what_is_said(picture) -> None:
    """A view at its upper left corner: 7 there; of masks nothing."""
    placed = Placement(View.square(-10, -10, 28, 28), 28)
    shown = placed.show(picture[0], 7)
    assert (
        (shown[:10] == 7).all() and (shown[:, :10] == 7).all() and np.array_equal(shown[10:, 10:], picture[0][:18, :18])
    )
    assert not placed.show_masks(np.ones((100, 80, 1), np.bool_))[:10].any()

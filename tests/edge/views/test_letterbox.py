"""Image to letterbox and back: sizes and boxes worked out by hand, sampling positions against torch's rule."""

import numpy as np
import pytest

from edge.views.view import View


@pytest.mark.parametrize(
    ("height", "width", "inner"),
    [
        (512, 512, (256, 256)),
        (300, 420, (183, 256)),  # 300 * 256 / 420 = 182.86
        (320, 640, (128, 256)),
        (640, 321, (256, 128)),  # 321 * 0.4 = 128.4
        (512, 3, (256, 2)),  # 1.5 rounds up
        (512, 1, (256, 1)),  # 0.5 rounds up
        (1, 1000, (1, 256)),  # 0.256 rounds to none, of which one is kept
        (1, 1, (256, 256)),
        (100, 40, (256, 102)),  # enlarged: 102.4
    ],
)
def test_longest_side_fills_the_letterbox_and_the_other_is_rounded_half_up(
    height: int, width: int, inner: tuple[int, int]
) -> None:
    """`int(x * scale + 0.5)`, as the public baseline rounds, and never nothing."""
    letterbox = View.letterbox(height, width)
    assert (letterbox.inner_height, letterbox.inner_width) == inner


def test_inner_size_is_within_half_a_pixel_for_every_size() -> None:
    """Odd and even, wide and tall: rounding is never further off than half a pixel."""
    for height in (1, 7, 255, 256, 257, 513, 3024):
        for width in range(1, 700, 13):
            letterbox = View.letterbox(height, width)
            assert max(letterbox.inner_height, letterbox.inner_width) == 256
            for inner, length in ((letterbox.inner_height, height), (letterbox.inner_width, width)):
                assert inner == 1 or abs(inner - length * 256 / max(height, width)) <= 0.5


def test_boxes_scale_with_the_longest_side_from_outer_edge_to_outer_edge() -> None:
    """420 px to 256: pixel 83 begins at 50.590; pixel 350 ends at 351 * 256 / 420 = 213.943, as pixel 212.943 does."""
    box = np.array([[83.0, 48.0, 350.0, 242.0]])
    found = View.letterbox(300, 420).boxes_to_view(box)
    np.testing.assert_allclose(found, [[50.5905, 29.2571, 212.9429, 147.1143]], atol=1e-4)
    assert found.dtype == np.float32


def test_no_boxes_are_no_boxes() -> None:
    """(0, 4) goes through."""
    assert View.letterbox(10, 10).boxes_to_view(np.zeros((0, 4))).shape == (0, 4)


def test_what_is_enlarged_and_what_is_reduced_is_an_area_average() -> None:
    """As the public baseline shows it: enlarged, pixels are repeated, where a view around a box interpolates."""
    image = np.array([[0, 200], [100, 50]], np.uint8)
    assert np.array_equal(View.letterbox(2, 2, 4).show(image), np.kron(image, np.ones((2, 2), np.uint8)))
    assert View.letterbox(2, 2, 1).show(image).tolist() == [[88]]  # 87.5
    assert not np.array_equal(View.square(0, 0, 2, 4).show(image), np.kron(image, np.ones((2, 2), np.uint8)))


def test_sampling_positions_are_pixel_centres() -> None:
    """Twice as large: centres of the original lie at -0.25, 0.25, 0.75, ... on the grid, the first at its border."""
    letterbox = View.letterbox(512, 512)
    assert letterbox.rows_to_view(np.arange(4)).tolist() == [0, 0.25, 0.75, 1.25]
    assert letterbox.columns_to_view(np.array([511])).tolist() == [255.25]
    smaller = View.letterbox(64, 128)  # enlarged on the way in: 2 grid px per original px
    assert smaller.rows_to_view(np.arange(3)).tolist() == [0.5, 2.5, 4.5]


def test_rows_and_columns_use_their_own_ratio() -> None:
    """300 rows lie on 183, 420 columns on 256: two ratios that differ by rounding."""
    letterbox = View.letterbox(300, 420)
    assert letterbox.rows_to_view(np.array([100]))[0] == pytest.approx(100.5 * 183 / 300 - 0.5, abs=1e-4)
    assert letterbox.columns_to_view(np.array([100]))[0] == pytest.approx(100.5 * 256 / 420 - 0.5, abs=1e-4)

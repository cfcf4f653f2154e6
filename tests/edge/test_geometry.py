"""Original to model frame and back: sizes and boxes worked out by hand, sampling positions against torch's rule."""

import numpy as np
import pytest

from edge.views.letterbox import Frame, box_around, mask_extent


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
def test_longest_side_fills_the_frame_and_the_other_is_rounded_half_up(
    height: int, width: int, inner: tuple[int, int]
) -> None:
    """`int(x * scale + 0.5)`, as the public baseline rounds, and never nothing."""
    frame = Frame(height, width)
    assert (frame.inner_height, frame.inner_width) == inner


def test_inner_size_is_within_half_a_pixel_for_every_size() -> None:
    """Odd and even, wide and tall: rounding is never further off than half a pixel."""
    for height in (1, 7, 255, 256, 257, 513, 3024):
        for width in range(1, 700, 13):
            frame = Frame(height, width)
            assert max(frame.inner_height, frame.inner_width) == 256
            for inner, length in ((frame.inner_height, height), (frame.inner_width, width)):
                assert inner == 1 or abs(inner - length * 256 / max(height, width)) <= 0.5


def test_boxes_scale_with_the_longest_side_and_are_cut_only_when_asked() -> None:
    """420 px to 256: 83 becomes 50.590, the baseline takes 50."""
    box = np.array([[83.0, 48.0, 350.0, 242.0]])
    frame = Frame(300, 420)
    assert frame.boxes_to_model(box, truncate=True).tolist() == [[50, 29, 213, 147]]
    np.testing.assert_allclose(frame.boxes_to_model(box), box * (256 / 420), rtol=1e-6)
    assert frame.boxes_to_model(box).dtype == frame.boxes_to_model(box, truncate=True).dtype == np.float32


def test_fractional_boxes_are_cut_after_scaling() -> None:
    """3.9 px of a 128-px image is 7.8 in the frame: 7, not twice 3."""
    box = np.array([[3.9, 0.4, 60.5, 128]])
    assert Frame(128, 128).boxes_to_model(box, truncate=True).tolist() == [[7, 0, 121, 256]]


def test_no_boxes_are_no_boxes() -> None:
    """(0, 4) goes through."""
    assert Frame(10, 10).boxes_to_model(np.zeros((0, 4))).shape == (0, 4)


def test_sampling_positions_are_pixel_centres() -> None:
    """Twice as large: centres of the original lie at -0.25, 0.25, 0.75, ... on the grid, the first at its border."""
    frame = Frame(512, 512)
    assert frame.rows_to_view(np.arange(4)).tolist() == [0, 0.25, 0.75, 1.25]
    assert frame.columns_to_view(np.array([511])).tolist() == [255.25]
    smaller = Frame(64, 128)  # enlarged on the way in: 2 grid px per original px
    assert smaller.rows_to_view(np.arange(3)).tolist() == [0.5, 2.5, 4.5]


def test_rows_and_columns_use_their_own_ratio() -> None:
    """300 rows lie on 183, 420 columns on 256: two ratios that differ by rounding."""
    frame = Frame(300, 420)
    assert frame.rows_to_view(np.array([100]))[0] == pytest.approx(100.5 * 183 / 300 - 0.5, abs=1e-4)
    assert frame.columns_to_view(np.array([100]))[0] == pytest.approx(100.5 * 256 / 420 - 0.5, abs=1e-4)


def test_mask_extent_is_inclusive_and_none_when_empty() -> None:
    """Rows 2 to 4, columns 5 to 5; also one pixel in a corner."""
    mask = np.zeros((8, 9), bool)
    assert mask_extent(mask) is None
    mask[2, 5] = mask[4, 5] = True
    assert mask_extent(mask) == (2, 4, 5, 5)
    mask[:] = False
    mask[7, 8] = True
    assert mask_extent(mask) == (7, 7, 8, 8)


def test_box_around_a_mask_is_widened_by_three_and_clipped_to_the_frame() -> None:
    """x before y; the far clip is at 256, not 255, as the public baseline clips."""
    mask = np.zeros((256, 256), bool)
    assert box_around(mask) is None
    mask[20:31, 40:61] = True
    assert box_around(mask).tolist() == [37, 17, 63, 33]
    mask[:] = False
    mask[1, 2] = mask[255, 254] = True
    assert box_around(mask).tolist() == [0, 0, 256, 256]
    assert box_around(mask).dtype == np.float32

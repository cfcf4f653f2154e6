"""Logits back to the image's size: torch's bilinear rule, and the part that can be positive as good as the whole."""

from collections.abc import Iterator

import numpy as np
import pytest

from edge.masks.restore import LogitWindow, positive_window, restore_rows, restored_mask, rows_reached
from edge.views.view import View
from tests.restoring import restored

SIZES = [
    (1, 1), (1, 300), (300, 1), (2, 3), (3, 500), (31, 33), (32, 32), (64, 64), (77, 190), (200, 41), (513, 511),
]  # fmt: skip


def logit_maps(letterbox: View, count: int = 6) -> Iterator[np.ndarray]:
    """Maps (size, size) from nothing positive over few single pixels to mostly positive, positive padding included."""
    rng = np.random.default_rng(letterbox.height * 1000 + letterbox.width)
    for share in np.linspace(-4, 1, count):
        yield (rng.standard_normal((letterbox.size, letterbox.size)) + share).astype(np.float32)


def smooth_map(size: int) -> np.ndarray:
    """A disc's signed distance, flattened: logits as a trained network gives them."""
    rows, columns = np.mgrid[:size, :size]
    return np.tanh((size / 4 - np.hypot(rows - size / 3, columns - size / 3)) / size).astype(np.float32)


def painted(window: LogitWindow | None, height: int, width: int) -> np.ndarray:
    """A window's mask on its whole slice."""
    mask = restored_mask(window, width, height) if window else None
    return np.zeros((height, width), bool) if mask is None else mask.painted(height, width)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_restoring_is_torch_bilinear_on_the_cropped_map(height: int, width: int) -> None:
    """`F.interpolate(bilinear, align_corners=False)`, enlarging and shrinking.

    To 1e-5 where neighbours differ by little; on white noise one rounding of a position near 256 (1.5e-5 px) shows.
    """
    torch = pytest.importorskip("torch")
    for size in (32, 256):
        letterbox = View.letterbox(height, width, size)
        for logits in logit_maps(letterbox, 2):
            inner = torch.from_numpy(logits)[None, None, : letterbox.inner_height, : letterbox.inner_width]
            expected = torch.nn.functional.interpolate(inner, (height, width), mode="bilinear", align_corners=False)
            steepest = max(float(np.abs(np.diff(logits, axis=axis)).max()) for axis in (0, 1))
            assert np.abs(restored(logits, letterbox) - expected[0, 0].numpy()).max() <= 1e-5 * (1 + steepest)


def test_doubling_by_hand() -> None:
    """0 and 4 side by side, doubled: 0, 1, 3, 4 (quarters and three quarters, borders held)."""
    letterbox = View.letterbox(4, 4, size=2)
    assert restored(np.array([[0, 4], [0, 4]], np.float32), letterbox).tolist() == [[0, 1, 3, 4]] * 4
    assert restored(np.array([[0, 0], [4, 4]], np.float32), letterbox).T.tolist() == [[0, 1, 3, 4]] * 4


def test_same_size_is_the_map_itself() -> None:
    """No interpolation where there is nothing to interpolate."""
    logits = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    assert np.array_equal(restored(logits, View.letterbox(256, 256)), logits)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_restoring_where_positive_is_restoring_everything(height: int, width: int) -> None:
    """Bit for bit inside the window; outside of it nothing is positive. Whole or in strips of any height."""
    letterbox = View.letterbox(height, width, 32)
    for logits in logit_maps(letterbox):
        everything = restored(logits, letterbox)
        window = positive_window(logits, 1, letterbox)
        if window is None:
            assert everything.max() <= 0
            continue
        for strip in (height, 64, 7):
            outside = np.ones((height, width), bool)
            for start in range(0, height, strip):
                rows, columns, part = restore_rows(window, width, start, min(start + strip, height))
                assert np.array_equal(part, everything[rows, columns])
                outside[rows, columns] = False
            assert not (everything[outside] > 0).any()


def test_a_window_reaches_one_pixel_around_what_is_positive() -> None:
    """One positive pixel at row 10, column 20: rows 9 to 11 and columns 19 to 21, at the letterbox's border fewer."""
    logits = np.full((256, 256), -1, np.float32)
    logits[10, 20] = 1
    window = positive_window(logits, 7, View.letterbox(256, 256))
    assert (window.label, window.top, window.left, window.logits.shape) == (7, 9, 19, (3, 3))
    assert (window.positive_rows, window.positive_columns) == ((10, 10), (20, 20))
    logits[:] = -1
    logits[0, 255] = 1
    corner = positive_window(logits, 1, View.letterbox(256, 256))
    assert (corner.top, corner.left, corner.logits.shape) == (0, 254, (2, 2))


def test_padding_is_never_looked_at() -> None:
    """Rows 128 on are padding of a 256 x 512 image; what is positive there does not exist."""
    logits = np.full((256, 256), -1, np.float32)
    logits[128:] = 5
    assert positive_window(logits, 1, View.letterbox(256, 512)) is None
    assert restored(logits, View.letterbox(256, 512)).max() == -1


def test_a_window_owns_its_logits() -> None:
    """An engine may write its output buffer again."""
    logits = np.ones((256, 256), np.float32)
    window = positive_window(logits, 1, View.letterbox(256, 256))
    logits[:] = -9
    assert window.logits.min() == 1


def test_rows_the_window_does_not_reach_are_empty() -> None:
    """The caller can skip the strip."""
    logits = np.full((256, 256), -1, np.float32)
    logits[100, 100] = 1
    rows, columns, part = restore_rows(positive_window(logits, 1, View.letterbox(512, 512)), 512, 0, 64)
    assert (rows, columns, part.size) == (slice(0, 0), slice(0, 0), 0)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_restored_mask_is_where_the_whole_restored_map_is_positive(height: int, width: int) -> None:
    """To the pixel, at any share of positive logits, none included."""
    for size in (32, 256):
        letterbox = View.letterbox(height, width, size)
        for logits in [*logit_maps(letterbox), smooth_map(size), -np.ones((size, size), np.float32)]:
            expected = restored(logits, letterbox) > 0
            assert np.array_equal(painted(positive_window(logits, 1, letterbox), height, width), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_of_a_window_within_a_box_nothing_beyond_it_is_restored(height: int, width: int) -> None:
    """The whole restored map cut to the box, whose cut pixels count; bit for bit, in any strips, and as a mask.

    A mask that travels on to the next slice must not hold what its own slice's label does not.
    """
    box = np.array([0.2 * width, -3, 0.7 * width, 0.6 * height])
    inside = np.zeros((height, width), bool)
    inside[: int(np.ceil(box[3])) + 1, int(box[0]) : int(np.ceil(box[2])) + 1] = True
    letterbox = View.letterbox(height, width, 32)
    for logits in logit_maps(letterbox):
        everything = restored(logits, letterbox)
        window = positive_window(logits, 1, letterbox, box)
        assert np.array_equal(painted(window, height, width), (everything > 0) & inside)
        for strip in (height, 64, 7) if window else ():
            for start in range(0, height, strip):
                rows, columns, part = restore_rows(window, width, start, min(start + strip, height))
                assert inside[rows, columns].all() and np.array_equal(part, everything[rows, columns])


@pytest.mark.parametrize("box", [[-9, 0, -5, 49], [50, 0, 60, 49], [0, -9, 49, -5], [0, 50, 49, 60]])
def test_within_a_box_beside_the_image_there_is_nothing(box: list[float]) -> None:
    """Left of it, right of it, above and below."""
    window = positive_window(np.ones((32, 32), np.float32), 1, View.letterbox(50, 50, 32), np.array(box, float))
    rows, columns, part = restore_rows(window, 50, 0, 50)
    assert (rows, columns, part.size) == (slice(0, 0), slice(0, 0), 0)
    assert restored_mask(window, 50, 50) is None


def test_a_restored_mask_is_cut_to_its_extent() -> None:
    """Rows 10 to 12, columns 20 to 24 of a map of the image's size, one corner of it empty."""
    logits = np.full((256, 256), -1, np.float32)
    logits[10:13, 20:25] = 1
    logits[10, 20] = -1
    mask = restored_mask(positive_window(logits, 1, View.letterbox(256, 256)), 256, 256)
    assert (mask.left, mask.top, mask.pixels.shape) == (20, 10, (3, 5))
    assert mask.pixels.sum() == 14 and not mask.pixels[0, 0]
    assert mask.box.tolist() == [20, 10, 24, 12]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_window_reaches_no_row_beyond_those_it_says(height: int, width: int) -> None:
    """Held against restoring every row alone, of letterboxes and squares, in a box and without, and few too many."""
    rng = np.random.default_rng(height)
    views = [
        View.letterbox(height, width, 32),
        View.square(-3, height // 2, 40, 32),
        View.square(width // 2, -9, 90, 32),
    ]
    for view in views:
        for _ in range(4):
            logits = np.full((32, 32), -1, np.float32)
            top, left = rng.integers(0, 30, 2)
            logits[top : top + 3, left : left + 5] = 1
            for box in (None, np.array([0.0, height / 3, width, height / 2])):
                window = positive_window(logits, 1, view, box)
                if window is None:
                    continue
                start, stop = rows_reached(window, height)
                rows = [row for row in range(height) if restore_rows(window, width, row, row + 1)[2].size]
                assert not rows or (start <= rows[0] and rows[-1] < stop)
                slack = 2 * (view.height / view.inner_height + 2)
                assert not rows or stop - start <= rows[-1] + 1 - rows[0] + slack

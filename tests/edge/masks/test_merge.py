"""Label maps from restored logits, held against the plain rule pixel by pixel."""

import numpy as np
import pytest

import edge.masks.merge
from edge.data.labels import label_dtype
from edge.masks.merge import STRIP_ROWS, merge, nested_boxes
from edge.masks.restore import LogitWindow, positive_window
from edge.views.view import View
from tests.restoring import restored

SIZES = [
    (1, 1), (1, 90), (90, 1), (63, 50), (64, 50), (65, 200), (128, 128), (129, 17), (200, 300),
]  # fmt: skip


def windows_of(maps: list[np.ndarray], letterbox: View, within: np.ndarray | None = None) -> list[LogitWindow]:
    boxes = [None] * len(maps) if within is None else within
    pairs = enumerate(zip(maps, boxes, strict=True), start=1)
    found = (positive_window(logits, label, letterbox, box) for label, (logits, box) in pairs)
    return [window for window in found if window is not None]


def merged(maps: list[np.ndarray], letterbox: View, *, last_wins: bool = False) -> np.ndarray:
    out = np.zeros((letterbox.height, letterbox.width), label_dtype(len(maps)))
    merge(windows_of(maps, letterbox), out, last_wins=last_wins)
    return out


def random_maps(letterbox: View) -> list[np.ndarray]:
    rng = np.random.default_rng(letterbox.height * 1000 + letterbox.width)
    return [(rng.standard_normal((letterbox.size, letterbox.size)) - 1).astype(np.float32) for _ in range(5)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_labels_are_the_argmax_over_background_and_every_restored_map(height: int, width: int) -> None:
    """Brute force: all maps at full size, 0 for background, `argmax`."""
    letterbox = View.letterbox(height, width, 32)
    maps = random_maps(letterbox)
    stack = np.stack([np.zeros((height, width), np.float32), *(restored(logits, letterbox) for logits in maps)])
    assert np.array_equal(merged(maps, letterbox), stack.argmax(axis=0))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_last_wins_lets_later_boxes_overwrite(height: int, width: int) -> None:
    """Brute force: one mask painted over the other, in box order."""
    letterbox = View.letterbox(height, width, 32)
    maps = random_maps(letterbox)
    expected = np.zeros((height, width), np.uint8)
    for label, logits in enumerate(maps, start=1):
        expected[restored(logits, letterbox) > 0] = label
    assert np.array_equal(merged(maps, letterbox, last_wins=True), expected)


def test_the_stronger_box_takes_the_overlap_and_later_ones_only_when_asked() -> None:
    """Columns 0 to 5 at 2, columns 4 to 9 at 1: the overlap is the first box's, or the last one's."""
    first, second = np.full((2, 10, 10), -1, np.float32)
    first[:, :6], second[:, 4:] = 2, 1
    letterbox = View.letterbox(10, 10, 10)
    assert merged([first, second], letterbox)[0].tolist() == [1] * 6 + [2] * 4
    assert merged([first, second], letterbox, last_wins=True)[0].tolist() == [1] * 4 + [2] * 6


def test_a_nested_box_is_one_mostly_within_and_clearly_smaller() -> None:
    """Box 2 fills a quarter of box 1, box 3 as much with a fifth of it outside, box 4 with three tenths; 5 is box 1."""
    boxes = np.array([[0, 0, 19, 19], [5, 5, 14, 14], [12, 0, 21, 9], [13, 0, 22, 9], [0, 0, 19, 19]], float)
    assert sorted(nested_boxes(boxes)) == [(2, 1), (2, 5), (3, 1), (3, 5)]
    assert nested_boxes(np.zeros((0, 4))) == []


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_nested_boxes_win_wherever_they_are_positive(height: int, width: int) -> None:
    """Brute force: at each pixel, labels in which a positive label is nested are out; argmax over the rest."""
    letterbox = View.letterbox(height, width, 32)
    maps, nested = random_maps(letterbox), [(4, 1), (2, 4), (3, 5)]
    stack = np.stack([np.zeros((height, width), np.float32), *(restored(logits, letterbox) for logits in maps)])
    allowed = stack.copy()
    for inner, outer in nested:
        allowed[outer][stack[inner] > 0] = -1
    out = np.zeros((height, width), np.uint8)
    merge(windows_of(maps, letterbox), out, nested=nested)
    assert np.array_equal(out, allowed.argmax(axis=0))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_labels_stay_within_their_boxes_when_asked(height: int, width: int) -> None:
    """Brute force: each map negative outside its box, whose last pixel counts; one box lies outside of the image."""
    letterbox = View.letterbox(height, width, 32)
    maps = random_maps(letterbox)
    low, high = np.array([0.1, 0.2]) * [width, height], np.array([0.7, 0.6]) * [width, height]
    boxes = np.array([[*low, *high], [0, 0, width, height], [-9, -9, -5, -5], [0, 0, 0, 0], [width / 2, 0, 999, 999]])
    stack = np.full((6, height, width), -1, np.float32)
    stack[0] = 0
    for label, (logits, box) in enumerate(zip(maps, boxes, strict=True), start=1):
        left, top = np.maximum(np.floor(box[:2]), 0).astype(int)
        right, bottom = np.maximum(np.ceil(box[2:]) + 1, 0).astype(int)
        stack[label, top:bottom, left:right] = restored(logits, letterbox)[top:bottom, left:right]
    out = np.zeros((height, width), np.uint8)
    merge(windows_of(maps, letterbox, boxes), out)
    assert np.array_equal(out, stack.argmax(axis=0))


def test_ties_go_to_the_first_box_and_zero_is_background() -> None:
    """Equal logits: the lower label; a logit of exactly 0 is not inside."""
    level = np.full((8, 8), 3, np.float32)
    assert np.unique(merged([level, level.copy()], View.letterbox(8, 8, 8))).tolist() == [1]
    assert np.unique(merged([level, level.copy()], View.letterbox(8, 8, 8), last_wins=True)).tolist() == [2]
    level[0] = 0
    assert merged([level], View.letterbox(8, 8, 8))[0].tolist() == [0] * 8


@pytest.mark.parametrize("last_wins", [False, True])
def test_the_order_windows_come_in_changes_nothing(last_wins: bool) -> None:
    """In 3D boxes of a slice come from two directions; labels decide, not arrival."""
    letterbox = View.letterbox(100, 120, 32)
    windows = windows_of(random_maps(letterbox), letterbox)
    forward, backward = np.zeros((2, 100, 120), np.uint8)
    merge(windows, forward, last_wins=last_wins)
    merge(reversed(windows), backward, last_wins=last_wins)
    assert np.array_equal(forward, backward)


def test_an_object_across_a_strip_boundary_has_no_seam() -> None:
    """One disc over rows 60 to 68 of 128, at the size of the letterbox: exactly its pixels."""
    rows, columns = np.mgrid[:128, :128]
    disc = (5 - np.hypot(rows - STRIP_ROWS, columns - 30)).astype(np.float32)
    assert np.array_equal(merged([disc], View.letterbox(128, 128, 128)), disc > 0)


def test_nothing_positive_leaves_background() -> None:
    """No windows at all."""
    assert not merged([np.full((32, 32), -1, np.float32)], View.letterbox(50, 50, 32)).any()


def test_labels_above_255_get_16_bits() -> None:
    """255 boxes fit in a byte, the 256th does not."""
    assert (label_dtype(0), label_dtype(255), label_dtype(256)) == (np.uint8, np.uint8, np.uint16)
    maps = [np.full((16, 16), -1, np.float32) for _ in range(300)]
    for label, logits in enumerate(maps, start=1):
        logits.ravel()[label % 256] = label
    labels = merged(maps, View.letterbox(16, 16, 16))
    assert labels.dtype == np.uint16
    assert labels.ravel()[:50].tolist() == [256, *range(257, 301), 45, 46, 47, 48, 49]


def test_a_box_is_restored_in_the_rows_it_reaches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time grows with boxes and with rows, not with their product: 40 boxes of 20 px are in two of 100 strips each."""
    calls: list[int] = []
    restore = edge.masks.merge.restore_rows
    monkeypatch.setattr("edge.masks.merge.restore_rows", lambda *given: calls.append(1) or restore(*given))
    tall = np.zeros((100 * STRIP_ROWS, 30), np.uint8)
    views = [View.square(0, 150 * number, 20, 32) for number in range(40)]
    found = [positive_window(np.ones((32, 32), np.float32), label, view) for label, view in enumerate(views, start=1)]
    merge([window for window in found if window is not None], tall)
    assert len(np.unique(tall)) == 41
    assert len(calls) <= 2 * len(views)

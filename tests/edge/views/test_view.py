"""Views: which one a box gets, where it lies, what it shows and where its pixels come from, worked out by hand."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from edge.data.case import make_case
from edge.engines.model_folder import ModelDescription
from edge.masks.merge import merge
from edge.masks.restore import positive_window
from edge.pipeline import Options, segment
from edge.views.ladder import ViewLadder, view_around
from edge.views.prepare import prepare_view
from edge.views.view import View

LADDER = ViewLadder((56, 112, 224), box_share=0.75, least_scale=1)  # boxes up to 42, 84 and 168 px at no less than 1


@pytest.mark.parametrize(
    ("longer_side", "size", "side"),
    [
        (1, 56, 1),
        (21, 56, 28),  # shown twice as large
        (42, 56, 56),  # one to one: 42 of 56 px
        (43, 112, 57),  # 56 px would show it at 0.98
        (84, 112, 112),
        (85, 224, 113),
        (168, 224, 224),
        (169, 224, 225),  # none shows it at 1: the largest
        (300, 224, 400),
    ],
)
def test_a_box_gets_the_smallest_view_that_shows_it_at_no_less_than_the_scale(
    longer_side: int, size: int, side: int
) -> None:
    """A box of so many px fills three quarters of the side, whichever way it lies."""
    for width, height in ((longer_side, 1), (1, longer_side), (longer_side, longer_side)):
        view = LADDER.view_around(np.array([500, 600, 500 + width - 1, 600 + height - 1], float))
        assert (view.size, view.width, view.height) == (size, side, side)


@pytest.mark.parametrize(("least_scale", "size"), [(0.25, 56), (0.5, 56), (0.51, 112), (1, 112), (1.01, 224), (9, 224)])
def test_the_scale_decides_how_large_a_view_a_box_gets(least_scale: float, size: int) -> None:
    """84 px are shown 42, 84 or 168 px long: at 0.5, 1 or 2."""
    box = np.array([10, 20, 93, 30], float)
    assert ViewLadder((56, 112, 224), 0.75, least_scale).view_around(box).size == size


@pytest.mark.parametrize(("walk_size", "sizes"), [(None, [56, 112, 224]), (224, [56, 112, 224]), (112, [56, 112, 112])])
def test_a_walk_is_shown_views_up_to_its_own_size(walk_size: int | None, sizes: list[int]) -> None:
    """Of boxes for 56, 112 and 224 px: the same part of the image, in fewer px; no other view changes."""
    ladder = ViewLadder((56, 112, 224), 0.75, 1, walk_size)
    boxes = [np.array([10, 20, 9 + extent, 30], float) for extent in (42, 84, 168)]
    views = [ladder.view_around(box, walks=True) for box in boxes]
    assert [view.size for view in views] == sizes
    assert [view.width for view in views] == [56, 112, 224]
    assert [ladder.view_around(box).size for box in boxes] == [56, 112, 224]


def test_no_smaller_view_would_do_and_the_one_taken_does() -> None:
    """Thousands of boxes and ladders: shown at least so large as the scale asks, unless there is no larger view."""
    rng = np.random.default_rng(0)
    taken: Counter[tuple[bool, int]] = Counter()
    for _ in range(3000):
        sizes = tuple(sorted(8 * rng.choice(np.arange(2, 33), rng.integers(1, 5), replace=False)))
        ladder = ViewLadder(sizes, float(rng.uniform(0.3, 1)), float(rng.uniform(0.2, 2)))
        extent = int(np.exp(rng.uniform(0, np.log(500))))
        at = sizes.index(ladder.view_around(np.array([0, 0, extent - 1, 0], float)).size)
        shown = [size * ladder.box_share / extent >= ladder.least_scale for size in sizes]
        assert not any(shown[:at]) and (shown[at] or at == len(sizes) - 1)
        taken[shown[at], at] += 1
    assert len(taken) >= 6


@pytest.mark.parametrize(
    ("box", "view"),
    [
        ([100, 200, 141, 220], View.square(left=93, top=182, side=56, size=56)),  # 42 px wide: 7 px on either side
        ([100, 200, 183, 230], View.square(86, 160, 112, 112)),  # 84 px wide; 215.5 - 56 = 159.5, to the even one
        ([10, 20, 30, 30], View.square(6, 12, 28, 56)),  # 21 px wide: 20.5 - 14 = 6.5, 25.5 - 14 = 11.5
        ([0, 0, 41, 41], View.square(-7, -7, 56, 56)),  # beyond the image's border
        ([7, 9, 7, 9], View.square(7, 9, 1, 56)),  # a single pixel
        ([7.2, 9.4, 7.1, 9.3], View.square(7, 9, 1, 56)),  # of a tracked box hardly anything is left at its end
    ],
)
def test_the_box_lies_in_the_middle_of_its_view(box: list[float], view: View) -> None:
    """To half a pixel, and to the even one where that is a tie."""
    assert LADDER.view_around(np.array(box, float)) == view
    assert view_around(np.array(box, float), view.size, 0.75) == view


def test_boxes_go_from_outer_edge_to_outer_edge() -> None:
    """Doubled, pixel 8 becomes 0 and 1, pixel 35 becomes 54 and 55; halved, pixels 8 and 9 become 0."""
    boxes = np.array([[8, 12, 35, 39], [10, 14, 10, 15]], float)
    assert View.square(8, 12, 28, 56).boxes_to_view(boxes).tolist() == [[0, 0, 55, 55], [4, 4, 5, 7]]
    assert View.square(8, 12, 224, 112).boxes_to_view(np.array([[8, 12, 9, 13]], float)).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("size", LADDER.sizes)
def test_a_box_lies_where_its_pixels_are_shown(size: int) -> None:
    """A bright box of 84 px around the corner of an image, at 0.5, 1 and 2: what is bright in the view is the box."""
    box = np.array([20, -10, 103, 73], float)
    image = np.zeros((150, 160), np.uint8)
    image[:74, 20:104] = 255
    view = view_around(box, size, 0.75)
    bright = prepare_view(view, image, 0, 255)[0] > 0.5
    left, top, right, bottom = view.boxes_to_view(box[None])[0].round().astype(int).tolist()
    border = round(-view.top * view.scale)  # beyond the image there is nothing to be bright
    expected = np.zeros((size, size), bool)
    expected[max(top, border) : bottom + 1, left : right + 1] = True
    assert top < border and np.array_equal(bright, expected)


def test_a_view_shows_its_square_and_zeros_beyond_the_border() -> None:
    """4 px of an image, 2 of them beyond its upper left; enlarged to 8, between 50 and 250."""
    image = np.full((6, 5), 150, np.uint8)
    image[0, 0] = 250
    shown = prepare_view(View.square(-2, -2, 4, size=8), image, 50, 250)
    assert shown.shape == (3, 8, 8) and shown.dtype == np.float32
    assert (shown[:, :3] == 0).all() and (shown[:, :, :3] == 0).all()
    assert shown[:, 7, 7].tolist() == [0.5, 0.5, 0.5]
    assert shown[0, 4, 4] == pytest.approx(0.56, abs=0.01)  # 9 / 16 of the bright corner, the rest of what is beyond


def test_shrinking_averages_areas_and_colours_stay() -> None:
    """Each 2 x 2 px of three colours become one."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    shown = prepare_view(View.square(4, 2, 8, size=4), image, 0, 255)
    means = image[2:10, 4:12].reshape(4, 2, 4, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(shown * 255, means, atol=0.51)


@pytest.mark.parametrize(
    ("left", "top", "shown"),
    [
        (-60, 0, None), (0, -60, None), (40, 0, None), (0, 30, None), (-60, -60, None), (-56, 0, None),
        (-55, 0, (slice(0, 30), slice(55, 56))), (39, -50, (slice(50, 56), slice(0, 1))),
    ],
)  # fmt: skip
def test_a_view_beside_the_image_shows_what_is_beyond(left: int, top: int, shown: tuple[slice, slice] | None) -> None:
    """56 px, one to one, of an image of 30 x 40 px: nothing of it, or its last column or first one."""
    expected = np.full((56, 56), 7, np.uint8)
    if shown:
        expected[shown] = 200
    assert np.array_equal(View.square(left, top, 56, 56).show(np.full((30, 40), 200, np.uint8), 7), expected)


@pytest.mark.parametrize("size", LADDER.sizes)
@pytest.mark.parametrize("scale", [0.5, 1, 2])
@pytest.mark.parametrize(("left", "top"), [(40, 30), (-10, -6), (110, 100)])
def test_a_mask_returns_to_where_its_view_was_cut(size: int, scale: float, left: int, top: int) -> None:
    """Enlarged, as it is, shrunk; inside the image and over its borders: nothing beyond the view, half a pixel off."""
    unit = size // 56
    view = View.square(left, top, round(size / scale), size)
    logits = np.full((size, size), -1, np.float32)
    logits[16 * unit : 40 * unit, 8 * unit : 48 * unit] = 1
    window = positive_window(logits, 3, view)
    assert window is not None
    labels = np.zeros((150, 160), np.uint8)
    merge([window], labels)
    px = unit / scale  # of the image in a unit
    rows, columns = np.arange(150) + 0.5, np.arange(160) + 0.5
    inside_rows = (rows > top + 16 * px) & (rows < top + 40 * px)
    inside_columns = (columns > left + 8 * px) & (columns < left + 48 * px)
    expected = 3 * (inside_rows[:, None] & inside_columns)
    assert np.array_equal(labels, expected)


class _Fills:
    """An engine that answers what is bright in the view, or the whole frame."""

    description = ModelDescription("bright", 256, (3, 64, 64), {}, {}, views=asdict(LADDER))

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def prepare(self, batches: dict[int, int]) -> None:
        pass

    def encode(self, images: np.ndarray) -> np.ndarray:
        self.seen.append(images.shape)
        return images

    def decode(self, embedding: np.ndarray, boxes: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
        if len(embedding) == len(boxes):
            return embedding[:, 0] - np.float32(0.5)
        return np.tile(embedding[:1, 0] - np.float32(0.5), (len(boxes), 1, 1))


def _bright(shape: tuple[int, ...], *parts: tuple[slice, ...]) -> np.ndarray:
    image = np.zeros(shape, np.uint8)
    for part in parts:
        image[part] = 255
    return image


@pytest.mark.parametrize("block", [1, 8])
def test_every_box_of_an_image_is_cut_and_put_back_in_its_place(block: int) -> None:
    """Bright rectangles, each so large that it needs another view, the boxes a little larger: exactly these."""
    rectangles = [(slice(20, 40), slice(30, 100)), (slice(100, 108), slice(150, 156)), (slice(50, 190), slice(20, 50))]
    image = _bright((200, 220), *rectangles)
    boxes = np.array([[27, 18, 102, 41], [148, 98, 158, 109], [18, 48, 52, 192]], float)
    engine: Any = _Fills()
    labels = segment(make_case("2DBox_US_1", np.dstack([image] * 3), boxes), engine, Options(block=block)).labels
    assert sorted(engine.seen) == [(1, 3, 56, 56), (1, 3, 112, 112), (1, 3, 224, 224)]
    for label, rectangle in enumerate(rectangles, 1):
        assert np.array_equal(labels == label, _bright(image.shape, rectangle) > 0)


def test_a_volume_is_cut_around_its_tracked_boxes_across_slices() -> None:
    """One box over three slices, all bright: what is left of it on each slice, 3 views in one block."""
    image = _bright((5, 64, 64), (slice(1, 4), slice(0, 64), slice(0, 64)))
    image[:, 0, 0] = 0
    engine: Any = _Fills()
    found = segment(make_case("3DBox_CT_1", image, np.array([[20, 20, 1, 39, 39, 3]], float)), engine)
    assert engine.seen == [(3, 3, 56, 56)]
    # one slice from the middle of one and a half: sqrt(1 - 4 / 9) = 0.745, of which the root of 20 px: 21.4 to 37.6
    for z, low, high in ((1, 21, 38), (2, 20, 39), (3, 21, 38)):
        rows, columns = np.nonzero(found.labels[z])
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (low, high, low, high)
    assert not found.labels[[0, 4]].any()


def test_each_view_of_a_block_is_cut_from_its_own_slice() -> None:
    """Rows that are bright on one slice each, three slices in one block."""
    bright = {1: slice(25, 29), 2: slice(30, 36), 3: slice(27, 34)}
    image = _bright((5, 64, 64), *((z, rows, slice(0, 64)) for z, rows in bright.items()))
    engine: Any = _Fills()
    found = segment(make_case("3DBox_CT_1", image, np.array([[20, 20, 1, 39, 39, 3]], float)), engine)
    for z, rows in bright.items():
        assert np.flatnonzero(found.labels[z].any(axis=1)).tolist() == list(range(rows.start, rows.stop))


@pytest.mark.parametrize(
    ("method", "side"), [("auto", 56), ("tracked", 56), ("propagated", 56), ("fixed", 56), ("baseline", 256)]
)
def test_a_volume_is_seen_in_views_unless_the_baseline_is_asked_for(method: str, side: int) -> None:
    """Known boxes and masks that propagate alike, and what is bright is found on each slice."""
    image = _bright((3, 64, 64), (slice(0, 3), slice(20, 40), slice(20, 40)))
    case = make_case("3DBox_CT_1", image, np.array([[18, 18, 0, 41, 41, 2]], float))
    engine: Any = _Fills()
    labels = segment(case, engine, Options(method=method)).labels
    assert {shape[1:] for shape in engine.seen} == {(3, side, side)} and labels.any(axis=(1, 2)).all()


@pytest.mark.parametrize(("method", "side"), [("auto", 56), ("tracked", 56), ("propagated", 56), ("baseline", 256)])
def test_a_picture_is_seen_in_views_unless_the_baseline_is_asked_for(method: str, side: int) -> None:
    """Its one slice holds the box as it is given, whatever becomes of boxes in volumes."""
    image = np.dstack([_bright((64, 64), (slice(20, 40), slice(20, 40)))] * 3)
    engine: Any = _Fills()
    segment(make_case("2DBox_US_1", image, np.array([[18, 18, 41, 41]])), engine, Options(method=method))
    assert engine.seen == [(1, 3, side, side)]


def test_a_view_is_stretched_by_the_whole_slice() -> None:
    """The brightest pixel of the slice is 1, wherever it lies; a slice of one value is zeros."""
    image = np.full((1, 100, 100), 40, np.uint8)
    image[0, 30:50, 30:50], image[0, 90, 90] = 140, 240
    seen: list[np.ndarray] = []
    engine: Any = _Fills()
    engine.encode = lambda images: seen.append(images) or images
    for volume in (image, np.full((1, 100, 100), 9, np.uint8)):
        segment(make_case("3DBox_CT_1", volume, np.array([[30, 30, 0, 49, 49, 0]], float)), engine)
    assert seen[0][0, 0, 28, 28] == 0.5 and seen[0].min() == 0
    assert not seen[1].any()


@pytest.mark.parametrize("longer_side", [40, 80, 160])
def test_the_network_is_prompted_with_the_expected_extent_in_the_view_around_the_box(longer_side: int) -> None:
    """A box 20 px high, in views of each size: the prompt 2.5 px smaller on each side, or the box if told so."""
    image = _bright((120, 200), (slice(20, 40), slice(30, 70)))
    last = 30 + longer_side - 1
    box = np.array([[30, 20, last, 39]], float)
    prompts: list[np.ndarray] = []
    engine: Any = _Fills()
    engine.decode = lambda embedding, boxes, within: prompts.append(boxes) or _Fills().decode(embedding, boxes)
    for options in (Options(), Options(box_margin_px=0)):
        segment(make_case("2DBox_US_1", np.dstack([image] * 3), box), engine, options)
    view = LADDER.view_around(box[0])
    assert view.size == {40: 56, 80: 112, 160: 224}[longer_side]
    assert np.array_equal(prompts[0], view.boxes_to_view(np.array([[32.5, 22.5, last - 2.5, 36.5]])))
    assert np.array_equal(prompts[1], view.boxes_to_view(box))

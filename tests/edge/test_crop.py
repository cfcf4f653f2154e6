"""Crops: where they lie, what they show and where their pixels come from, worked out by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.case import make_case
from edge.crop import Crop, crop_around, expected_extents
from edge.merge import merge
from edge.model_folder import ModelDescription
from edge.pipeline import Options, segment
from edge.restore import positive_window


@pytest.mark.parametrize(
    ("box", "crop"),
    [
        ([100, 200, 145, 220], Crop(left=95, top=182, side=56)),  # 46 px wide: one to one, 5 px on either side
        ([100, 200, 191, 230], Crop(90, 160, 112)),  # 92 px wide: halved
        ([10, 20, 32, 30], Crop(8, 12, 28)),  # 23 px wide: doubled; 21.5 - 14 = 7.5, to the even one
        ([0, 0, 45, 45], Crop(-5, -5, 56)),  # beyond the image's border
        ([7, 9, 7, 9], Crop(7, 9, 1)),  # a single pixel
        ([7.2, 9.4, 7.1, 9.3], Crop(7, 9, 1)),  # of a followed box hardly anything is left at its end
    ],
)
def test_the_longer_side_of_a_box_fills_46_of_56_px(box: list[float], crop: Crop) -> None:
    """The box in the middle."""
    assert crop_around(np.array(box, float)) == crop


def test_boxes_go_from_outer_edge_to_outer_edge() -> None:
    """Doubled, pixel 8 becomes 0 and 1, pixel 35 becomes 54 and 55."""
    boxes = np.array([[8, 12, 35, 39], [10, 14, 10, 15]], float)
    assert Crop(8, 12, 28).boxes_to_model(boxes).tolist() == [[0, 0, 55, 55], [4, 4, 5, 7]]


def test_a_crop_shows_its_square_and_zeros_beyond_the_border() -> None:
    """4 px of an image, 2 of them beyond its upper left; enlarged to 8, between 50 and 250."""
    image = np.full((6, 5), 150, np.uint8)
    image[0, 0] = 250
    shown = Crop(-2, -2, 4, size=8).prepare(image, 50, 250)
    assert shown.shape == (3, 8, 8) and shown.dtype == np.float32
    assert (shown[:, :3] == 0).all() and (shown[:, :, :3] == 0).all()
    assert shown[:, 7, 7].tolist() == [0.5, 0.5, 0.5]
    assert shown[0, 4, 4] == pytest.approx(0.56, abs=0.01)  # 9 / 16 of the bright corner, the rest of what is beyond


def test_shrinking_averages_areas_and_colours_stay() -> None:
    """Each 2 x 2 px of three colours become one."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    shown = Crop(4, 2, 8, size=4).prepare(image, 0, 255)
    means = image[2:10, 4:12].reshape(4, 2, 4, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(shown * 255, means, atol=0.51)


@pytest.mark.parametrize("side", [28, 56, 112])
@pytest.mark.parametrize(("left", "top"), [(40, 30), (-10, -6), (110, 100)])
def test_a_mask_returns_to_where_its_crop_was_cut(side: int, left: int, top: int) -> None:
    """Enlarged, as it is, shrunk; inside the image and over its borders: nothing beyond the crop, half a pixel off."""
    crop = Crop(left, top, side)
    logits = np.full((56, 56), -1, np.float32)
    logits[16:40, 8:48] = 1
    window = positive_window(logits, 3, crop)
    assert window is not None
    labels = np.zeros((150, 160), np.uint8)
    merge([window], labels)
    scale = side / 56
    rows, columns = np.arange(150), np.arange(160)
    inside_rows = (rows + 0.5 > top + 16 * scale) & (rows + 0.5 < top + 40 * scale)
    inside_columns = (columns + 0.5 > left + 8 * scale) & (columns + 0.5 < left + 48 * scale)
    expected = 3 * (inside_rows[:, None] & inside_columns)
    assert expected.any() and np.array_equal(labels, expected)


class _Fills:
    """An engine that answers what is bright in the crop, or the whole frame."""

    description = ModelDescription("bright", 256, (3, 64, 64), {}, {}, crops=True)
    takes_regions = False

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

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


def test_every_box_of_an_image_is_cut_and_put_back_in_its_place() -> None:
    """Two bright rectangles of unlike size, the boxes a little larger, in blocks of one: exactly the rectangles."""
    first, second = (slice(20, 40), slice(30, 70)), (slice(100, 108), slice(150, 156))
    image = _bright((120, 200), first, second)
    boxes = np.array([[27, 18, 72, 41], [148, 98, 158, 109]], float)
    engine = _Fills()
    labels = segment(make_case("2DBox_US_1", np.dstack([image] * 3), boxes), engine, Options(block=1)).labels
    assert engine.seen == [(1, 3, 56, 56)] * 2
    assert (labels == 1).sum() == 800 and (labels[first] == 1).all()
    assert (labels == 2).sum() == 48 and (labels[second] == 2).all()


def test_a_volume_is_cut_around_its_followed_boxes_across_slices() -> None:
    """One box over three slices, all bright: what is left of it on each slice, 3 crops in one block."""
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


def test_each_crop_of_a_block_is_cut_from_its_own_slice() -> None:
    """Rows that are bright on one slice each, three slices in one block."""
    bright = {1: slice(25, 29), 2: slice(30, 36), 3: slice(27, 34)}
    image = _bright((5, 64, 64), *((z, rows, slice(0, 64)) for z, rows in bright.items()))
    found = segment(make_case("3DBox_CT_1", image, np.array([[20, 20, 1, 39, 39, 3]], float)), _Fills())
    for z, rows in bright.items():
        assert np.flatnonzero(found.labels[z].any(axis=1)).tolist() == list(range(rows.start, rows.stop))


def test_slices_are_encoded_whole_where_boxes_bound_nothing() -> None:
    """Official mode, and masks that propagate."""
    image = _bright((3, 64, 64), (slice(0, 3), slice(20, 40), slice(20, 40)))
    case = make_case("3DBox_CT_1", image, np.array([[18, 18, 0, 41, 41, 2]], float))
    for options in (Options(mode="official"), Options(volume="propagate")):
        engine: Any = _Fills()
        engine.encode = lambda images, seen=engine.seen: seen.append(images.shape) or images
        segment(case, engine, options)
        assert set(engine.seen) == {(1, 3, 256, 256)}


def test_a_crop_is_stretched_by_the_whole_slice() -> None:
    """The brightest pixel of the slice is 1, wherever it lies; a slice of one value is zeros."""
    image = np.full((1, 100, 100), 40, np.uint8)
    image[0, 30:50, 30:50], image[0, 90, 90] = 140, 240
    seen = []
    engine: Any = SimpleNamespace(description=_Fills.description, takes_regions=False, decode=_Fills().decode)
    engine.encode = lambda images: seen.append(images) or images
    for volume in (image, np.full((1, 100, 100), 9, np.uint8)):
        segment(make_case("3DBox_CT_1", volume, np.array([[30, 30, 0, 49, 49, 0]], float)), engine)
    assert seen[0][0, 0, 28, 28] == 0.5 and seen[0].min() == 0
    assert not seen[1].any()


def test_a_prompt_ends_where_the_object_is_expected_to() -> None:
    """2.5 px within each side of a large box, 15 % of a small one's side, each axis by itself."""
    boxes = np.array([[10, 20, 109, 29], [0, 0, 0, 0]], float)
    assert expected_extents(boxes, loose_px=2.5).tolist() == [[12.5, 21.5, 106.5, 27.5], [0.15, 0.15, -0.15, -0.15]]
    assert expected_extents(boxes[:1], loose_px=1).tolist() == [[11, 21, 108, 28]]


def test_the_network_is_prompted_with_the_expected_extent_in_the_crop_around_the_box() -> None:
    """A box of 40 x 20 px: the crop around it, the prompt 2.5 px smaller on each side, or the box if told so."""
    image = _bright((120, 200), (slice(20, 40), slice(30, 70)))
    box = np.array([[30, 20, 69, 39]], float)
    prompts: list[np.ndarray] = []
    engine: Any = _Fills()
    engine.decode = lambda embedding, boxes, within: prompts.append(boxes) or _Fills().decode(embedding, boxes)
    for options in (Options(), Options(loose_px=0)):
        segment(make_case("2DBox_US_1", np.dstack([image] * 3), box), engine, options)
    crop = crop_around(box[0])
    assert np.array_equal(prompts[0], crop.boxes_to_model(np.array([[32.5, 22.5, 66.5, 36.5]])))
    assert np.array_equal(prompts[1], crop.boxes_to_model(box))

"""What of a box is decoded: all of it, whatever prompts for it and whichever boxes are decoded with it."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from edge.case import Case, make_case
from edge.crop import crop_around
from edge.graph import Graph, decode_boxes
from edge.model_folder import ModelDescription
from edge.pipeline import Options, segment
from edge.runtime import BACKENDS, Engine, load_engine
from edge.windows import OUTSIDE

MARGINS_PX = (0, 2.5, 10, 1000)  # `loose_px`: from the box itself to the smallest prompt there is
BLOCKS = (1, 2, 3, 8)


class CellEngine:
    """A network whose logits are the image's brightness, whatever the prompt, in the cells that it is asked for."""

    description = ModelDescription("cells", 256, (16, 64, 64), {}, {}, crops=True)
    takes_regions = False

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole  # decode all cells, asked for or not
        self.graph = Graph(["embedding", "boxes", "cells"], self._upscale, in_turn=True)

    def encode(self, images: np.ndarray) -> np.ndarray:
        count, _, size, _ = images.shape
        cells = images[:, 0].reshape(count, size // 4, 4, size // 4, 4)
        return cells.transpose(0, 2, 4, 1, 3).reshape(count, 16, size // 4, size // 4)

    def decode(self, embedding: np.ndarray, boxes: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
        return decode_boxes(self.graph, embedding, boxes, None if self.whole else within)

    @staticmethod
    def _upscale(inputs: dict[str, np.ndarray]) -> np.ndarray:
        embedding = np.broadcast_to(inputs["embedding"], (len(inputs["boxes"]), *inputs["embedding"].shape[1:]))
        rows = embedding.reshape(len(embedding), 16, -1).transpose(0, 2, 1).reshape(-1, 4, 4)
        return rows[inputs["cells"]] - np.float32(0.4)


def spots(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Smooth noise: bright and dark patches of a few pixels, up to the edge of every box."""
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return np.stack([cv2.GaussianBlur(plane, (0, 0), 2.5) for plane in noise]) if len(shape) == 3 else noise


def boxes_of(count: int, size: int, seed: int) -> np.ndarray:
    """Boxes (N, 4) of 3 to 150 px, all within an image of `size` px."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(3), np.log(150), (count, 2))).astype(int)
    low = (rng.random((count, 2)) * (size - sides)).astype(int)
    return np.concatenate([low, low + sides - 1], axis=1)


@cache
def cases() -> tuple[Case, ...]:
    """A picture and a volume, with boxes so different that they need crops of very different scale."""
    picture = spots((1, 300, 300), 1)[0]
    volume = spots((5, 300, 300), 2)
    flat = boxes_of(7, 300, 4)
    low, high = np.insert(flat[:, :2], 2, [0, 1, 2, 0, 1, 2, 3], axis=1), np.insert(flat[:, 2:], 2, 4, axis=1)
    return (
        make_case("2DBox_US_spots", picture, boxes_of(11, 300, 3)),
        make_case("3DBox_CT_spots", volume, np.concatenate([low, high], axis=1)),
    )


@pytest.mark.parametrize("encode", ["crops", "slices"])
@pytest.mark.parametrize("at", [0, 1], ids=["picture", "volume"])
def test_labels_depend_on_neither_the_margin_nor_the_block(at: int, encode: str) -> None:
    """As with a decoder that decodes everything, box by box."""
    case = cases()[at]
    expected = segment(case, CellEngine(whole=True), Options(block=1, encode=encode)).labels
    assert len(np.unique(expected)) > 4
    for loose_px in MARGINS_PX:
        for block in BLOCKS:
            options = Options(block=block, loose_px=loose_px, encode=encode)
            assert np.array_equal(segment(case, CellEngine(), options).labels, expected), (loose_px, block)


def test_a_box_is_decoded_to_its_last_pixel() -> None:
    """All bright: all of a box of 100 px is its mask, though the prompt ends 10 px within it."""
    case = make_case("2DBox_US_bright", np.full((128, 128), 255, np.uint8), np.array([[10, 10, 109, 109]]))
    image = case.image.copy()
    image[0, 0] = 0  # normalised from 0 to 255
    case = make_case("2DBox_US_bright", image, case.boxes)
    labels = segment(case, CellEngine(), Options(loose_px=10)).labels
    assert labels[10:110, 10:110].all() and labels.sum() == 100 * 100


class _Watched:
    """An engine that remembers its logits, and decodes everything where it is told to."""

    def __init__(self, engine: Engine, *, whole: bool = False) -> None:
        self.engine, self.whole = engine, whole
        self.logits: list[np.ndarray] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def decode(self, embedding: np.ndarray, boxes: np.ndarray, within: np.ndarray) -> np.ndarray:
        self.logits += list(self.engine.decode(embedding, boxes, None if self.whole else within))
        return np.stack(self.logits[-len(boxes) :])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_model_that_ships_answers_as_if_it_decoded_everything(backend: str) -> None:
    """In f32, prompted far within the boxes, all at once and one by one: no pixel of a box is left out."""
    case, engine = cases()[0], load_engine(backend=backend)
    case = replace(case, boxes=case.boxes[:5])
    expected = segment(case, _Watched(engine, whole=True), Options(loose_px=10, block=5)).labels
    assert expected.any()
    for block in (1, 2, 5):
        watched = _Watched(engine)
        assert np.array_equal(segment(case, watched, Options(loose_px=10, block=block)).labels, expected), block
        for box, logits in zip(case.boxes, watched.logits, strict=True):
            left, top, right, bottom = crop_around(box).boxes_to_model(box[None])[0].round().astype(int)
            assert (logits[top : bottom + 1, left : right + 1] != OUTSIDE).all()

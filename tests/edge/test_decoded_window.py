"""What of a box is decoded: all of it, whatever prompts for it and whichever boxes are decoded with it."""

from dataclasses import asdict, replace
from functools import cache

import cv2
import numpy as np
import pytest

from edge.data.case import Case, make_case
from edge.engines.cells import OUTSIDE
from edge.engines.graph import Graph, decode_boxes
from edge.engines.model_folder import ModelDescription
from edge.engines.runtime import BACKENDS, Engine, load_engine
from edge.pipeline import Options, segment
from edge.prompts.prompt import expected_extents
from edge.views.ladder import ViewLadder

# margins from the box itself to the smallest prompt there is, boxes at once: each of one with two of the other at least
MARGINS_PX_AND_BLOCKS = ((0, 1), (0, 3), (2.5, 2), (2.5, 8), (10, 1), (10, 8), (1000, 2), (1000, 3))
LADDER = ViewLadder((56, 112, 224), box_share=0.75, least_scale=1)


class CellEngine:
    """A network whose logits are the image's brightness, whatever the prompt, in the cells that it is asked for."""

    def __init__(self, ladder: ViewLadder | None = LADDER, *, stride: int = 4, whole: bool = False) -> None:
        self.whole = whole  # decode all cells, asked for or not
        self.stride = stride
        self.graph = Graph(["embedding", "boxes", "cells"], self._upscale)
        self.encoded: list[tuple[int, int]] = []  # how many of which size
        views = asdict(ladder) if ladder else None
        self.description = ModelDescription(
            "cells", 256, (stride**2, 256 // stride, 256 // stride), {}, {}, views=views
        )

    def prepare(self, batches: dict[int, int]) -> None:
        pass

    def encode(self, images: np.ndarray) -> np.ndarray:
        count, _, size, _ = images.shape
        self.encoded.append((count, size))
        grid = size // self.stride
        cells = images[:, 0].reshape(count, grid, self.stride, grid, self.stride)
        return cells.transpose(0, 2, 4, 1, 3).reshape(count, self.stride**2, grid, grid)

    def decode(self, embedding: np.ndarray, boxes: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
        return decode_boxes(self.graph, embedding, boxes, None if self.whole else within, self.description.stride)

    def _upscale(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        embedding = np.broadcast_to(inputs["embedding"], (len(inputs["boxes"]), *inputs["embedding"].shape[1:]))
        rows = embedding.reshape(*embedding.shape[:2], -1).transpose(0, 2, 1).reshape(-1, self.stride, self.stride)
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
    """A picture and a volume, with boxes so different that they need views of every size."""
    picture = spots((1, 300, 300), 1)[0]
    volume = spots((5, 300, 300), 2)
    flat = boxes_of(7, 300, 4)
    low, high = np.insert(flat[:, :2], 2, [0, 1, 2, 0, 1, 2, 3], axis=1), np.insert(flat[:, 2:], 2, 4, axis=1)
    return (
        make_case("2DBox_US_spots", picture, boxes_of(11, 300, 3)),
        make_case("3DBox_CT_spots", volume, np.concatenate([low, high], axis=1)),
    )


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("ladder", [LADDER, None], ids=["views", "slices"])
@pytest.mark.parametrize(("at", "method"), [(0, "auto"), (1, "tracked"), (1, "propagated")])
def test_labels_depend_on_neither_the_margin_nor_the_block(
    at: int, method: str, ladder: ViewLadder | None, stride: int
) -> None:
    """As with a decoder that decodes everything, box by box; views of every size are mixed."""
    case, everything = cases()[at], CellEngine(ladder, stride=stride, whole=True)
    expected = segment(case, everything, Options(method, block=1)).labels
    assert len(np.unique(expected)) > 3
    assert {size for _, size in everything.encoded} == (set(ladder.sizes) if ladder else {256})
    assert {count for count, _ in everything.encoded} == {1}
    for margin_px, block in MARGINS_PX_AND_BLOCKS:
        engine = CellEngine(ladder, stride=stride)
        labels = segment(case, engine, Options(method, block=block, box_margin_px=margin_px)).labels
        assert np.array_equal(labels, expected), (margin_px, block)
    assert ladder is None or max(count for count, _ in engine.encoded) > 1


@pytest.mark.parametrize("longer_side", [40, 80, 160])
def test_a_box_is_decoded_to_its_last_pixel(longer_side: int) -> None:
    """All bright: all of a box is its mask, in views of every size, though the prompt ends up to 10 px within it."""
    image = np.full((192, 192), 255, np.uint8)
    image[0, 0] = 0  # normalised from 0 to 255
    last = 10 + longer_side - 1
    case = make_case("2DBox_US_bright", image, np.array([[10, 10, last, last]]))
    labels = segment(case, CellEngine(), Options(box_margin_px=10)).labels
    assert labels[10 : last + 1, 10 : last + 1].all() and labels.sum() == longer_side**2


class _Watched:
    """An engine that remembers its logits by size and prompt, and decodes everything where it is told to."""

    def __init__(self, engine: Engine, *, whole: bool = False) -> None:
        self.engine, self.whole = engine, whole
        self.logits: dict[tuple[float, ...], np.ndarray] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def decode(self, embedding: np.ndarray, boxes: np.ndarray, within: np.ndarray) -> np.ndarray:
        logits = self.engine.decode(embedding, boxes, None if self.whole else within)
        self.logits |= {(logits.shape[-1], *box): one for box, one in zip(boxes.tolist(), logits, strict=True)}
        return logits


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_model_that_ships_answers_as_if_it_decoded_everything(backend: str) -> None:
    """In f32, prompted far within the boxes, all at once and one by one: no pixel of a box is left out."""
    case, engine = cases()[0], load_engine(backend=backend)
    ladder = engine.description.ladder
    assert ladder is not None
    case = replace(case, boxes=case.boxes[:5])
    expected = segment(case, _Watched(engine, whole=True), Options(box_margin_px=10, block=5)).labels
    assert expected.any()
    for block in (1, 2, 5):
        watched = _Watched(engine)
        labels = segment(case, watched, Options(box_margin_px=10, block=block)).labels
        assert np.array_equal(labels, expected), block
        assert len(watched.logits) == len(case.boxes)
        for box in case.boxes:
            view = ladder.view_around(box)
            prompt = view.boxes_to_view(expected_extents(box[None], 10))[0].tolist()
            logits = watched.logits[(view.size, *prompt)]
            left, top, right, bottom = view.boxes_to_view(box[None])[0].round().astype(int)
            assert (logits[top : bottom + 1, left : right + 1] != OUTSIDE).all()

"""A network of another make: frames of 128 px, cells of 8 px, views of 32 and 64 px, all of it only in its folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.data.case import make_case
from edge.data.files import file_hash
from edge.engines.cells import OUTSIDE
from edge.engines.model_folder import DESCRIPTION, STAGES, ModelDescription, read_description, write_description
from edge.engines.runtime import BACKENDS, Engine, load_engine
from edge.errors import ModelError
from edge.pipeline import Options, segment
from edge.views.ladder import ViewLadder
from edge.views.planners import widened

onnx = pytest.importorskip("onnx")

FRAME_PX, STRIDE = 128, 8
OPSET = 17
LADDER = ViewLadder((32, 64), box_share=0.75, least_scale=1)  # boxes up to 24 px, and larger ones


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder for both engines whose logits are the brightness less 0.4, in the cells that are asked for.

    encoder: images (B, 3, S, S) -> the 8 x 8 brightnesses of each cell as its 64 channels. decoder: those of cells.
    """
    import openvino

    folder = tmp_path_factory.mktemp("toy")
    for stage, graph in (("encoder", _encoder()), ("decoder", _decoder())):
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{stage}.onnx")
        openvino.save_model(openvino.convert_model(folder / f"{stage}.onnx"), folder / f"{stage}.xml", False)
    named = {stage: stage for stage in STAGES}
    named |= {f"view{size}_{stage}": stage for size in LADDER.sizes for stage in STAGES}
    graphs = {
        "openvino": {stage: [f"{stage}.xml", f"{stage}.bin"] for stage in STAGES},
        "onnxruntime": {name: [f"{stage}.onnx"] for name, stage in named.items()},  # its sides are free
    }
    hashes = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    cells = FRAME_PX // STRIDE
    views = {"sizes": list(LADDER.sizes), "box_share": LADDER.box_share, "least_scale": LADDER.least_scale}
    write_description(folder, ModelDescription("toy", FRAME_PX, (STRIDE**2, cells, cells), graphs, hashes, views=views))
    return folder


@pytest.fixture(scope="module", params=BACKENDS)
def engine(toy: Path, request: pytest.FixtureRequest) -> Engine:
    return load_engine(toy, backend=request.param, threads=1)


@pytest.mark.parametrize("size", [*LADDER.sizes, FRAME_PX])
def test_views_and_frames_are_encoded_and_decoded_cell_by_cell(engine: Engine, size: int) -> None:
    """Of two views all pixels; only the cells within reach of their boxes; of a frame both boxes on one embedding."""
    images = np.random.default_rng(0).random((2, 3, size, size), dtype=np.float32)
    images[:, 1:] = images[:, :1]
    embeddings = engine.encode(images)
    assert embeddings.shape == (2, 64, size // 8, size // 8)
    if size == FRAME_PX:
        images, embeddings = images[[0, 0]], embeddings[:1]
    boxes = np.array([[9, 10, 14, 17], [0, 0, size - 1, 7]], np.float32)
    np.testing.assert_allclose(engine.decode(embeddings, boxes), images[:, 0] - 0.4, atol=1e-6)
    near = engine.decode(embeddings, boxes, widened(boxes, 1))
    expected = np.full((2, size, size), OUTSIDE)
    for logits, bright, (rows, columns) in zip(expected, images[:, 0], [(24, 16), (16, size)], strict=True):
        logits[slice(8 if rows == 24 else 0, rows), slice(8 if rows == 24 else 0, columns)] = 0
        logits += np.where(logits == 0, bright - 0.4, 0)
    np.testing.assert_allclose(near, expected, atol=1e-6)


def spots() -> np.ndarray:
    """Smooth noise of 128 x 128 px, 0 to 255."""
    noise = np.random.default_rng(1).random((FRAME_PX, FRAME_PX), dtype=np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.asarray(cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


@pytest.mark.parametrize("method", ["auto", "baseline"])
def test_a_picture_is_segmented_in_views_or_in_its_frame(engine: Engine, method: str) -> None:
    """Boxes of 24 px and of 48, each shown one to one: what is bright in them; by the baseline in all of the image."""
    image = spots()
    boxes = np.array([[10, 20, 33, 40], [60, 50, 107, 97]])
    labels = segment(make_case("2DBox_US_1", image, boxes), engine, Options(method=method, block=2)).labels
    bright = image / np.float32(255) > 0.4
    if method == "baseline":
        assert np.array_equal(labels > 0, bright)
        return
    expected = np.zeros_like(labels)
    for label, (left, top, right, bottom) in enumerate(boxes.tolist(), 1):
        expected[top : bottom + 1, left : right + 1] = label * bright[top : bottom + 1, left : right + 1]
    assert set(np.unique(expected)) == {0, 1, 2} and np.array_equal(labels, expected)


@pytest.mark.parametrize("method", ["tracked", "propagated", "fixed"])
def test_a_volume_is_segmented_by_every_method(engine: Engine, method: str) -> None:
    """Bright balls in the boxes given, on each slice of their range."""
    z, y, x = np.mgrid[:5, :100, :120]
    volume = np.full((5, 100, 120), 40, np.uint8)
    for cx, cy, radius in ((30, 30, 10), (80, 60, 25)):
        volume[np.hypot(np.hypot(x - cx, y - cy), 3 * (z - 2)) <= radius] = 220
    boxes = np.array([[19, 19, 0, 41, 41, 4], [54, 34, 0, 106, 86, 4]])
    labels = segment(make_case("3DBox_CT_1", volume, boxes), engine, Options(method=method)).labels
    agreement = np.mean((labels > 0) == (volume > 100))
    assert set(np.unique(labels)) == {0, 1, 2} and agreement > 0.97


def refusal(folder: Path, backend: str) -> str:
    with pytest.raises(ModelError) as caught:
        load_engine(folder, backend=backend)
    return str(caught.value)


def edited(toy: Path, folder: Path, **changes: Any) -> Path:
    copy = Path(shutil.copytree(toy, folder))
    content = json.loads((copy / DESCRIPTION).read_text())
    (copy / DESCRIPTION).write_text(json.dumps({**content, **changes}))
    return copy


def test_a_ladder_of_which_a_graph_is_missing_is_refused_when_it_is_loaded(toy: Path, tmp_path: Path) -> None:
    """ONNX Runtime has a graph for each size; OpenVINO's takes every size."""
    views = {**(read_description(toy).views or {}), "sizes": [32, 64, 96]}
    folder = edited(toy, tmp_path / "96", views=views)
    assert load_engine(folder, backend="openvino").encode(np.zeros((1, 3, 96, 96), np.float32)).shape == (1, 64, 12, 12)
    message = refusal(folder, "onnxruntime")
    assert "no graph view96_encoder and view96_decoder" in message and str(folder) in message
    assert "export the model again" in message


@pytest.mark.parametrize("backend", BACKENDS)
def test_graphs_of_views_alone_are_no_model(toy: Path, tmp_path: Path, backend: str) -> None:
    """Both stages are there, but the frame's encoder is not: methods that see whole slices would find nothing."""
    graphs = read_description(toy).graphs
    graphs[backend]["view32_encoder"] = graphs[backend].pop("encoder")
    assert "no graph encoder" in refusal(edited(toy, tmp_path / "toy", graphs=graphs), backend)


def test_sizes_that_are_no_multiples_of_its_stride_are_refused(toy: Path, tmp_path: Path) -> None:
    """56 px are not, 36 neither; both are multiples of the 4 px of other networks."""
    views = {**(read_description(toy).views or {}), "sizes": [36, 64]}
    assert "multiples of 8" in refusal(edited(toy, tmp_path / "36", views=views), "openvino")


def _encoder() -> "onnx.GraphProto":
    from onnx import TensorProto, helper, numpy_helper

    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["B", 3, "S", "S"])
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", STRIDE**2, "h", "w"])
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["grey"], axes=[1]),
        helper.make_node("SpaceToDepth", ["grey"], ["cells"], blocksize=STRIDE),
        helper.make_node("Sub", ["cells", "threshold"], ["embedding"]),
    ]
    return helper.make_graph(
        nodes, "encoder", [images], [output], [numpy_helper.from_array(np.float32(0.4), "threshold")]
    )


def _decoder() -> "onnx.GraphProto":
    from onnx import TensorProto, helper, numpy_helper

    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["I", STRIDE**2, "h", "w"])
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 4])
    cells = helper.make_tensor_value_info("cells", TensorProto.INT32, ["M"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["M", STRIDE, STRIDE])
    constants = {
        "nothing": np.float32(0),
        "each_box": np.array([-1, 1, 1, 1]),
        "rows": np.array([-1, STRIDE**2]),
        "patches": np.array([-1, STRIDE, STRIDE]),
    }
    nodes = [
        helper.make_node("ReduceMean", ["boxes"], ["mean"], axes=[1]),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),  # boxes stay an input, and say how many there are
        helper.make_node("Reshape", ["zero", "each_box"], ["zeros"]),
        helper.make_node("Add", ["embedding", "zeros"], ["of_each_box"]),
        helper.make_node("Transpose", ["of_each_box"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["last", "rows"], ["all"]),
        helper.make_node("Gather", ["all", "cells"], ["asked"], axis=0),
        helper.make_node("Reshape", ["asked", "patches"], ["logits"]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return helper.make_graph(nodes, "decoder", [embedding, boxes, cells], [logits], initializers)

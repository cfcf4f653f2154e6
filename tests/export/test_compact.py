"""Constants stored as what they follow from: the same numbers come out of both engines' graphs."""

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13 as ops

from edge.engines.openvino_import import openvino_core
from export.graphs.compact import angle_sums, compact_onnx, compact_openvino, expand_openvino, offset_table, shorten_xml

RNG = np.random.default_rng(0)


def attention_bias(side: int = 14, heads: int = 5) -> np.ndarray:
    """(1, heads, T, T): entry (a, b) is the head's number for how far apart a and b are, written out plainly."""
    table = RNG.random((heads, side, side), dtype=np.float32)
    places = [(y, x) for y in range(side) for x in range(side)]
    rows = [[table[:, abs(y - v), abs(x - u)] for v, u in places] for y, x in places]
    return np.ascontiguousarray(np.moveaxis(np.array(rows), 2, 0))[None]


def positions(side: int = 32, width: int = 16) -> np.ndarray:
    """(1, side^2, 2 width): sines, then cosines."""
    along = (np.arange(side) + 0.5) / side
    frequencies = RNG.normal(size=(2, width)) * 6
    angles = along[:, None, None] * frequencies[0] + along[None, :, None] * frequencies[1]
    grid = np.concatenate([np.sin(angles), np.cos(angles)], axis=2)
    return grid.reshape(1, side * side, 2 * width).astype(np.float32)


@pytest.mark.parametrize("constant", [attention_bias(), positions()], ids=["attention bias", "positions"])
def test_graphs_give_the_constant_back(constant: np.ndarray, tmp_path: Path) -> None:
    """OpenVINO exactly or within rounding, stored in a tenth of the bytes; ONNX likewise."""
    zero = ops.parameter([1], np.float32, name="zero")
    model = openvino.Model([ops.add(zero, ops.constant(constant))], [zero])
    compact_openvino(model)
    openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    found = openvino_core().compile_model(tmp_path / "model.xml", "CPU")([np.zeros(1, np.float32)])[0]
    np.testing.assert_allclose(found, constant, atol=2e-6)
    if constant.ndim == 4:
        expand_openvino(model)
        assert "Gather" not in [node.get_type_name() for node in model.get_ops()]
        np.testing.assert_array_equal(
            openvino_core().compile_model(model, "CPU")([np.zeros(1, np.float32)])[0], constant
        )
    assert (tmp_path / "model.bin").stat().st_size < max(constant.nbytes // 4, 160_000)

    graph = helper.make_graph(
        [helper.make_node("Add", ["zero", "constant"], ["sum"])],
        "sum",
        [helper.make_tensor_value_info("zero", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, constant.shape)],
        [numpy_helper.from_array(constant, "constant")],
    )
    onnx_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    compact_onnx(onnx_model)
    onnx.checker.check_model(onnx_model)
    assert "constant" not in [tensor.name for tensor in onnx_model.graph.initializer]
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"zero": np.zeros(1, np.float32)})[0], constant, atol=2e-6)


def test_what_only_looks_alike_is_left_as_it_is() -> None:
    """One number changed, other shapes, small ones: stored whole."""
    bias, grid = attention_bias(), positions()
    bias[0, 2, 7, 9] += 1
    grid[0, 500, 3] += 0.01
    assert offset_table(bias) is None and angle_sums(grid) is None
    for other in (RNG.random((256, 256), dtype=np.float32), np.ones((2, 5, 5), np.float32)):
        assert offset_table(other) is None and angle_sums(other) is None


def test_a_shortened_graph_is_the_same_graph(tmp_path: Path) -> None:
    """Fixed and free sizes, port names and the mark of weights kept in float16 survive; the numbers do not change."""
    images = ops.parameter([-1, 3], np.float32, name="images")
    weights = RNG.random((64, 3), dtype=np.float32)
    model = openvino.Model([ops.relu(ops.matmul(images, ops.constant(weights), False, True))], [images])
    model.inputs[0].set_names({"images"})
    model.outputs[0].set_names({"embedding"})
    path = tmp_path / "model.xml"
    openvino.save_model(model, path, compress_to_fp16=True)
    feed = {"images": RNG.random((2, 3), dtype=np.float32)}
    before, length = openvino_core().compile_model(path, "CPU")(feed)["embedding"], path.stat().st_size
    shorten_xml(path)
    assert path.stat().st_size < 0.8 * length and "decompression" in path.read_text()
    shortened = openvino_core().read_model(path)
    assert (str(shortened.inputs[0].partial_shape), shortened.inputs[0].any_name) == ("[?,3]", "images")
    np.testing.assert_array_equal(openvino_core().compile_model(shortened, "CPU")(feed)["embedding"], before)

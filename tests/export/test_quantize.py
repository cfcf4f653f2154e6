"""INT8 of a small graph, by the real quantizer: layers in INT8, products of activations not, answers close."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.int8.quantize import quantize_onnx

RNG = np.random.default_rng(3)


def write_graph(path: Path, weights_beside: str | None) -> None:
    """A convolution, a linear layer stored in float16, and a product of the two, as attention has: (1, 3, 8, 8)."""
    constants = {
        "kernel": RNG.standard_normal((16, 3, 1, 1), dtype=np.float32),
        "matrix.f16": RNG.standard_normal((8, 8)).astype(np.float16),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["planes"], "convolution"),
        helper.make_node("Cast", ["matrix.f16"], ["matrix"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["planes", "matrix"], ["rows"], "linear"),
        helper.make_node("MatMul", ["rows", "planes"], ["embedding"], "attention"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 16, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path, save_as_external_data=bool(weights_beside), location=weights_beside, size_threshold=0)


@pytest.mark.parametrize("weights_beside", [None, "encoder.bin"])
def test_onnx_layers_are_quantized_and_products_of_activations_are_not(
    tmp_path: Path, weights_beside: str | None
) -> None:
    """Weights of 7 bits, one scale per output channel; 8 bits for activations. Also with weights that engines share."""
    graph, quantized = tmp_path / "encoder.onnx", tmp_path / "encoder_int8.onnx"
    write_graph(graph, weights_beside)
    inputs = [RNG.random((1, 3, 8, 8), dtype=np.float32) for _ in range(6)]
    quantize_onnx(graph, quantized, inputs)
    model = onnx.load(quantized)
    weights = {len(array.shape): array for array in map(numpy_helper.to_array, model.graph.initializer)
               if array.dtype == np.int8 and array.size > 16}  # fmt: skip
    assert {array.shape for array in weights.values()} == {(16, 3, 1, 1), (8, 8)}
    assert all(64 >= abs(array.astype(int)).max() >= 60 for array in weights.values())
    sources = {output: node.op_type for node in model.graph.node for output in node.output}
    kinds = {node.name: [sources.get(name) for name in node.input] for node in model.graph.node}
    assert kinds["convolution"] == kinds["linear"] == ["DequantizeLinear", "DequantizeLinear"]
    assert (kinds["attention"][0], sources["embedding"]) == ("MatMul", "MatMul")
    before, after = (
        onnxruntime.InferenceSession(str(path)).run(None, {"images": inputs[0]})[0] for path in (graph, quantized)
    )
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()

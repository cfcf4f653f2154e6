"""INT8 by post-training quantization: the encoder's graphs with the ranges of activations seen on real slices.

Weights are quantized per output channel, activations per tensor; outliers are moved from activations into weights first
(SmoothQuant). Attention's products stay in float. Weights use half their range, so that the sum of two products fits
into 16 bits on CPUs without VNNI. For ONNX Runtime by its own quantizer, which knows no SmoothQuant.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.engines.openvino_import import import_openvino, openvino_core
from edge.system.cores import available_cores
from export.graphs.compact import compact_onnx, compact_openvino, expand_openvino, shorten_xml
from export.quiet import quiet

Inputs = list[npt.NDArray[np.float32]]  # each (1, 3, S, S)

FLOAT_TYPES = ("ScaledDotProductAttention",)  # 30 ms in bf16 against 36 ms in INT8, of 190 (2 cores, VNNI and BF16)
GROUPS = {  # what can be left in float together: layers by a piece of their names
    "patch embedding": ("patch_embed",),
    "stage 0": ("layers.0.blocks",),
    "stage 1": ("layers.1.blocks",),
    "stage 2, first": ("layers.2.blocks.0", "layers.2.blocks.1", "layers.2.blocks.2"),
    "stage 2, last": ("layers.2.blocks.3", "layers.2.blocks.4", "layers.2.blocks.5"),
    "stage 3": ("layers.3.blocks",),
    "merges": ("layers.0.downsample", "layers.1.downsample", "layers.2.downsample"),
    "neck": ("neck",),
}
SENSITIVITY_INPUTS = 4


def quantize_openvino(graph: Path, quantized: Path, inputs: Inputs, in_float: Sequence[str] = ()) -> None:
    """Write the INT8 form of an encoder's OpenVINO graph.

    Args:
        inputs: calibration slices.
        in_float: names of GROUPS to leave out.
    """
    openvino = import_openvino()  # before NNCF, which looks for its telemetry
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    pieces = [piece for group in in_float for piece in GROUPS[group]]
    left_out = nncf.IgnoredScope(
        types=list(FLOAT_TYPES), patterns=[f".*{piece.replace('.', '[.]')}.*" for piece in pieces], validate=False
    )
    model = _read(graph)
    with quiet("nncf", "root"):
        found = nncf.quantize(
            model,
            nncf.Dataset(inputs),
            subset_size=len(inputs),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=left_out,
            advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
        )
    for section in ("nncf", "conversion_parameters"):
        if found.has_rt_info(section):
            found.set_rt_info("", section)
    compact_openvino(found)
    openvino.save_model(found, quantized, compress_to_fp16=False)  # scales of weights are too small for float16
    shorten_xml(quantized)


def quantize_onnx(graph: Path, quantized: Path, inputs: Inputs) -> None:
    """Write the INT8 form of an encoder's ONNX graph, quantized and dequantized around each layer (QDQ)."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            image = next(self._left, None)
            return None if image is None else {"images": image}

    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"  # its weights may lie in a file beside it, where no other folder finds them
        onnx.save(onnx.load(graph), whole)
        folded = Path(folder) / "folded.onnx"  # stored weights rounded or transposed back, as the quantizer wants them
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(str(whole), options, providers=["CPUExecutionProvider"])
        model = onnx.load(folded)
        weights = {tensor.name for tensor in model.graph.initializer}
        layers = [
            node.name for node in model.graph.node if set(node.input[1:2]) & weights
        ]  # no products of activations
        with quiet("nncf", "root"):
            quantize_static(
                folded, quantized, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_quantize=layers,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                # 0.78 of the float graph's time instead of 0.91 (2 cores, VNNI)
                extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
            )  # fmt: skip
    model = onnx.load(quantized)
    compact_onnx(model)
    onnx.save(model, quantized)


def most_sensitive(graph: Path, quantized: Path, inputs: Inputs, known: Sequence[str] = ()) -> str:
    """The group of GROUPS whose quantized activations add most to the embedding's error, besides those `known`.

    Measured by giving one group after the other its activations back and looking at how much nearer the embedding
    comes to the float graph's.
    """
    chosen = inputs[:: max(1, len(inputs) // SENSITIVITY_INPUTS)][:SENSITIVITY_INPUTS]
    expected = _answers(_read(graph), chosen)
    errors = {}
    for group, pieces in GROUPS.items():
        if group not in known:
            model = _read(quantized)
            _give_back(model, pieces)
            pairs = zip(_answers(model, chosen), expected, strict=True)
            errors[group] = float(np.mean([np.mean((own - other) ** 2) for own, other in pairs]))
    return min(errors, key=lambda group: errors[group])


def _read(graph: Path) -> Any:
    model = openvino_core().read_model(graph)
    expand_openvino(model)
    return model


def _answers(model: Any, inputs: Inputs) -> list[npt.NDArray[np.float32]]:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": available_cores()}
    compiled = openvino_core().compile_model(model, "CPU", settings)
    return [compiled(one)[0] for one in inputs]


def _give_back(model: Any, pieces: Sequence[str]) -> None:
    """Remove the rounding of activations whose layer's name holds one of the pieces."""
    for node in model.get_ops():
        if node.get_type_name() == "FakeQuantize" and any(piece in node.get_friendly_name() for piece in pieces):
            node.output(0).replace(node.input_value(0))

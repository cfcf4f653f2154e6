"""One copy of the weights for both engines: the ONNX file refers to the constants in OpenVINO's `.bin`."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

SHARED_MIN_BYTES = 1024  # smaller constants stay inside the ONNX file


def share_weights(onnx_path: Path, weights: Path) -> None:
    """Replace the constants of an ONNX file by references into a `.bin` beside it, where they lie there too.

    Both must come from one conversion (`export.graphs.litemedsam`), which keeps nearly every constant as it is; the
    matrices of linear layers it keeps transposed, which a Transpose undoes when an engine loads the file.
    """
    import onnx
    from onnx.external_data_helper import set_external_data

    stored = weights.read_bytes()
    model = onnx.load(onnx_path)
    for tensor in model.graph.initializer:
        length = len(tensor.raw_data)
        if length < SHARED_MIN_BYTES:
            continue
        place = stored.find(tensor.raw_data)
        if place < 0 and len(tensor.dims) == 2:
            place = stored.find(_transposed(tensor))
            if place >= 0:
                _read_transposed(model, tensor)
        if place >= 0:
            set_external_data(tensor, weights.name, offset=place, length=length)
            tensor.ClearField("raw_data")
    onnx_path.write_bytes(model.SerializeToString(deterministic=True))


def _transposed(tensor: "TensorProto") -> bytes:
    from onnx import numpy_helper

    return np.ascontiguousarray(numpy_helper.to_array(tensor).T).tobytes()


def _read_transposed(model: "ModelProto", tensor: "TensorProto") -> None:
    """Let `tensor` be stored transposed: a node gives it back under its own name."""
    from onnx import helper

    name, stored_dims = tensor.name, list(tensor.dims)[::-1]
    tensor.name = f"{name}.transposed"
    del tensor.dims[:]
    tensor.dims.extend(stored_dims)
    model.graph.node.insert(0, helper.make_node("Transpose", [tensor.name], [name], perm=[1, 0]))

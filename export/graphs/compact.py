"""Large constants that follow from small ones, stored as those: engines compute them once, when they load a graph.

- An attention bias (..., T, T) holds one number per head and absolute offset: the first row, gathered by offset.
- The positional encoding (1, h, w, 2 c), or (1, h w, 2 c), of cells is sin and cos of x f + y g: the angles of the
  first row and the first column add up, so that with e = cos + i sin, e(y, x) = e(y, 0) e(0, x) / e(0, 0).

Together 4.4 of 23.9 MB with weights in float16.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import ModelProto

MIN_BYTES = 65536
MAX_SIDE = 16  # whose offsets a byte holds
UNNAMED = ("Const", "Convert", "Reshape", "Transpose", "Concat", "Gather")
TOLERANCE = 1e-5  # of sines

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class OffsetTable:
    """(..., T, T) = table (..., T) gathered on its last axis by index (T, T)."""

    table: Floats
    index: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AngleSums:
    """Sines then cosines, (1, h w, 2 c), of sums of angles: of rows (h, 1, c) and of columns (1, w, c)."""

    row_sine: Floats
    row_cosine: Floats
    column_sine: Floats
    column_cosine: Floats


def offset_table(constant: npt.NDArray) -> OffsetTable | None:
    """The table a constant was gathered from; None where it was not."""
    if constant.ndim < 3 or constant.nbytes < MIN_BYTES or constant.shape[-1] != constant.shape[-2]:
        return None
    side = round(constant.shape[-1] ** 0.5)
    if side * side != constant.shape[-1] or side > MAX_SIDE:
        return None
    rows, columns = np.divmod(np.arange(side * side), side)
    index = abs(rows[:, None] - rows) * side + abs(columns[:, None] - columns)
    table = np.ascontiguousarray(constant[..., 0, :])
    return OffsetTable(table, index.astype(np.uint8)) if np.array_equal(table[..., index], constant) else None


def angle_sums(constant: npt.NDArray) -> AngleSums | None:
    """The angles a constant was made of; None where it was not."""
    if constant.ndim not in (3, 4) or len(constant) != 1 or constant.nbytes < MIN_BYTES or constant.shape[-1] % 2:
        return None
    count, width = constant[0, ..., 0].size, constant.shape[-1] // 2
    side = round(count**0.5)
    if side * side != count or constant.shape[1] not in (side, count):
        return None
    cells = constant[0].reshape(side, side, 2 * width).astype(np.float64)
    whole = cells[..., width:] + 1j * cells[..., :width]
    rows, columns = whole[:, :1], whole[:1] * whole[:1, :1].conj()
    if not np.allclose(rows * columns, whole, rtol=0, atol=TOLERANCE):
        return None
    return AngleSums(
        *(np.ascontiguousarray(part, np.float32) for part in (rows.imag, rows.real, columns.imag, columns.real))
    )


def compact_openvino(model: Any) -> None:
    """Replace such constants of an OpenVINO model, in place."""
    from openvino import opset13 as ops

    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().to_string() != "f32":
            continue
        if (offsets := offset_table(node.data)) is not None:
            index = ops.convert(ops.constant(offsets.index), "i32")
            new = ops.gather(ops.constant(offsets.table), index, offsets.table.ndim - 1)
        elif (angles := angle_sums(node.data)) is not None:
            row_sine, row_cosine, column_sine, column_cosine = (ops.constant(part) for part in vars(angles).values())
            sine = ops.add(ops.multiply(row_sine, column_cosine), ops.multiply(row_cosine, column_sine))
            cosine = ops.subtract(ops.multiply(row_cosine, column_cosine), ops.multiply(row_sine, column_sine))
            new = ops.reshape(ops.concat([sine, cosine], 2), list(node.data.shape), False)
        else:
            continue
        node.output(0).replace(new.output(0))


def expand_openvino(model: Any) -> None:
    """Undo `compact_openvino` for attention biases, in place: NNCF takes gathered tables for embeddings and fails."""
    from openvino import opset13 as ops

    for node in model.get_ops():
        if node.get_type_name() != "Gather":
            continue
        table, index = (node.input_value(place).get_node() for place in (0, 1))
        while table.get_type_name() == "Convert":  # of a table stored in float16
            table = table.input_value(0).get_node()
        while index.get_type_name() == "Convert":
            index = index.input_value(0).get_node()
        if {table.get_type_name(), index.get_type_name()} == {"Constant"} and index.data.ndim == 2:
            whole = table.data.astype(np.float32)[..., index.data]
            node.output(0).replace(ops.constant(np.ascontiguousarray(whole)).output(0))


def compact_onnx(model: "ModelProto") -> None:
    """Replace such constants of an ONNX model, in place."""
    from onnx import TensorProto, helper, numpy_helper

    for tensor in list(model.graph.initializer):
        constant, name = numpy_helper.to_array(tensor), tensor.name
        if constant.dtype != np.float32:
            continue
        if (offsets := offset_table(constant)) is not None:
            parts: dict[str, npt.NDArray] = {"table": offsets.table, "index": offsets.index}
            nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
                ("Cast", ["index"], "offset", {"to": TensorProto.INT32}),
                ("Gather", ["table", "offset"], "", {"axis": offsets.table.ndim - 1}),
            ]
        elif (angles := angle_sums(constant)) is not None:
            parts = {**vars(angles), "shape": np.array(constant.shape, np.int64)}
            nodes = [
                ("Mul", ["row_sine", "column_cosine"], "sine.0", {}),
                ("Mul", ["row_cosine", "column_sine"], "sine.1", {}),
                ("Add", ["sine.0", "sine.1"], "sine", {}),
                ("Mul", ["row_cosine", "column_cosine"], "cosine.0", {}),
                ("Mul", ["row_sine", "column_sine"], "cosine.1", {}),
                ("Sub", ["cosine.0", "cosine.1"], "cosine", {}),
                ("Concat", ["sine", "cosine"], "grid", {"axis": 2}),
                ("Reshape", ["grid", "shape"], "", {}),
            ]
        else:
            continue
        model.graph.initializer.remove(tensor)
        model.graph.initializer.extend(
            numpy_helper.from_array(value, f"{name}.{part}") for part, value in parts.items()
        )
        made = [
            helper.make_node(
                kind, [f"{name}.{part}" for part in inputs], [f"{name}.{output}" if output else name], **more
            )
            for kind, inputs, output, more in nodes
        ]
        for position, node in enumerate(made):
            model.graph.node.insert(position, node)


def shorten_xml(path: Path) -> None:
    """Rewrite an OpenVINO graph without what a reader works out by itself: layout, shapes and types between nodes.

    Names of what computes nothing go too, and of what passes between nodes; those of inputs and answers stay. Nearly
    half: 0.9 of 2.1 MB for the three graphs of a model with INT8.
    """
    tree = ElementTree.parse(path)
    kinds = {layer.get("id"): layer.get("type") for layer in tree.iter("layer")}
    answers = {edge.get("from-layer") for edge in tree.iter("edge") if kinds[edge.get("to-layer")] == "Result"}
    for element in tree.iter():
        element.text = element.tail = None
        if element.tag != "layer":
            continue
        name = element.attrib["name"].removeprefix("__module.").removeprefix("encoder.")
        element.set("name", f"n{element.get('id')}" if element.get("type") in UNNAMED else name)
        for port in element.iterfind("*/port"):
            port[:] = [child for child in port if child.tag != "dim"]
            if element.get("type") != "Parameter" and element.get("id") not in answers:
                port.attrib.pop("names", None)
        for port in element.iterfind("input/port"):
            port.attrib.pop("precision", None)  # its source's
    path.write_bytes(ElementTree.tostring(tree.getroot(), "utf-8", xml_declaration=True).replace(b" />", b"/>"))

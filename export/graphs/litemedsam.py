"""The two inference graphs of LiteMedSAM, as ONNX and as OpenVINO."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edge.engines.model_folder import STAGES
from edge.engines.openvino_import import import_openvino
from export.graphs.compact import compact_onnx, compact_openvino, shorten_xml
from export.graphs.decoder import InferenceDecoder
from export.graphs.encoder import InferenceEncoder
from export.quiet import quiet
from train.networks.litemedsam import FRAME_PX, LiteMedSAM
from train.networks.tiny_vit import EMBEDDING_WIDTH, STRIDE

if TYPE_CHECKING:
    from onnx import ModelProto

_EMBEDDING = torch.zeros(1, EMBEDDING_WIDTH, FRAME_PX // STRIDE, FRAME_PX // STRIDE)
_CELLS = torch.arange(5, dtype=torch.int32)  # to trace with
FREE = {  # of OpenVINO's graphs; sides are fixed before compiling
    "images": [1, 3, -1, -1],
    "embedding": [-1, EMBEDDING_WIDTH, -1, -1],
    "boxes": [-1, 4],
    "cells": [-1],
}
EXPORTERS = ("torch.onnx", "onnxscript")  # loggers that tell of operators which are not used
HALF_MIN_VALUES = 256  # smaller constants (biases, scales) stay float32: they cost nothing


def example_inputs() -> tuple[Tensor, Tensor]:
    """Two images (2, 3, 256, 256) and three boxes (3, 4), the same each time; traced with, and compared on."""
    rng = np.random.default_rng(2024)
    images = torch.from_numpy(rng.random((2, 3, FRAME_PX, FRAME_PX), dtype=np.float32))
    return images, torch.tensor([[20.0, 30.0, 120.0, 150.0], [100.0, 8.5, 250.25, 90.0], [5.0, 200.0, 40.0, 240.0]])


def example_views(size: int) -> tuple[Tensor, Tensor]:
    """Three views (3, 3, size, size) of an example image, and a box (3, 4) in each."""
    image, last = example_inputs()[0][0], FRAME_PX - size
    views = torch.stack([image[:, at : at + size, at : at + size] for at in (0, last // 2, last)])
    shares = torch.tensor([[0.1, 0.15, 0.9, 0.7], [0.0, 0.0, 1.0, 1.0], [0.37, 0.05, 0.54, 0.93]])
    return views, (shares * (size - 1)).round(decimals=2)


def write_onnx(network: LiteMedSAM, folder: Path, *, half_weights: bool, sizes: Sequence[int] = ()) -> dict[str, Path]:
    """Write `encoder.onnx` and `decoder.onnx`, batch and number of boxes free; returns stage -> path.

    Args:
        sizes: of views; also `view56_encoder.onnx`, `view56_decoder.onnx` and so on, each box with its own view.
    """
    images, boxes = example_inputs()
    encoder, decoder = InferenceEncoder(network.image_encoder), InferenceDecoder(network)
    free = {0: torch.export.Dim.DYNAMIC}
    paths = _write_pair(folder, "", encoder, decoder, (images, _EMBEDDING, boxes), ({}, free), half_weights)
    for size in sizes:
        views, boxes = example_views(size)
        embeddings = torch.zeros(len(views), EMBEDDING_WIDTH, size // STRIDE, size // STRIDE)
        example = (views, embeddings, boxes)
        paths |= _write_pair(folder, f"view{size}_", encoder, decoder, example, (free, free), half_weights)
    return paths


def _write_pair(
    folder: Path,
    prefix: str,
    encoder: InferenceEncoder,
    decoder: InferenceDecoder,
    example: tuple[Tensor, Tensor, Tensor],
    free: tuple[dict[int, Any], dict[int, Any]],
    half_weights: bool,
) -> dict[str, Path]:
    """Both stages as ONNX. Args: example: images, embeddings, boxes; free: dimensions of embeddings and of boxes."""
    images, embeddings, boxes = example
    paths = {f"{prefix}{stage}": folder / f"{prefix}{stage}.onnx" for stage in STAGES}
    with quiet(*EXPORTERS):
        torch.onnx.export(
            encoder, (images,), str(paths[f"{prefix}encoder"]), dynamo=True, external_data=False,
            input_names=["images"], output_names=["embedding"], dynamic_shapes=(free[1],),
        )  # fmt: skip
        torch.onnx.export(
            decoder, (embeddings, boxes, _CELLS), str(paths[f"{prefix}decoder"]), dynamo=True, external_data=False,
            input_names=["embedding", "boxes", "cells"], output_names=["logits"], dynamic_shapes=(*free, free[1]),
        )  # fmt: skip
    for path in paths.values():
        tidy(path, half_weights)
    return paths


def write_openvino(network: LiteMedSAM, folder: Path, *, half_weights: bool) -> dict[str, Path]:
    """Write `encoder` and `decoder` as `.xml` and `.bin`, for frames and views of any size; returns stage -> `.xml`.

    Converted from torch directly: ONNX has no operator for attention, which OpenVINO fuses best when it sees it whole.
    """
    openvino = import_openvino()
    images, boxes = example_inputs()
    prompts = {"embedding": _EMBEDDING, "boxes": boxes, "cells": _CELLS}
    stages = {
        "encoder": (InferenceEncoder(network.image_encoder), {"images": images}, "embedding"),
        "decoder": (InferenceDecoder(network), prompts, "logits"),
    }
    paths = {}
    for stage, (module, example, answer) in stages.items():
        shapes = [(name, FREE[name]) for name in example]
        with quiet(*EXPORTERS):
            model = openvino.convert_model(module, example_input=example, input=shapes)
        model.outputs[0].set_names({answer})
        compact_openvino(model)
        paths[stage] = folder / f"{stage}.xml"
        openvino.save_model(model, paths[stage], compress_to_fp16=half_weights)
        shorten_xml(paths[stage])
    return paths


def tidy(path: Path, half_weights: bool) -> None:
    """Drop the exporter's notes (they name files of this machine); store large weights as float16 if asked.

    What the exporter numbers or orders anew each time is settled, so that a checkpoint always gives the same bytes.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    del graph.value_info[:]  # shapes on the way, which engines infer
    for entry in [model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer]:
        entry.doc_string = ""
        del entry.metadata_props[:]
    for port in [*graph.input, *graph.output]:
        for dimension in port.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = "count"  # of images, or of boxes
    compact_onnx(model)
    graph.initializer.sort(key=lambda tensor: tensor.name)
    if half_weights:
        _halve(model)
    onnx.save(model, path)


def _halve(model: "ModelProto") -> None:
    """Large float32 constants become float16 followed by a cast, which engines undo once, when they load."""
    from onnx import TensorProto, helper, numpy_helper

    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < HALF_MIN_VALUES:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.f16")
        tensor.CopyFrom(half)
        model.graph.node.insert(0, helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT))

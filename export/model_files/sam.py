"""A trained SAM network to a model folder: merged, at its own input size, with its normalisation."""

from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge.data.files import file_hash
from edge.engines.model_folder import ModelDescription, write_description
from edge.engines.runtime import BACKENDS, load_engine
from edge.errors import ModelError, RunError, in_one_line
from export.checks.parity import Parity, compare
from export.graphs.sam import DecoderGraph, example_inputs, write_onnx, write_openvino
from export.model_files.options import ExportOptions
from train.networks.adapter import WEIGHTS, load_merged, read_adapter
from train.networks.tiny_vit import EMBEDDING_WIDTH
from train.sam_systems.map_task import EDGE_NORMALISATIONS
from train.sam_systems.network import PATCH_PX, Sam, SamOptions, build_sam

PROMPTS = {"none": "none", "box": "box", "hybrid": "box"}  # a recipe's -> what the exported model asks for


def is_sam_adapter(adapter: Path) -> bool:
    """Whether an adapter folder belongs to a SAM network.

    Raises:
        ModelError: not an adapter folder.
    """
    return read_adapter(adapter)[0].get("made_for", {}).get("network", "litemedsam") != "litemedsam"


def merged_sam(base: Path, adapter: Path) -> tuple[Sam, dict[str, Any]]:
    """The merged network in evaluation mode, and what its adapter says of it.

    Raises:
        ModelError: either cannot be read, or they do not belong together.
    """
    facts = read_adapter(adapter)[0]["made_for"]
    options = SamOptions(facts["image_size"], facts["encoder_blocks"], facts["channels"], facts["head"])
    with torch.device("meta"):
        network = build_sam(facts["network"], options)
    try:
        network.load_state_dict(load_merged(base, adapter), assign=True)
    except RuntimeError as error:
        raise ModelError(f"{adapter}: does not fit {base} ({in_one_line(error)})") from None
    _fill_buffers(network)
    return network.eval(), facts


def fill_sam(folder: Path, checkpoint: Path, options: ExportOptions, progress: Callable[[str], None]) -> list[Parity]:
    """Write graphs and description into an empty folder; returns the parity with torch, per backend.

    Args: options: with an adapter.

    Raises:
        ModelError: the adapter does not fit, or asks for what no model folder has.
    """
    adapter = options.adapter or Path()
    network, made_for = merged_sam(checkpoint, adapter)
    if made_for["channels"] > 2 or made_for["prompt"] not in PROMPTS:
        wanted = f"{made_for['channels']} channels and prompt {made_for['prompt']}"
        raise ModelError(f"{adapter}: a model folder has up to 2 channels and prompt box or none, got {wanted}")
    prompt, size = PROMPTS[made_for["prompt"]], made_for["image_size"]
    progress("ONNX graphs")
    graphs = write_onnx(network, prompt, folder)
    progress("OpenVINO graphs")
    openvino_graphs = {stage: write_openvino(folder / files[0], options.half) for stage, files in graphs.items()}
    description = ModelDescription(
        name=options.name_for(checkpoint),
        input_size=size,
        embedding_shape=(EMBEDDING_WIDTH, size // PATCH_PX, size // PATCH_PX),
        graphs={"openvino": openvino_graphs, "onnxruntime": graphs},
        sha256={path.name: file_hash(path) for path in sorted(folder.iterdir())},
        normalisation=EDGE_NORMALISATIONS.get(made_for["normalisation"], made_for["normalisation"]),
        prompt=prompt,
        weights=options.weights,
        made_from={
            "network": made_for["network"],
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": file_hash(checkpoint),
            "adapter_sha256": file_hash(adapter / WEIGHTS),
            "versions": {name: metadata.version(name) for name in ("samedge", "torch", "onnx", "openvino")},
        },
        licence=options.licence,
        training_data=options.training_data,
    )
    write_description(folder, description)
    progress("parity with torch")
    parity = _parity(network, prompt, folder)
    write_description(folder, replace(description, parity=[asdict(row) for row in parity]))
    return parity


def _parity(network: Sam, prompt: str, folder: Path) -> list[Parity]:
    images, boxes = example_inputs(network.options.image_px)
    with torch.no_grad():
        embedding = network.encode(images)
        logits = DecoderGraph(network, prompt)(embedding, boxes)
    arrays = (images.numpy(), boxes.numpy(), embedding.numpy(), logits.numpy())
    return [compare(f"{backend} f32", load_engine(folder, backend=backend), *arrays) for backend in BACKENDS]


def _fill_buffers(network: nn.Module) -> None:
    """TinyViT's tables of offsets, which no checkpoint holds: made anew where the meta device left them empty."""
    from train.networks.tiny_vit import Attention, offset_index

    for module in network.modules():
        if isinstance(module, Attention):
            module.bias_index = offset_index(int(module.attention_biases.shape[1] ** 0.5))
    if any(tensor.is_meta for tensor in [*network.parameters(), *network.buffers()]):
        raise RunError("the merged network is not complete; report this")

"""A trained SAM network to a model folder: merged, at its own input size, with its normalisation, boxed or prompt-free.

The graphs have the ports of every other model's, so that `edge` runs them as it runs those: answers are brought to the
input's size, two channels to their difference, and a prompt-free decoder takes boxes and answers them all alike.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.engines.model_folder import ModelDescription, file_hash, write_description
from edge.engines.runtime import BACKENDS, load_engine
from edge.errors import ModelError, RunError
from export.parity import Parity, compare
from train.networks.lora import WEIGHTS, load_merged, read_adapter
from train.networks.sam import PATCH_PX, Sam, SamOptions, build_sam
from train.networks.sam_modeling import decode_tokens
from train.networks.tiny_vit import EMBEDDING_WIDTH
from train.tasks.maps import EDGE_NORMALISATIONS

LARGEST_SINGLE_FILE = 2**31  # bytes of weights; a protobuf cannot hold more
PROMPTS = {"none": "none", "box": "box", "hybrid": "box"}  # a recipe's -> what the exported model asks for


class EncoderGraph(nn.Module):
    """Images (B, 3, S, S) to embeddings (B, 256, S / 16, S / 16)."""

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.encode(images)


class DecoderGraph(nn.Module):
    """Logits (N, S, S) for boxes (N, 4) in the model frame on an embedding (1, 256, S / 16, S / 16)."""

    def __init__(self, network: Sam, prompt: str) -> None:
        super().__init__()
        self.network, self._prompt = network, prompt

    def forward(self, embedding: Tensor, boxes: Tensor) -> Tensor:
        size = self.network.options.image_px
        logits = self._answer(embedding, boxes)
        margin = logits[:, :1] if logits.shape[1] == 1 else logits[:, 1:2] - logits[:, :1]
        margin = F.interpolate(margin, size=(size, size), mode="bilinear", align_corners=False)[:, 0]
        return margin if self._prompt == "box" else margin + 0 * boxes[:, :1, None]

    def _answer(self, embedding: Tensor, boxes: Tensor) -> Tensor:
        network = self.network
        if network.options.head == "conv":
            return network.semantic_head(embedding)
        prompts = network.prompt_encoder
        sparse = prompts._embed_boxes(boxes) if self._prompt == "box" else embedding.new_zeros(1, 0, EMBEDDING_WIDTH)
        dense = prompts.no_mask_embed.weight[..., None, None]
        cells = (embedding + dense).expand(sparse.shape[0], -1, -1, -1)
        masks = (0,) if network.options.channels == 1 else (1, 2)
        return decode_tokens(network.mask_decoder, cells, prompts.get_dense_pe(), sparse, masks)[0]


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
        raise ModelError(f"{adapter}: does not fit {base} ({str(error).splitlines()[0]})") from None
    _fill_buffers(network)
    return network.eval(), facts


def fill_sam(
    folder: Path,
    checkpoint: Path,
    adapter: Path,
    *,
    name: str,
    half: bool,
    licence: str,
    training_data: str,
    progress: Callable[[str], None],
) -> list[Parity]:
    """Write graphs and description into an empty folder; returns the parity with torch, per backend.

    Args:
        half: store OpenVINO's weights as float16.
        licence, training_data: to state in the description.

    Raises:
        ModelError: the adapter does not fit, or asks for what no model folder has.
    """
    network, made_for = merged_sam(checkpoint, adapter)
    if made_for["channels"] > 2 or made_for["prompt"] not in PROMPTS:
        wanted = f"{made_for['channels']} channels and prompt {made_for['prompt']}"
        raise ModelError(f"{adapter}: a model folder has up to 2 channels and prompt box or none, got {wanted}")
    prompt, size = PROMPTS[made_for["prompt"]], made_for["image_size"]
    progress("ONNX graphs")
    graphs = _write_onnx(network, prompt, folder)
    progress("OpenVINO graphs")
    openvino_graphs = {stage: _write_openvino(folder / files[0], half) for stage, files in graphs.items()}
    description = ModelDescription(
        name=name,
        input_size=size,
        embedding_shape=(EMBEDDING_WIDTH, size // PATCH_PX, size // PATCH_PX),
        graphs={"openvino": openvino_graphs, "onnxruntime": graphs},
        sha256={path.name: file_hash(path) for path in sorted(folder.iterdir())},
        normalisation=EDGE_NORMALISATIONS.get(made_for["normalisation"], made_for["normalisation"]),
        prompt=prompt,
        weights="f16" if half else "f32",
        made_from={
            "network": made_for["network"],
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": file_hash(checkpoint),
            "adapter_sha256": file_hash(adapter / WEIGHTS),
            "versions": {name: metadata.version(name) for name in ("samedge", "torch", "onnx", "openvino")},
        },
        licence=licence,
        training_data=training_data,
    )
    write_description(folder, description)
    progress("parity with torch")
    parity = _parity(network, prompt, folder)
    write_description(folder, replace(description, parity=[asdict(row) for row in parity]))
    return parity


def _examples(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2024)
    images = torch.randn(1, 3, size, size, generator=generator)
    return images, torch.tensor([[0.1, 0.2, 0.6, 0.7], [0.4, 0.05, 0.95, 0.5]]) * size


def _write_onnx(network: Sam, prompt: str, folder: Path) -> dict[str, list[str]]:
    images, boxes = _examples(network.options.image_px)
    with torch.no_grad():
        embedding = network.encode(images)
    free = torch.export.Dim.DYNAMIC
    stages: dict[str, tuple[nn.Module, tuple[Tensor, ...], list[str], str, Any]] = {
        "encoder": (EncoderGraph(network), (images,), ["images"], "embedding", None),
        "decoder": (
            DecoderGraph(network, prompt), (embedding, boxes), ["embedding", "boxes"], "logits", ({}, {0: free}),
        ),
    }  # fmt: skip
    files = {}
    for stage, (module, example, names, answer, shapes) in stages.items():
        weights = sum(p.numel() * p.element_size() for p in module.parameters())
        path = folder / f"{stage}.onnx"
        with _quiet():
            torch.onnx.export(
                module.eval(), example, str(path), dynamo=True, external_data=weights >= LARGEST_SINGLE_FILE,
                input_names=names, output_names=[answer], dynamic_shapes=shapes,
            )  # fmt: skip
        files[stage] = [path.name, *(part.name for part in folder.glob(f"{path.name}.data"))]
    return files


def _write_openvino(onnx_path: Path, half: bool) -> list[str]:
    import openvino

    path = onnx_path.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(onnx_path), path, compress_to_fp16=half)
    return [path.name, path.with_suffix(".bin").name]


def _parity(network: Sam, prompt: str, folder: Path) -> list[Parity]:
    images, boxes = _examples(network.options.image_px)
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress, and warns of torchvision operators that are not used."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)

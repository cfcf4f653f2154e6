"""The two inference graphs of a SAM network, as ONNX and as OpenVINO.

They have the ports of every other model's, so that `edge` runs them as it runs those: answers are brought to the
input's size, two channels to their difference, and a prompt-free decoder takes boxes and answers them all alike.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.engines.openvino_import import import_openvino
from export.quiet import quiet
from train.networks.sam_modeling import decode_tokens
from train.networks.tiny_vit import EMBEDDING_WIDTH
from train.sam_systems.network import Sam

LARGEST_SINGLE_FILE = 2**31  # bytes of weights; a protobuf cannot hold more


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


def example_inputs(size: int) -> tuple[Tensor, Tensor]:
    """An image (1, 3, size, size) and two boxes (2, 4), the same each time; traced with, and compared on."""
    generator = torch.Generator().manual_seed(2024)
    images = torch.randn(1, 3, size, size, generator=generator)
    return images, torch.tensor([[0.1, 0.2, 0.6, 0.7], [0.4, 0.05, 0.95, 0.5]]) * size


def write_onnx(network: Sam, prompt: str, folder: Path) -> dict[str, list[str]]:
    """Write `encoder.onnx` and `decoder.onnx`; returns stage -> file names."""
    images, boxes = example_inputs(network.options.image_px)
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
        with quiet("torch.onnx"):
            torch.onnx.export(
                module.eval(), example, str(path), dynamo=True, external_data=weights >= LARGEST_SINGLE_FILE,
                input_names=names, output_names=[answer], dynamic_shapes=shapes,
            )  # fmt: skip
        files[stage] = [path.name, *(part.name for part in folder.glob(f"{path.name}.data"))]
    return files


def write_openvino(onnx_path: Path, half: bool) -> list[str]:
    """Write an ONNX file's graph as `.xml` and `.bin` beside it; returns their names. Args: half: f16 weights."""
    openvino = import_openvino()
    path = onnx_path.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(onnx_path), path, compress_to_fp16=half)
    return [path.name, path.with_suffix(".bin").name]

"""LiteMedSAM with the ports of SAM's own ONNX files, for tools that were written for those; whole frames alone.

Names and shapes of the decoder are those of segment-anything's `export_onnx_model.py`, of the encoder those of
exporters that put the resizing into the graph: an image (H, W, 3) as it is. Frames and masks keep one size on the way,
so that resizing is a product with a matrix of weights: of area averages in, of bilinear samples out.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.graphs.encoder import InferenceEncoder
from export.graphs.litemedsam import EXPORTERS, example_inputs, tidy
from export.quiet import quiet
from train.networks.litemedsam import FRAME_PX, LiteMedSAM
from train.networks.sam_modeling import decode_tokens
from train.networks.tiny_vit import EMBEDDING_WIDTH, STRIDE

ENCODER_PORTS = (["input_image"], ["image_embeddings"])
DECODER_PORTS = (
    ["image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"],
    ["masks", "iou_predictions", "low_res_masks"],
)
FREE_SIDES = {  # of ports; the others are fixed
    "input_image": ("image_height", "image_width"),
    "point_coords": ("", "num_points"),
    "point_labels": ("", "num_points"),
    "masks": ("", "", "height", "width"),
}
LABELS = 4  # of a point: 0 outside, 1 inside, 2 top left of a box, 3 bottom right; -1 is padding


class SignatureEncoder(nn.Module):
    """An image (H, W, 3), 0 to 255, to embeddings (1, 256, 64, 64)."""

    def __init__(self, network: LiteMedSAM) -> None:
        super().__init__()
        self.encoder = InferenceEncoder(network.image_encoder)

    def forward(self, image: Tensor) -> Tensor:
        return self.encoder(frame(image)[None])


def frame(image: Tensor) -> Tensor:
    """Network input (3, 256, 256) of an image (H, W, 3), float32, 0 to 255: `edge.views.prepare.prepare` in a graph.

    OpenCV's rounding of averages and its 11-bit weights where an image is enlarged may differ by 1 of 255.
    """
    image_rows, image_columns = _indices(image.shape[0]), _indices(image.shape[1])
    scale = FRAME_PX / torch.maximum(_length(image_rows), _length(image_columns))
    rows, columns = _area_weights(image_rows, scale), _area_weights(image_columns, scale)
    shown = rows.float() @ image.permute(2, 0, 1) @ columns.float().T
    halved = scale == 0.5  # where OpenCV rounds halves up; elsewhere to even
    shown = torch.where(halved, torch.floor(shown + 0.5), torch.round(shown))
    inside = (rows.sum(1, keepdim=True) * columns.sum(1)) > 0
    low = torch.where(inside, shown, torch.inf).min()
    high = torch.where(inside, shown, -torch.inf).max()
    return torch.where(inside, (shown - low) / (high - low).clamp(min=1), 0.0)


class SignatureDecoder(nn.Module):
    """Points and box corners on an embedding to the single mask, at the image's own size: SAM's `SamOnnxModel`."""

    def __init__(self, network: LiteMedSAM, point_frame_px: int) -> None:
        super().__init__()
        self.mask_decoder, self.prompt_encoder = network.mask_decoder, network.prompt_encoder
        self.point_scale = FRAME_PX / point_frame_px

    def forward(
        self, embeddings: Tensor, points: Tensor, labels: Tensor, mask: Tensor, has_mask: Tensor, image_size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masks (1, 1, H, W), predicted IoU (1, 1) and masks in the frame (1, 1, 256, 256), positive inside.

        Args:
            embeddings: (1, 256, 64, 64).
            points: (1, N, 2) x, y in a frame of `point_frame_px`.
            labels: (1, N), see LABELS.
            mask: (1, 1, 256, 256) logits of an earlier answer; counts where `has_mask` (1,) is 1.
            image_size: (2,) H, W.
        """
        prompts = self.prompt_encoder
        dense = has_mask * prompts.mask_downscaling(mask)
        dense = dense + (1 - has_mask) * prompts.no_mask_embed.weight[..., None, None]
        position, sparse = prompts.get_dense_pe(), self._embed_points(points * self.point_scale, labels)
        low, iou = decode_tokens(self.mask_decoder, embeddings + dense, position, sparse, (0,))
        scale = FRAME_PX / image_size.double().max()
        rows, columns = (_samples(_indices(length), scale) for length in image_size.long().unbind())
        return rows @ low @ columns.T, iou, low

    def _embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        prompts = self.prompt_encoder
        places = prompts.pe_layer._pe_encoding((points + 0.5) / FRAME_PX)  # (1, N, C)
        labels = labels[..., None]
        places = places * (labels != -1) + prompts.not_a_point_embed.weight * (labels == -1)
        for label in range(LABELS):
            places = places + prompts.point_embeddings[label].weight * (labels == label)
        return places


def _indices(length: Any) -> Tensor:
    """0 to length - 1; in float64, as all that decides on whole pixels."""
    return torch.arange(length, dtype=torch.float64)


def _length(image_px: Tensor) -> Tensor:
    return image_px[-1] + 1


def _inner(length: Tensor, scale: Tensor) -> Tensor:
    """Pixels of the frame that hold image, see `edge.views.view.View`."""
    return torch.floor(length * scale + 0.5).clamp(min=1)


def _area_weights(image_px: Tensor, scale: Tensor) -> Tensor:
    """(256, n): how much of each pixel of the frame the image's (n,) cover each; none of the padding."""
    inner = _inner(_length(image_px), scale)
    frame_px, step = _indices(FRAME_PX)[:, None], _length(image_px) / inner
    covered = torch.minimum((frame_px + 1) * step, image_px + 1) - torch.maximum(frame_px * step, image_px)
    return covered.clamp(min=0) / step * (frame_px < inner)


def _samples(image_px: Tensor, scale: Tensor) -> Tensor:
    """(n, 256): how much each pixel of the frame counts for the image's (n,), between those that hold image."""
    length = _length(image_px)
    inner = _inner(length, scale)
    place = ((image_px + 0.5) * (inner / length) - 0.5).clamp(min=0)
    place = torch.minimum(place, inner - 1)[:, None]
    return (1 - (place - _indices(FRAME_PX)).abs()).clamp(min=0).float()


def write_signature(
    network: LiteMedSAM, folder: Path, *, point_frame_px: int, half_weights: bool, facts: dict[str, str]
) -> dict[str, Path]:
    """Write `encoder.onnx` and `decoder.onnx`, each with its weights inside; returns stage -> path.

    Args:
        point_frame_px: side of the frame that points are given in: 256, or 1024 as SAM's own.
        facts: to state in both files' metadata.
    """
    free = torch.export.Dim.DYNAMIC
    image, *prompts = example(point_frame_px)
    embeddings = torch.zeros(1, EMBEDDING_WIDTH, FRAME_PX // STRIDE, FRAME_PX // STRIDE)
    stages: dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[list[str], list[str]], Any]] = {
        "encoder": (SignatureEncoder(network), (image,), ENCODER_PORTS, ({0: free, 1: free},)),
        "decoder": (
            SignatureDecoder(network, point_frame_px), (embeddings, *prompts), DECODER_PORTS,
            ({}, {1: free}, {1: free}, {}, {}, {}),
        ),
    }  # fmt: skip
    paths = {stage: folder / f"{stage}.onnx" for stage in stages}
    for stage, (module, inputs, (names, answers), shapes) in stages.items():
        with quiet(*EXPORTERS):
            torch.onnx.export(
                module.eval(), inputs, str(paths[stage]), dynamo=True, external_data=False,
                input_names=names, output_names=answers, dynamic_shapes=shapes,
            )  # fmt: skip
        tidy(paths[stage], half_weights)
        _describe(paths[stage], facts)
    return paths


def _describe(path: Path, facts: dict[str, str]) -> None:
    """Free sides by the names that SAM's exporters give them; facts as metadata."""
    import onnx

    model = onnx.load(path)
    for port in [*model.graph.input, *model.graph.output]:
        for dimension, name in zip(port.type.tensor_type.shape.dim, FREE_SIDES.get(port.name, ()), strict=False):
            if dimension.dim_param:
                dimension.dim_param = name
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, path)


def example(point_frame_px: int) -> tuple[Tensor, ...]:
    """An image (300, 400, 3) and a decoder's other inputs, a box and a point; traced with, and compared on."""
    image = (example_inputs()[0][0].permute(1, 2, 0) * 255).round().repeat(2, 2, 1)[:300, :400]
    points = torch.tensor([[[20.0, 30.0], [120.0, 150.0], [70.0, 90.0]]]) * (point_frame_px / FRAME_PX)
    no_mask = torch.zeros(1, 1, FRAME_PX, FRAME_PX)
    return image, points, torch.tensor([[2.0, 3.0, 1.0]]), no_mask, torch.zeros(1), torch.tensor([300.0, 400.0])

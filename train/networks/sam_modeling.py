"""segment-anything's modules, and how its prompt encoder and mask decoder are put together and called here."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from edge.errors import RunError
from train.networks.convolutions import DoublingConvolution
from train.networks.tiny_vit import EMBEDDING_WIDTH

MULTIMASK_OUTPUTS = 3  # of the public networks, beside the single mask


def sam_modeling() -> ModuleType:
    """`segment_anything.modeling` alone: the package's own `__init__` wants torchvision, for a predictor not used here.

    Raises:
        RunError: segment-anything is not installed.
    """
    name = "train._segment_anything_modeling"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("segment_anything")
    if package is None or package.origin is None:
        raise RunError("segment-anything is not installed; pip install 'samedge[train]'")
    folder = Path(package.origin).parent / "modeling"
    source, places = folder / "__init__.py", [str(folder)]
    spec = importlib.util.spec_from_file_location(name, source, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise RunError(f"segment-anything at {folder} cannot be loaded; install it again")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mask_decoder(multimask_outputs: int = MULTIMASK_OUTPUTS) -> nn.Module:
    """SAM's mask decoder; token 0 is the single mask, tokens 1 and up the `multimask_outputs`."""
    sam = sam_modeling()
    transformer = sam.TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_WIDTH, mlp_dim=2048, num_heads=8)
    decoder = sam.MaskDecoder(
        transformer_dim=EMBEDDING_WIDTH, transformer=transformer, num_multimask_outputs=multimask_outputs
    )
    for layer in decoder.output_upscaling:
        if isinstance(layer, nn.ConvTranspose2d):
            layer.__class__ = DoublingConvolution
    return decoder


def prompt_encoder(frame_px: int, cells: int) -> nn.Module:
    """SAM's prompt encoder for a frame of `frame_px` px and `cells` x `cells` embeddings; its layout shows neither."""
    return sam_modeling().PromptEncoder(EMBEDDING_WIDTH, (cells, cells), (frame_px, frame_px), mask_in_chans=16)


def decode_tokens(
    decoder: Any, cells: Tensor, position: Tensor, prompts: Tensor, masks: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """SAM's mask decoder without its one-image batch: the same modules, the chosen mask tokens alone.

    Args:
        cells: (N, 256, h, w) embedding plus the dense prompt, one per prompt.
        position: (1 or N, 256, h, w) positional encoding of the cells.
        prompts: (N, T, 256) from the prompt encoder; T may be 0.
        masks: which mask tokens; 0 is the single mask.

    Returns:
        Logits (N, K, 4h, 4w) and predicted IoU (N, K) of the K masks.
    """
    count = len(cells)
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output_tokens.expand(count, -1, -1), prompts], dim=1)
    shape = cells.shape
    tokens, cells = decoder.transformer(cells, position.expand_as(cells), tokens)
    upscaled = decoder.output_upscaling(cells.transpose(1, 2).reshape(shape))
    heads = decoder.output_hypernetworks_mlps
    weights = torch.stack([heads[mask](tokens[:, 1 + mask]) for mask in masks], dim=1)  # token 0 is the IoU's
    logits = (weights @ upscaled.flatten(2)).view(count, len(masks), *upscaled.shape[-2:])
    return logits, decoder.iou_prediction_head(tokens[:, 0])[:, list(masks)]

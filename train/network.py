"""LiteMedSAM: TinyViT and SAM's prompt encoder and mask decoder, several boxes per image, whole frames or regions."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from edge.errors import RunError
from train.tiny_vit import EMBEDDING_WIDTH, STRIDE, TinyViT

FRAME_PX = 256
PARAMETERS = 9_791_300  # of the public checkpoint, batch-norm statistics not counted


def _sam_modeling() -> ModuleType:
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


def _mask_decoder() -> nn.Module:
    sam = _sam_modeling()
    transformer = sam.TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_WIDTH, mlp_dim=2048, num_heads=8)
    return sam.MaskDecoder(transformer_dim=EMBEDDING_WIDTH, transformer=transformer)


def _prompt_encoder() -> nn.Module:
    grid = FRAME_PX // STRIDE
    return _sam_modeling().PromptEncoder(EMBEDDING_WIDTH, (grid, grid), (FRAME_PX, FRAME_PX), mask_in_chans=16)


class LiteMedSAM(nn.Module):
    """The public network, in the public layout."""

    mask_decoder: Any  # segment_anything's classes are loaded at run time and carry no types
    prompt_encoder: Any

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = TinyViT()
        self.mask_decoder = _mask_decoder()
        self.prompt_encoder = _prompt_encoder()

    def forward(self, images: Tensor, boxes: Tensor, image_of_box: Tensor, corners: Tensor | None = None) -> Tensor:
        """Low-resolution logits of every box.

        Args:
            images: (B, 3, S, S) in [0, 1]; S is 256, or for regions a multiple of 56.
            boxes: (N, 4) x_min y_min x_max y_max, pixels of the 256 frame, also for regions.
            image_of_box: (N,) index into `images`.
            corners: (B, 2) x, y of each region's upper left corner in the 256 frame, multiples of 4; None: 0, 0.

        Returns:
            (N, S, S): the mask, positive inside.
        """
        return self.decode(self.image_encoder(images), boxes, image_of_box, corners)[0]

    def decode(
        self, embeddings: Tensor, boxes: Tensor, image_of_box: Tensor, corners: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, 4h, 4w) and predicted IoU (N,) of boxes on embeddings (B, 256, h, w); see `forward`."""
        with torch.autocast(embeddings.device.type, enabled=False):  # sines of coordinates need every bit
            prompts, _ = self.prompt_encoder(points=None, boxes=boxes, masks=None)  # (N, 2, 256)
            position = self.position(embeddings.shape[-1], corners)
        if corners is not None:
            position = position[image_of_box]
        return self.decode_prompts(embeddings[image_of_box], prompts, position)

    def decode_prompts(self, embeddings: Tensor, prompts: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """SAM's mask decoder without its one-image batch: the same modules, the single-mask token alone.

        Args:
            embeddings: (N, 256, h, w), one per box.
            prompts: (N, 2, 256) from the prompt encoder.
            position: (1 or N, 256, h, w) positional encoding of the cells.
        """
        decoder = self.mask_decoder
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(prompts.shape[0], -1, -1), prompts], dim=1)
        cells = embeddings + self.prompt_encoder.no_mask_embed.weight[..., None, None]
        tokens, cells = decoder.transformer(cells, position.expand_as(cells), tokens)
        upscaled = decoder.output_upscaling(cells.transpose(1, 2).reshape(embeddings.shape))
        mask_weights = decoder.output_hypernetworks_mlps[0](tokens[:, 1])  # token 0 is the IoU's, 1 the single mask's
        logits = (mask_weights[:, None] @ upscaled.flatten(2)).view(prompts.shape[0], *upscaled.shape[-2:])
        return logits, decoder.iou_prediction_head(tokens[:, 0])[:, 0]

    def position(self, cells: int, corners: Tensor | None) -> Tensor:
        """Positional encoding (1 or B, 256, cells, cells), at each region's place in the 256 frame."""
        whole = self.prompt_encoder.get_dense_pe()
        if corners is None:
            return whole[..., :cells, :cells]
        places = [(int(x) // STRIDE, int(y) // STRIDE) for x, y in corners.tolist()]
        return torch.cat([whole[..., y : y + cells, x : x + cells] for x, y in places])

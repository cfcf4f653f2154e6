"""LiteMedSAM: TinyViT and SAM's prompt encoder and mask decoder, several boxes per image, whole frames or regions."""

from typing import Any

import torch
from torch import Tensor, nn

from train.networks.sam_modeling import decode_tokens, mask_decoder, prompt_encoder
from train.networks.tiny_vit import STRIDE, TinyViT

FRAME_PX = 256
PARAMETERS = 9_791_300  # of the public checkpoint, batch-norm statistics not counted


class LiteMedSAM(nn.Module):
    """The public network, in the public layout."""

    mask_decoder: Any  # segment_anything's classes are loaded at run time and carry no types
    prompt_encoder: Any

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = TinyViT()
        self.mask_decoder = mask_decoder()
        self.prompt_encoder = prompt_encoder(FRAME_PX, FRAME_PX // STRIDE)

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
        """The single mask's logits (N, 4h, 4w) and predicted IoU (N,) of prompts.

        Args:
            embeddings: (N, 256, h, w), one per box.
            prompts: (N, 2, 256) from the prompt encoder.
            position: (1 or N, 256, h, w) positional encoding of the cells.
        """
        cells = embeddings + self.prompt_encoder.no_mask_embed.weight[..., None, None]
        logits, iou = decode_tokens(self.mask_decoder, cells, position, prompts, (0,))
        return logits[:, 0], iou[:, 0]

    def position(self, cells: int, corners: Tensor | None) -> Tensor:
        """Positional encoding (1 or B, 256, cells, cells), at each region's place in the 256 frame."""
        whole = self.prompt_encoder.get_dense_pe()
        if corners is None:
            return whole[..., :cells, :cells]
        places = [(int(x) // STRIDE, int(y) // STRIDE) for x, y in corners.tolist()]
        return torch.cat([whole[..., y : y + cells, x : x + cells] for x, y in places])

"""LiteMedSAM: TinyViT and SAM's prompt encoder and mask decoder, on whole frames or on views."""

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

    def decode(self, embeddings: Tensor, boxes: Tensor, image_of_box: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 256, 256), positive inside, and predicted IoU (N,) of several boxes on each frame.

        Args:
            embeddings: (B, 256, 64, 64) of frames.
            boxes: (N, 4) x_min y_min x_max y_max, pixels of the frame.
            image_of_box: (N,) index into `embeddings`.
        """
        return self.decode_with_iou(embeddings[image_of_box], boxes)

    def decode_views(self, embeddings: Tensor, boxes: Tensor) -> Tensor:
        """Logits (N, s, s), positive inside, of views of s px, each for a box of its own; see `decode_with_iou`."""
        return self.decode_with_iou(embeddings, boxes)[0]

    def decode_with_iou(self, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, s, s) and predicted IoU (N,) of views of s px.

        A view lies in the middle of the 256 frame, whose positions are what the public decoder knows; one of 256 px
        is the frame.

        Args:
            embeddings: (N, 256, s/4, s/4).
            boxes: (N, 4) x_min y_min x_max y_max, pixels of the view.
        """
        cells = embeddings.shape[-1]
        corner = (FRAME_PX // STRIDE - cells) // 2
        with torch.autocast(embeddings.device.type, enabled=False):  # sines of coordinates need every bit
            prompts, _ = self.prompt_encoder(points=None, boxes=boxes + STRIDE * corner, masks=None)  # (N, 2, 256)
            frame = self.prompt_encoder.get_dense_pe()
        position = frame[..., corner : corner + cells, corner : corner + cells]
        image = embeddings + self.prompt_encoder.no_mask_embed.weight[..., None, None]
        logits, iou = decode_tokens(self.mask_decoder, image, position, prompts, (0,))
        return logits[:, 0], iou[:, 0]

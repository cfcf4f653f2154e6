"""SAM with a ViT or MobileSAM's TinyViT for an encoder: public layouts, any input size, prompts of any kind or none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.networks.sam_modeling import MULTIMASK_OUTPUTS, decode_tokens, mask_decoder, prompt_encoder, sam_modeling
from train.networks.tiny_vit import EMBEDDING_WIDTH, TinyViT

PUBLIC_PX = 1024  # what the public checkpoints were trained on; their layouts do not depend on the input's size
PATCH_PX = 16  # input pixels per embedding cell
WINDOW = 14  # cells
MOBILE_CLASSES = 1000  # of the classifier in mobile_sam.pt
SEMANTIC_HEAD = "semantic_head"
BY_TOKEN = (  # tensors of the mask decoder with a row per mask token
    "mask_tokens.weight", "iou_prediction_head.layers.2.weight", "iou_prediction_head.layers.2.bias",
)  # fmt: skip


@dataclass(frozen=True)
class VitShape:
    """A ViT encoder's size."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]  # attend everywhere; the others within windows


VIT_B = VitShape(768, 12, 12, (2, 5, 8, 11))
VIT_H = VitShape(1280, 32, 16, (7, 15, 23, 31))


@dataclass(frozen=True)
class SamOptions:
    """How a network is put together around its public part."""

    image_px: int = PUBLIC_PX  # side of the input, a multiple of PATCH_PX
    blocks: int = 0  # of a ViT; 0: all of them, fewer only for trials
    channels: int = 1  # of the answer: 1 is the single mask (sigmoid), more are the multi-mask outputs (softmax)
    head: str = "decoder"  # or "conv": a 1x1 convolution on the embedding, no prompts


@dataclass(frozen=True)
class Prompts:
    """What asks for N masks; absent kinds are None."""

    image: Tensor  # (N,) index into the images
    points: Tensor | None = None  # (N, P, 2) x, y in input px
    point_labels: Tensor | None = None  # (N, P) 1 inside, 0 outside
    boxes: Tensor | None = None  # (N, 4) x_min y_min x_max y_max in input px


class Sam(nn.Module):
    """SAM in the public layout; with `head="conv"`, a `semantic_head` beside it."""

    mask_decoder: Any  # segment_anything's classes are loaded at run time and carry no types
    prompt_encoder: Any
    image_encoder: Any

    def __init__(self, encoder: nn.Module, options: SamOptions) -> None:
        super().__init__()
        self.options = options
        self.image_encoder = encoder
        self.prompt_encoder = prompt_encoder(options.image_px, options.image_px // PATCH_PX)
        self.mask_decoder = mask_decoder(options.channels if options.channels > 1 else MULTIMASK_OUTPUTS)
        if options.head == "conv":
            self.semantic_head = nn.Conv2d(EMBEDDING_WIDTH, options.channels, 1)

    def forward(self, images: Tensor, prompts: Prompts) -> Tensor:
        """Logits (N, channels, h, w) of normalised images (B, 3, S, S), one answer per prompt.

        h = w = S / 4 from the decoder, S / 16 from the convolution.
        """
        return self.answer(self.encode(images), prompts)

    def encode(self, images: Tensor) -> Tensor:
        """Embeddings (B, 256, S / 16, S / 16)."""
        encoder = self.image_encoder
        if isinstance(encoder, TinyViT):
            return encoder(images)
        cells = encoder.patch_embed(images)  # (B, h, w, width)
        cells = cells + _resized(encoder.pos_embed, cells.shape[1:3])
        for block in encoder.blocks:
            cells = block(cells)
        return encoder.neck(cells.permute(0, 3, 1, 2))

    def answer(self, embeddings: Tensor, prompts: Prompts) -> Tensor:
        """Logits of prompts on embeddings; see `forward`."""
        if self.options.head == "conv":
            return self.semantic_head(embeddings)[prompts.image]
        count = len(prompts.image)
        with torch.autocast(embeddings.device.type, enabled=False):  # sines of coordinates need every bit
            points = None if prompts.points is None else (prompts.points, prompts.point_labels)
            sparse, dense = self.prompt_encoder(points=points, boxes=prompts.boxes, masks=None)
            position = self.prompt_encoder.get_dense_pe()
        masks: Sequence[int] = (0,) if self.options.channels == 1 else range(1, self.options.channels + 1)
        cells = embeddings[prompts.image] + dense
        return decode_tokens(self.mask_decoder, cells, position, sparse.expand(count, -1, -1), masks)[0]


def vit(shape: VitShape, blocks: int) -> nn.Module:
    """segment-anything's ViT encoder in its 1024 px layout, with the first of its blocks, all where `blocks` is 0."""
    return sam_modeling().ImageEncoderViT(
        img_size=PUBLIC_PX,
        patch_size=PATCH_PX,
        embed_dim=shape.width,
        depth=blocks or shape.depth,
        num_heads=shape.heads,
        global_attn_indexes=shape.global_blocks,
        out_chans=EMBEDDING_WIDTH,
        qkv_bias=True,
        norm_layer=_norm,
        use_rel_pos=True,
        window_size=WINDOW,
    )


ENCODERS: dict[str, Callable[[SamOptions], nn.Module]] = {
    "sam-vit-b": lambda options: vit(VIT_B, options.blocks),
    "sam-vit-h": lambda options: vit(VIT_H, options.blocks),
    "mobilesam": lambda options: TinyViT(patch_kernel=3, patch_stride=2, classes=MOBILE_CLASSES),
}


def build_sam(name: str, options: SamOptions | None = None) -> Sam:
    """A network of ENCODERS by name, with fresh weights (torch's own; on whatever device is the default)."""
    options = options or SamOptions()
    return Sam(ENCODERS[name](options), options)


def fit_mask_tokens(state: dict[str, Tensor], outputs: int) -> dict[str, Tensor]:
    """A state dict with another number of multi-mask outputs than its own.

    Mask token t of the answer, with its hypernetwork and its IoU, begins as token t, beyond the last as the last one.
    """
    by_token = [f"mask_decoder.{key}" for key in BY_TOKEN]
    if any(key not in state for key in by_token):
        return state  # not a SAM's; whoever loads it says what is missing
    last = len(state[by_token[0]]) - 1
    source = [min(token, last) for token in range(outputs + 1)]
    fitted = {key: value for key, value in state.items() if "output_hypernetworks_mlps." not in key}
    fitted |= {key: state[key][source] for key in by_token}
    stem = "mask_decoder.output_hypernetworks_mlps."
    for token, public in enumerate(source):
        prefix = f"{stem}{public}."
        fitted |= {f"{stem}{token}.{k[len(prefix) :]}": v for k, v in state.items() if k.startswith(prefix)}
    return fitted


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6)


def _resized(positions: Tensor, size: Sequence[int]) -> Tensor:
    """Learned positions (1, H, W, width) for another grid; unchanged at the size they were learned at."""
    if tuple(positions.shape[1:3]) == tuple(size):
        return positions
    resized = F.interpolate(positions.permute(0, 3, 1, 2), size=tuple(size), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)

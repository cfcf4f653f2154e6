"""The mask decoder in inference form: the same function as the training network's, at a quarter of the arithmetic.

Published: 3.62 GFLOP per box. Here: 0.81 once per image, 0.62 per box and 0.81 for upscaling all of a box's cells; only
the cells that are asked for are upscaled. Exact but for rounding:

- The first layer's image-side keys, values and queries do not depend on the box: once per image.
- Elsewhere the few tokens are projected instead of the 4096 cells. With T tokens and H heads there are T x H rows:
  scores = cells x (q W_k)^T, context = (attention x cells) W_v, and for cells attending to tokens
  scores = (k W_q) x cells^T, result = attention x (v W_o). A key's bias shifts all scores of a row alike and cancels.
- Of the last attention only the mask token's row is needed, and of the hypernetworks only the single mask's.
- A box's cells are kept as the norm without its scale and shift, which fold into what reads them.
- A transposed convolution of 2 x 2 and stride 2 is a matrix: rows of cells become rows of pixels, and only the one
  channel that is left at the end is put in its place.

Softmax over cells runs along the first axis of (cells, rows): along the last, OpenVINO joins it with its two products
into one kernel, which takes 109 ms instead of 72 for 16 boxes (2 cores, AVX-512).
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.networks.litemedsam import LiteMedSAM
from train.networks.tiny_vit import STRIDE

HEADS = 8
MASK_TOKEN = 1  # of the output tokens: 0 predicts the IoU, 1 the single mask, 2 to 4 the three alternatives


class InferenceDecoder(nn.Module):
    """Prompt encoder and mask decoder: one embedding, any number of boxes, the single mask of each where asked for."""

    output_tokens: Tensor
    position: Tensor
    no_mask: Tensor

    def __init__(self, network: LiteMedSAM) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval()
        decoder: Any = network.mask_decoder  # segment-anything's modules, which state no types
        self.prompt_encoder: Any = network.prompt_encoder
        self.first, self.second = decoder.transformer.layers
        self.hypernetwork = decoder.output_hypernetworks_mlps[0]
        self.last_norm = decoder.transformer.norm_final_attn
        with torch.no_grad():
            tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
            position = self.prompt_encoder.get_dense_pe().permute(0, 2, 3, 1).contiguous()
            self.read = ReadCells(self.second.cross_attn_token_to_image, self.first.norm4)
            self.write = CellScores(self.second.cross_attn_image_to_token, self.first.norm4)
            self.last_read = ReadCells(decoder.transformer.final_attn_token_to_image, self.second.norm4)
            self.upscale = Upscale(decoder.output_upscaling, self.second.norm4)
        self.register_buffer("output_tokens", tokens[None])  # (1, 5, C)
        self.register_buffer("position", position)  # (1, frame's cells down, across, C)
        self.register_buffer("no_mask", self.prompt_encoder.no_mask_embed.weight[None].detach())  # (1, 1, C)

    def forward(self, embedding: Tensor, boxes: Tensor, cells: Tensor) -> Tensor:
        """Logits of the pixels of chosen cells.

        Args:
            embedding: (1, C, h, w) of an image, or (N, C, h, w) of a view for each box; in the middle of the frame.
            boxes: (N, 4) in px of the model frame, or each of its view.
            cells: (M,) int32, each box row x h w + the cell's place among h w.

        Returns:
            (M, 4, 4), rows of pixels.
        """
        height, width = embedding.shape[2:]
        top, left = (self.position.shape[1] - height) // 2, (self.position.shape[2] - width) // 2
        prompt = self.prompt_encoder._embed_boxes(boxes + STRIDE * left)
        tokens = torch.cat([self.output_tokens.expand(boxes.shape[0], -1, -1), prompt], dim=1)  # (N, T, C)
        image = embedding.flatten(2).transpose(1, 2) + self.no_mask  # (1 or N, L, C)
        position = self.position[:, top : top + height, left : left + width].reshape(
            1, -1, self.position.shape[3]
        )  # (1, L, C)
        queries, normed = self._first_layer(tokens, image, position)
        queries, normed = self._second_layer(tokens, queries, normed, position)
        weights = self._mask_weights(tokens, queries, normed, position)
        rows = normed.reshape(-1, normed.shape[2]).index_select(0, cells)
        return self.upscale(rows, weights.index_select(0, cells // (height * width)))

    def _first_layer(self, tokens: Tensor, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, T, C) and each box's normed cells (N, L, C); what is projected of the image is (1 or N, L, D)."""
        layer, placed = self.first, image + position
        queries = layer.norm1(_attend(layer.self_attn, tokens, tokens))
        attention = layer.cross_attn_token_to_image
        keys, values = _heads(attention.k_proj(placed)), _heads(attention.v_proj(image))  # (1 or N, H, L, d)
        query = attention.q_proj(queries + tokens)
        rows = _heads(query.reshape(image.shape[0], -1, query.shape[2]))  # all boxes of an image in one product
        mixed = (rows @ keys.transpose(2, 3) / math.sqrt(keys.shape[3])).softmax(-1) @ values
        read = attention.out_proj(mixed.transpose(1, 2).reshape(query.shape))
        queries = layer.norm2(queries + read)
        queries = layer.norm3(queries + layer.mlp(queries))
        attention = layer.cross_attn_image_to_token
        keys = _heads(attention.k_proj(queries + tokens))  # (N, H, T, d)
        scores = keys @ _heads(attention.q_proj(placed)).transpose(2, 3) / math.sqrt(keys.shape[3])  # (N, H, T, L)
        return queries, _plain_norm(image + attention.out_proj.bias + _write(attention, scores, queries), layer.norm4)

    def _second_layer(self, tokens: Tensor, queries: Tensor, normed: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """As the first layer, on each box's own cells."""
        layer, norm = self.second, self.first.norm4
        placed = normed * norm.weight + position  # the norm's shift is left to `self.read` and `self.write`
        queries = layer.norm1(queries + _attend(layer.self_attn, queries + tokens, queries))
        query = self.read.query(queries + tokens)
        read = self.read.context((placed @ query.transpose(1, 2)).softmax(1).transpose(1, 2) @ normed)
        queries = layer.norm2(queries + read)
        queries = layer.norm3(queries + layer.mlp(queries))
        attention = layer.cross_attn_image_to_token
        scores = self.write(queries + tokens, placed)
        # from `placed`, so that the product with the norm's weight is used once and fuses with the addition
        written = placed + (_write(attention, scores, queries) + (norm.bias + attention.out_proj.bias)) - position
        return queries, _plain_norm(written, layer.norm4)

    def _mask_weights(self, tokens: Tensor, queries: Tensor, normed: Tensor, position: Tensor) -> Tensor:
        """The weights (N, 32) that the mask token gives the upscaled cells' channels."""
        mask_token, norm = queries[:, MASK_TOKEN : MASK_TOKEN + 1], self.second.norm4
        query = self.last_read.query(mask_token + tokens[:, MASK_TOKEN : MASK_TOKEN + 1]).transpose(1, 2)  # (N, C, H)
        scores = normed @ (query * norm.weight[:, None]) + position @ query
        read = self.last_read.context(scores.softmax(1).transpose(1, 2) @ normed)
        return self.hypernetwork(self.last_norm(mask_token + read))[:, 0]


class ReadCells(nn.Module):
    """Tokens attend to each box's own cells: H x R rows are projected instead of L cells.

    The norm's scale and shift, which the cells come without, fold into the values' projection; in the scores the shift
    adds the same for all cells and cancels.
    """

    key: Tensor
    value: Tensor
    value_bias: Tensor

    def __init__(self, attention: Any, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.q_proj, self.out_proj = attention.q_proj, attention.out_proj
        key, value = _by_head(attention.k_proj), _by_head(attention.v_proj)
        self.register_buffer("key", key / math.sqrt(key.shape[1]))  # (H, d, C)
        self.register_buffer("value", (value * norm.weight).transpose(1, 2).contiguous())  # (H, C, d)
        self.register_buffer("value_bias", attention.v_proj.bias + attention.v_proj.weight @ norm.bias)

    def query(self, queries: Tensor) -> Tensor:
        """Tokens (N, R, C) to rows (N, H R, C) whose product with the placed cells are the scores."""
        rows = _heads(self.q_proj(queries)) @ self.key
        return rows.reshape(rows.shape[0], -1, rows.shape[3])

    def context(self, mixed: Tensor) -> Tensor:
        """What was read (N, R, C) of the normed cells, mixed by attention (N, H R, C)."""
        heads = mixed.reshape(mixed.shape[0], HEADS, -1, mixed.shape[2]) @ self.value  # (N, H, R, d)
        values = heads.transpose(1, 2).reshape(mixed.shape[0], heads.shape[2], -1)
        return self.out_proj(values + self.value_bias)


class CellScores(nn.Module):
    """Scores of each box's own cells as they attend to tokens; the norm's shift, which they come without, is added."""

    query: Tensor
    query_bias: Tensor

    def __init__(self, attention: Any, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.k_proj = attention.k_proj
        query = _by_head(attention.q_proj)
        scale, bias = 1 / math.sqrt(query.shape[1]), attention.q_proj.bias + attention.q_proj.weight @ norm.bias
        self.register_buffer("query", scale * query)  # (H, d, C)
        self.register_buffer("query_bias", scale * bias.reshape(HEADS, -1, 1))

    def forward(self, placed_tokens: Tensor, placed: Tensor) -> Tensor:
        """Scores (N, H, T, L) of cells (N, L, C) for tokens (N, T, C), both with their place added."""
        keys = _heads(self.k_proj(placed_tokens))  # (N, H, T, d)
        rows = (keys @ self.query).reshape(keys.shape[0], -1, placed.shape[2])  # (N, H T, C)
        return (rows @ placed.transpose(1, 2)).reshape(*keys.shape[:3], -1) + keys @ self.query_bias


class Upscale(nn.Module):
    """Normed cells to 4 x 4 pixels each, and their product with the mask's weights."""

    def __init__(self, layers: Any, norm: nn.LayerNorm) -> None:
        super().__init__()
        first, self.norm, _, second, _ = layers
        self.first, self.second = _as_linear(first), _as_linear(second)
        self.first.bias.add_(self.first.weight @ norm.bias)
        self.first.weight.mul_(norm.weight)

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Logits (M, 4, 4) of rows (M, C) with weights (M, 32)."""
        norm, channels = self.norm, len(self.norm.weight)
        rows = F.layer_norm(self.first(rows).reshape(-1, channels), (channels,), norm.weight, norm.bias, norm.eps)
        pixels = F.gelu(self.second(F.gelu(rows))).reshape(weights.shape[0], 16, -1)
        logits = pixels @ weights[:, :, None]
        return logits.reshape(-1, 2, 2, 2, 2).transpose(2, 3).reshape(-1, 4, 4)  # (y, x) of 2 px, then of 1 px


def _as_linear(convolution: Any) -> nn.Linear:
    """A transposed convolution of 2 x 2 and stride 2 on rows: (M, C) to (M, y x c)."""
    inputs, outputs = convolution.weight.shape[:2]
    linear = nn.Linear(inputs, 4 * outputs, dtype=convolution.weight.dtype)
    linear.weight.copy_(convolution.weight.permute(2, 3, 1, 0).reshape(-1, inputs))
    linear.bias.copy_(convolution.bias.repeat(4))
    return linear


def _plain_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """The norm without its scale and shift."""
    return F.layer_norm(x, x.shape[-1:], eps=norm.eps)


def _heads(x: Tensor) -> Tensor:
    """(N, R, D) to (N, H, R, D / H)."""
    return x.reshape(x.shape[0], x.shape[1], HEADS, x.shape[2] // HEADS).transpose(1, 2)


def _attend(attention: Any, placed: Tensor, values: Tensor) -> Tensor:
    """Self-attention of tokens (N, T, C)."""
    query, keys = _heads(attention.q_proj(placed)), _heads(attention.k_proj(placed))
    scores = query @ keys.transpose(2, 3) / math.sqrt(query.shape[-1])
    mixed = (scores.softmax(-1) @ _heads(attention.v_proj(values))).transpose(1, 2)
    return attention.out_proj(mixed.reshape(mixed.shape[0], mixed.shape[1], -1))


def _by_head(projection: nn.Linear) -> Tensor:
    """A projection's weight (D, C) as (H, D / H, C)."""
    return projection.weight.reshape(HEADS, -1, projection.weight.shape[1])


def _write(attention: Any, scores: Tensor, queries: Tensor) -> Tensor:
    """What tokens write into the cells, given each cell's scores (N, H, T, L), but for the bias: (N, L, C)."""
    values = _heads(attention.v_proj(queries))  # (N, H, T, d)
    by_head = attention.out_proj.weight.transpose(0, 1).reshape(HEADS, -1, attention.out_proj.weight.shape[0])
    rows = values @ by_head  # (N, H, T, C)
    shares = scores.softmax(2).reshape(rows.shape[0], -1, scores.shape[3])  # (N, H T, L)
    return shares.transpose(1, 2) @ rows.reshape(rows.shape[0], -1, rows.shape[3])

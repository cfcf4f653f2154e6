"""The mask decoder in inference form: the same function as the training network's, at less than half the arithmetic.

Published: 3.62 GFLOP per box. Here: 0.81 once per image and 1.43 per box, exact but for rounding:

- The first layer's image-side keys, values and queries do not depend on the box: once per image.
- Elsewhere the few tokens are projected instead of the 4096 cells. With T tokens and H heads there are T x H rows:
  scores = (q W_k) x cells^T, context = (attention x cells) W_v, and for cells attending to tokens
  scores = cells x (W_q k^T), result = attention x (v W_o). A key's bias shifts all scores of a row alike and cancels.
- Of the last attention only the mask token's row is needed, and of the hypernetworks only the single mask's.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from train.networks.litemedsam import LiteMedSAM

HEADS = 8
MASK_TOKEN = 1  # of the output tokens: 0 predicts the IoU, 1 the single mask, 2 to 4 the three alternatives


class InferenceDecoder(nn.Module):
    """Prompt encoder and mask decoder: one embedding, any number of boxes, the single mask of each."""

    output_tokens: Tensor
    position: Tensor
    no_mask: Tensor

    def __init__(self, network: LiteMedSAM) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval()
        decoder: Any = network.mask_decoder  # segment-anything's modules, which state no types
        prompts: Any = network.prompt_encoder
        self.first, self.second = decoder.transformer.layers
        self.last_attention = decoder.transformer.final_attn_token_to_image
        self.last_norm = decoder.transformer.norm_final_attn
        self.hypernetwork = decoder.output_hypernetworks_mlps[0]
        self.upscale = nn.ModuleList(decoder.output_upscaling)
        self.prompt_encoder = prompts
        self.grid = prompts.image_embedding_size[0]
        with torch.no_grad():
            tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
            position = prompts.get_dense_pe().flatten(2).transpose(1, 2)
        self.register_buffer("output_tokens", tokens[None])  # (1, 5, C)
        self.register_buffer("position", position)  # (1, L, C)
        self.register_buffer("no_mask", prompts.no_mask_embed.weight[None].detach())  # (1, 1, C)

    def forward(self, embedding: Tensor, boxes: Tensor) -> Tensor:
        """Logits (N, S, S) for boxes (N, 4) in the model frame on an embedding (1, C, h, w)."""
        prompt = self.prompt_encoder._embed_boxes(boxes)
        tokens = torch.cat([self.output_tokens.expand(boxes.shape[0], -1, -1), prompt], dim=1)  # (N, T, C)
        cells = embedding.flatten(2).transpose(1, 2) + self.no_mask  # (1, L, C)

        layer = self.first
        queries = layer.norm1(_attend(layer.self_attn, tokens, tokens))
        queries = layer.norm2(queries + self._read_image(layer.cross_attn_token_to_image, queries + tokens, cells))
        queries = layer.norm3(queries + layer.mlp(queries))
        cells = layer.norm4(cells + self._write_image(layer.cross_attn_image_to_token, cells, queries, tokens))

        layer = self.second
        placed = cells + self.position  # (N, L, C)
        queries = layer.norm1(queries + _attend(layer.self_attn, queries + tokens, queries))
        queries = layer.norm2(queries + _read_cells(layer.cross_attn_token_to_image, queries + tokens, placed, cells))
        queries = layer.norm3(queries + layer.mlp(queries))
        cells = layer.norm4(cells + _write_cells(layer.cross_attn_image_to_token, placed, queries, tokens))

        mask_token = queries[:, MASK_TOKEN : MASK_TOKEN + 1]
        query = mask_token + tokens[:, MASK_TOKEN : MASK_TOKEN + 1]
        read = _read_cells(self.last_attention, query, cells + self.position, cells)
        weights = self.hypernetwork(self.last_norm(mask_token + read))  # (N, 1, 32)
        return self._upscaled(cells, weights)

    def _read_image(self, attention: Any, queries: Tensor, cells: Tensor) -> Tensor:
        """Tokens attend to cells that are the same for every box: keys and values projected once, (1, L, D)."""
        keys, values = attention.k_proj(cells + self.position), attention.v_proj(cells)
        return _mix(attention, _heads(attention.q_proj(queries)), _heads(keys), _heads(values))

    def _write_image(self, attention: Any, cells: Tensor, queries: Tensor, tokens: Tensor) -> Tensor:
        """Cells that are the same for every box attend to tokens: their queries projected once, (1, L, D)."""
        image = _heads(attention.q_proj(cells + self.position))  # (1, H, L, d)
        keys = _heads(attention.k_proj(queries + tokens))  # (N, H, T, d)
        scores = keys @ image.transpose(2, 3) / math.sqrt(keys.shape[-1])  # (N, H, T, L)
        return _write(attention, scores, queries)

    def _upscaled(self, cells: Tensor, weights: Tensor) -> Tensor:
        """Cells (N, L, C) to 4 x the grid, and their product with the mask's weights (N, 1, 32)."""
        grid = cells.transpose(1, 2).reshape(-1, cells.shape[-1], self.grid, self.grid)
        for layer in self.upscale:
            grid = layer(grid)
        logits = weights @ grid.flatten(2)
        return logits.reshape(-1, 4 * self.grid, 4 * self.grid)


def _heads(x: Tensor) -> Tensor:
    """(N, R, D) to (N, H, R, D / H)."""
    return x.reshape(x.shape[0], x.shape[1], HEADS, x.shape[2] // HEADS).transpose(1, 2)


def _mix(attention: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Softmax attention of heads, recombined and projected: (N, R, C)."""
    scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[-1])
    mixed = (scores.softmax(-1) @ values).transpose(1, 2)
    return attention.out_proj(mixed.reshape(mixed.shape[0], mixed.shape[1], -1))


def _attend(attention: Any, placed: Tensor, values: Tensor) -> Tensor:
    """Self-attention of tokens (N, T, C)."""
    queries, keys = attention.q_proj(placed), attention.k_proj(placed)
    return _mix(attention, _heads(queries), _heads(keys), _heads(attention.v_proj(values)))


def _by_head(projection: nn.Linear) -> Tensor:
    """A projection's weight (D, C) as (H, D / H, C)."""
    return projection.weight.reshape(HEADS, -1, projection.weight.shape[1])


def _read_cells(attention: Any, queries: Tensor, placed: Tensor, cells: Tensor) -> Tensor:
    """Tokens (N, R, C) attend to each box's own cells (N, L, C): H x R rows are projected instead of L."""
    heads = _heads(attention.q_proj(queries))  # (N, H, R, d)
    rows = heads @ _by_head(attention.k_proj)  # (N, H, R, C)
    flat = rows.reshape(rows.shape[0], -1, rows.shape[3])
    scores = flat @ placed.transpose(1, 2) / math.sqrt(heads.shape[-1])  # (N, H R, L)
    context = (scores.softmax(-1) @ cells).reshape(rows.shape)
    values = context @ _by_head(attention.v_proj).transpose(1, 2)  # (N, H, R, d)
    mixed = values.transpose(1, 2).reshape(queries.shape[0], queries.shape[1], -1) + attention.v_proj.bias
    return attention.out_proj(mixed)


def _write_cells(attention: Any, placed: Tensor, queries: Tensor, tokens: Tensor) -> Tensor:
    """Each box's own cells (N, L, C) attend to its tokens (N, T, C)."""
    keys = _heads(attention.k_proj(queries + tokens))  # (N, H, T, d)
    columns = keys @ _by_head(attention.q_proj)  # (N, H, T, C)
    constant = keys @ attention.q_proj.bias.reshape(HEADS, -1, 1)  # (N, H, T, 1)
    flat = columns.reshape(columns.shape[0], -1, columns.shape[3])
    scores = (flat @ placed.transpose(1, 2)).reshape(columns.shape[0], HEADS, columns.shape[2], -1)
    return _write(attention, (scores + constant) / math.sqrt(keys.shape[-1]), queries)


def _write(attention: Any, scores: Tensor, queries: Tensor) -> Tensor:
    """What tokens write into the cells, given each cell's scores (N, H, T, L): (N, L, C)."""
    values = _heads(attention.v_proj(queries))  # (N, H, T, d)
    by_head = attention.out_proj.weight.transpose(0, 1).reshape(HEADS, -1, attention.out_proj.weight.shape[0])
    rows = values @ by_head  # (N, H, T, C)
    shares = scores.softmax(2).reshape(rows.shape[0], -1, scores.shape[3])  # (N, H T, L)
    return shares.transpose(1, 2) @ rows.reshape(rows.shape[0], -1, rows.shape[3]) + attention.out_proj.bias

"""The image encoder in inference form: the same function as the training network's, in a graph an engine runs faster.

With n = the layer norm without its scale and shift, q = n W_q + b_q and so on:

- Scale and shift of each norm fold into the linear layers that follow it, the attention's 1 / sqrt(d) into W_q.
- A token of padding has n = 0. A key's bias shifts all scores of a row alike and cancels in the softmax; a value's bias
  comes out of the attention unchanged and folds into the projection's; queries of padding are thrown away. So n is
  padded with plain zeros, after the norm and before the windows, when it is at its narrowest.
- q, k and v are layers of their own: heads are split off by views, and no tensor three times as wide is moved.
- Between blocks the cells are rows of a matrix: there OpenVINO has no choice of layout, and the permutations around the
  3x3 convolutions become views (for a batch of a fixed size; at any other each is copied twice).
- Batch norms fold into their convolutions, the attention-bias table becomes one constant.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from train.networks.tiny_vit import Attention, Block, ConvBN, Stage, TinyViT


class InferenceEncoder(nn.Module):
    """Images (B, 3, S, S) in [0, 1] to embeddings (B, 256, S / 4, S / 4)."""

    def __init__(self, encoder: TinyViT) -> None:
        super().__init__()
        encoder = copy.deepcopy(encoder).eval()
        with torch.no_grad():
            self.encoder = _inference_form(encoder)

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images)


def _inference_form(module: nn.Module) -> nn.Module:
    """Replace what has an inference form, depth first."""
    for name, child in module.named_children():
        if isinstance(child, ConvBN):
            setattr(module, name, fuse_conv_bn_eval(child.c, child.bn))
        elif isinstance(child, Stage) and isinstance(child.blocks[0], Block):
            setattr(module, name, InferenceStage(child))
        else:
            _inference_form(child)
    return module


class InferenceStage(nn.Module):
    """Blocks of attention on rows, then the merge into the next stage."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        blocks: Any = stage.blocks  # a ModuleList's members carry no types
        self.blocks = nn.ModuleList(InferenceBlock(block) for block in blocks)
        self.downsample = None if stage.downsample is None else _inference_form(stage.downsample)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, C, H, W)."""
        channels, height, width = x.shape[1:]
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        for block in self.blocks:
            rows = block(rows, height, width)
        x = rows.view(-1, height, width, channels).permute(0, 3, 1, 2)
        return x if self.downsample is None else self.downsample(x)


class InferenceBlock(nn.Module):
    """Window attention, the 3x3 convolution that joins windows, the MLP."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.attention = InferenceAttention(block.attn, block.window)
        self.local_conv = fuse_conv_bn_eval(block.local_conv.c, block.local_conv.bn)
        self.expand = _fold_norm(block.mlp.norm, block.mlp.fc1.weight, block.mlp.fc1.bias)
        self.project = block.mlp.fc2

    def forward(self, rows: Tensor, height: int, width: int) -> Tensor:
        """Args: rows: (B H W, C)."""
        channels = rows.shape[1]
        rows = rows + self.attention(rows, height, width)
        x = self.local_conv(rows.view(-1, height, width, channels).permute(0, 3, 1, 2))
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        return rows + self.project(F.gelu(self.expand(_plain_norm(rows))))


class InferenceAttention(nn.Module):
    """Attention within windows of cells; see the module's docstring for what was folded."""

    bias: Tensor

    def __init__(self, attention: Attention, window: int) -> None:
        super().__init__()
        self.window, self.heads = window, attention.heads
        width = attention.proj.in_features
        order = torch.arange(3 * width).view(self.heads, 3, -1).transpose(0, 1).flatten()
        folded = _fold_norm(attention.norm, attention.qkv.weight[order], attention.qkv.bias[order])
        weights, biases = folded.weight.split(width), folded.bias.split(width)
        self.query = _linear(weights[0] * attention.scale, biases[0] * attention.scale)
        self.key, self.value = _linear(weights[1]), _linear(weights[2])
        self.proj = _linear(attention.proj.weight, attention.proj.bias + attention.proj.weight @ biases[2])
        self.register_buffer(
            "bias", attention.attention_biases[:, attention.bias_index][None].clone()
        )  # (1, heads, T, T)

    def forward(self, rows: Tensor, height: int, width: int) -> Tensor:
        """Args: rows: (B H W, C)."""
        channels, side = rows.shape[1], self.window
        padding = (0, 0, 0, -width % side, 0, -height % side)
        cells = F.pad(_plain_norm(rows).view(-1, height, width, channels), padding)
        down, across = cells.shape[1] // side, cells.shape[2] // side
        tiles = cells.view(-1, down, side, across, side, channels).transpose(2, 3).reshape(-1, side * side, channels)
        query, key, value = (self._heads(layer(tiles)) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias, scale=1.0).transpose(1, 2)
        mixed = mixed.reshape(-1, down, across, side, side, channels).transpose(2, 3)
        mixed = mixed.reshape(-1, down * side, across * side, channels)[:, :height, :width]
        return self.proj(mixed.reshape(-1, channels))

    def _heads(self, x: Tensor) -> Tensor:
        """(windows, T, C) to (windows, heads, T, C / heads)."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


def _plain_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
    return linear


def _fold_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> nn.Linear:
    """The linear layer (weight, bias) with the scale and shift of the norm before it folded in."""
    return _linear(weight * norm.weight, bias + weight @ norm.bias)

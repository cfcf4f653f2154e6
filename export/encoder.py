"""The image encoder in inference form: the same function as the training network's, in a graph an engine runs faster.

With n = the layer norm without its scale and shift, q = n W_q + b_q and so on:

- Scale and shift of each norm fold into the linear layer that follows it, the attention's 1 / sqrt(d) into W_q.
- A token of padding has n = 0. A key's bias shifts all scores of a row alike and cancels in the softmax; a value's bias
  comes out of the attention unchanged and folds into the projection's; queries of padding are thrown away. So q, k and
  v of padding may be plain zeros, and only real tokens go through the linear layer (a fifth less at 64 x 64 cells).
- Rows of `qkv` are put in the order q, k, v, so that windows and heads are split in one transpose.
- Batch norms fold into their convolutions, the attention-bias table becomes one constant.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from train.tiny_vit import Attention, Block, ConvBN, TinyViT


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
        elif isinstance(child, Block):
            setattr(module, name, InferenceBlock(child))
        else:
            _inference_form(child)
    return module


class InferenceBlock(nn.Module):
    """Window attention, the 3x3 convolution that joins windows, the MLP."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.attention = InferenceAttention(block.attn, block.window)
        self.local_conv = fuse_conv_bn_eval(block.local_conv.c, block.local_conv.bn)
        self.expand = _fold_norm(block.mlp.norm, block.mlp.fc1.weight, block.mlp.fc1.bias)
        self.project = block.mlp.fc2

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, C, H, W)."""
        x = x + self.attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        rows = self.local_conv(x).permute(0, 2, 3, 1)
        rows = rows + self.project(F.gelu(self.expand(_plain_norm(rows))))
        return rows.permute(0, 3, 1, 2)


class InferenceAttention(nn.Module):
    """Attention within windows of cells (B, H, W, C); see the module's docstring for what was folded."""

    bias: Tensor

    def __init__(self, attention: Attention, window: int) -> None:
        super().__init__()
        self.window, self.heads = window, attention.heads
        width = attention.proj.in_features
        order = torch.arange(3 * width).view(self.heads, 3, -1).transpose(0, 1).flatten()
        folded = _fold_norm(attention.norm, attention.qkv.weight[order], attention.qkv.bias[order])
        value_bias = folded.bias[2 * width :].clone()
        folded.weight[:width] *= attention.scale
        folded.bias[:width] *= attention.scale
        folded.bias[width:] = 0
        self.qkv, self.proj = folded, copy.deepcopy(attention.proj)
        self.proj.bias.add_(attention.proj.weight @ value_bias)
        self.register_buffer("bias", attention.attention_biases[:, attention.bias_index].clone())  # (heads, T, T)

    def forward(self, cells: Tensor) -> Tensor:
        _, height, width, channels = cells.shape
        side, depth = self.window, channels // self.heads
        qkv = self.qkv(_plain_norm(cells))
        qkv = F.pad(qkv, (0, 0, 0, -width % side, 0, -height % side))
        down, across = qkv.shape[1] // side, qkv.shape[2] // side
        tiles = qkv.view(-1, down, side, across, side, 3, self.heads, depth).permute(5, 0, 1, 3, 6, 2, 4, 7)
        query, key, value = tiles.reshape(3, -1, self.heads, side * side, depth).unbind(0)
        shares = (query @ key.transpose(-2, -1) + self.bias).softmax(-1)
        mixed = (shares @ value).view(-1, down, across, self.heads, side, side, depth).permute(0, 1, 4, 2, 5, 3, 6)
        mixed = mixed.reshape(-1, down * side, across * side, channels)[:, :height, :width]
        return self.proj(mixed)


def _plain_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _fold_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> nn.Linear:
    """The linear layer (weight, bias) with the scale and shift of the norm before it folded in."""
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.copy_(weight * norm.weight)
    linear.bias.copy_(bias + weight @ norm.bias)
    return linear

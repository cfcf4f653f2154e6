"""TinyViT as LiteMedSAM uses it: four stages at 1, 1/2, 1/4 and 1/4 of the input's resolution, then SAM's neck.

MobileSAM's form begins with two 3x3 convolutions of stride 2, so everything is at a quarter of that, and carries a
classifier of 1000 classes that nothing uses.

Module names are those of the public checkpoint. Windows are never shifted, so any square input whose side is a multiple
of 56 px (14 tokens of stage 2 at 4 px, a multiple of every other window) is encoded without padding, and windows know
of each other through 3x3 convolutions alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.networks.convolutions import Convolution, convolve

WIDTHS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
HEADS = (2, 4, 5, 10)  # of the attention stages 1 to 3; stage 0 is convolutional
WINDOWS = (7, 7, 14, 7)  # tokens per side
EXPANSION = 4  # of MBConv and of the MLP
EMBEDDING_WIDTH = 256
STRIDE = 4  # input pixels per embedding cell: 2 x 2 x 1 over the three merges; times 4 in MobileSAM's form


class ConvBN(nn.Module):
    """A convolution without bias, then batch normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = Convolution(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.folded(x) if x.is_cuda and not self.bn.training else self.bn(self.c(x))

    def folded(self, x: Tensor) -> Tensor:
        """The same of (B, inputs, H, W) by one convolution, where the normalisation does not train."""
        norm = self.bn
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # type: ignore[operator, arg-type]
        shift = norm.bias - norm.running_mean * scale  # type: ignore[operator]
        return convolve(x, self.c.weight * scale[:, None, None, None], shift, self.c)


class PatchEmbed(nn.Module):
    """Two convolutions: 1x1 in the 256 px form, which keeps the resolution, 3x3 of stride 2 in the 1024 px form."""

    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        first, second = ConvBN(3, width // 2, kernel, stride), ConvBN(width // 2, width, kernel, stride)
        self.seq = nn.Sequential(first, nn.GELU(), second)

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class MBConv(nn.Module):
    """Expand, 3x3 per channel, project, add; activated after the addition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width * EXPANSION
        self.conv1 = ConvBN(width, hidden)
        self.conv2 = ConvBN(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvBN(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class PatchMerging(nn.Module):
    """To the next stage's width; halves the resolution unless that stage is the last."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(inputs, outputs)
        self.conv2 = ConvBN(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvBN(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class Attention(nn.Module):
    """Multi-head attention within a window, with a learned bias per head and absolute offset."""

    bias_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)  # rows packed per head: q k v of head 0, then head 1, ...
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        # The public code caches biases[:, index] as `ab` and rebuilds it only in eval(); indexing each time costs
        # nothing that can be measured, and leaves no stale table behind after a checkpoint is loaded.
        self.register_buffer("bias_index", offset_index(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (windows, tokens, width)."""
        windows, tokens, width = x.shape
        qkv = self.qkv(self.norm(x)).view(windows, tokens, self.heads, 3, width // self.heads)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)  # each (windows, heads, tokens, width of a head)
        scores = (query * self.scale) @ key.transpose(-2, -1) + self.attention_biases[:, self.bias_index]
        return self.proj((scores.softmax(-1) @ value).transpose(1, 2).reshape(windows, tokens, width))


class MLP(nn.Module):
    """LayerNorm, then two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width * EXPANSION)
        self.fc2 = nn.Linear(width * EXPANSION, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    """Window attention, a 3x3 convolution that joins the windows, an MLP."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(width, heads, window)
        self.mlp = MLP(width)
        self.local_conv = ConvBN(width, width, 3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, width, H, W)."""
        rows = x.permute(0, 2, 3, 1)  # (B, H, W, width): a view when x is channels_last
        rows = rows + self._attend_in_windows(rows)
        rows = self.local_conv(rows.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (rows + self.mlp(rows)).permute(0, 3, 1, 2)

    def _attend_in_windows(self, rows: Tensor) -> Tensor:
        batch, height, width_px, channels = rows.shape
        size = self.window
        # zeros are padded before the normalisation, as published: a padded token becomes the norm's bias
        padded = F.pad(rows, (0, 0, 0, -width_px % size, 0, -height % size))
        down, across = padded.shape[1] // size, padded.shape[2] // size
        tiles = padded.view(batch, down, size, across, size, channels).transpose(2, 3)
        tiles = self.attn(tiles.reshape(-1, size * size, channels))
        tiles = tiles.view(batch, down, across, size, size, channels).transpose(2, 3)
        return tiles.reshape(padded.shape)[:, :height, :width_px]


class Stage(nn.Module):
    """Blocks of one width, then the merge into the next stage."""

    def __init__(self, blocks: list[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class LayerNorm2d(nn.Module):
    """Normalises over channels at each place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        rows = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return rows.permute(0, 3, 1, 2)


class TinyViT(nn.Module):
    """Image encoder: (B, 3, S, S) in [0, 1] to an embedding (B, 256, S/4, S/4); S is 256 or a multiple of 56."""

    def __init__(self, patch_kernel: int = 1, patch_stride: int = 1, classes: int = 0) -> None:
        """Args: classes: of the classifier that MobileSAM's file holds and nothing calls; 0: none."""
        super().__init__()
        self.patch_embed = PatchEmbed(WIDTHS[0], patch_kernel, patch_stride)
        self.layers = nn.ModuleList(_stage(index) for index in range(len(WIDTHS)))
        if classes:
            self.norm_head, self.head = nn.LayerNorm(WIDTHS[-1]), nn.Linear(WIDTHS[-1], classes)
        self.neck = nn.Sequential(
            Convolution(WIDTHS[-1], EMBEDDING_WIDTH, 1, bias=False),
            LayerNorm2d(EMBEDDING_WIDTH),
            Convolution(EMBEDDING_WIDTH, EMBEDDING_WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_WIDTH),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images.contiguous(memory_format=torch.channels_last))
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)


def _stage(index: int) -> Stage:
    width = WIDTHS[index]
    if index == 0:
        blocks: list[nn.Module] = [MBConv(width) for _ in range(DEPTHS[0])]
    else:
        blocks = [Block(width, HEADS[index], WINDOWS[index]) for _ in range(DEPTHS[index])]
    if index + 1 == len(WIDTHS):
        return Stage(blocks, None)
    return Stage(blocks, PatchMerging(width, WIDTHS[index + 1], stride=1 if index + 2 == len(WIDTHS) else 2))


def offset_index(window: int) -> Tensor:
    """(tokens, tokens): row of the bias table for each pair, |dy| * window + |dx|."""
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    return (rows[:, None] - rows).abs() * window + (columns[:, None] - columns).abs()

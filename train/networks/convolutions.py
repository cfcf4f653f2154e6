"""Convolutions as matrix products, for GPUs.

With cuDNN (torch 2.11, H100) the first backward pass of TinyViT in bfloat16 had not ended after 85 s. As matrix
products a step takes 0.05 s with 8 views of 56 px, and 0.14 s with 16 of 224 px. On a CPU torch's own convolutions are
taken.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def keep_clear_of_cudnn() -> None:
    """Leave cuDNN out of this process, its backward passes included."""
    torch.backends.cudnn.enabled = False


class Convolution(nn.Conv2d):
    """A convolution of 1x1 or 3x3, or one per channel, that keeps clear of cuDNN."""

    def forward(self, x: Tensor) -> Tensor:
        """Args: x: (B, C, H, W)."""
        return convolve(x, self.weight, self.bias, self)


class DoublingConvolution(nn.ConvTranspose2d):
    """A transposed convolution of 2x2 and stride 2 that keeps clear of cuDNN."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return double(x, self.weight, self.bias) if x.is_cuda else super().forward(x, output_size)  # type: ignore[arg-type]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> Tensor:
    """What `like` makes of (B, C, H, W) with another weight and bias."""
    if not x.is_cuda:
        return F.conv2d(x, weight, bias, like.stride, like.padding, like.dilation, like.groups)
    if like.groups > 1 or like.stride != (1, 1):
        return _native(x, weight, bias, like)
    return pointwise(x, weight, bias) if like.kernel_size == (1, 1) else three_by_three(x, weight, bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution of (B, C, H, W) with weight (D, C, 1, 1)."""
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def three_by_three(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3 convolution, padded by 1, of (B, C, H, W) with weight (D, C, 3, 3): the sum of nine products."""
    height, width = x.shape[2:]
    rows = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    answer: Tensor | float = 0.0 if bias is None else bias
    for down in range(3):
        for across in range(3):
            part = rows[:, down : down + height, across : across + width]
            answer = answer + F.linear(part, weight[:, :, down, across])
    return torch.as_tensor(answer).permute(0, 3, 1, 2)


def double(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, C, H, W) to (B, D, 2H, 2W) by a transposed convolution with weight (C, D, 2, 2)."""
    batch, _, height, width = x.shape
    outputs = weight.shape[1]
    rows = F.linear(x.permute(0, 2, 3, 1), weight.permute(1, 2, 3, 0).flatten(0, 2))
    places = rows.view(batch, height, width, outputs, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return places.reshape(batch, outputs, 2 * height, 2 * width) + bias[:, None, None]


def _native(x: Tensor, weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> Tensor:
    """torch's own kernel for a convolution per channel, which wants contiguous channels and one type of numbers."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        planes, weight = x.to(dtype).contiguous(), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
        answer = F.conv2d(planes, weight, bias, like.stride, like.padding, like.dilation, like.groups)
    return answer.contiguous(memory_format=torch.channels_last)

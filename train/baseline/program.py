"""What the public baseline computes, stated again: slow, plain, in its own order of operations.

The network's parts are `LiteMedSAM`'s modules; how they are joined is written out here as published:
contiguous (B, C, H, W) and (B, L, C) tensors, attention as `q @ k * scale + bias`, LayerNorm2d by hand, SAM's own
prompt encoder and mask decoder called for one box at a time. Rounding follows the order of operations and the number
of threads, so only this order, with as many threads as made the golden answers, gives them bit for bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from train.networks.litemedsam import LiteMedSAM

SIZE = 256
MARGIN_PX = 3


@dataclass
class Answer:
    """What the baseline says of a case."""

    labels: npt.NDArray[np.uint8]
    logits: list[npt.NDArray[np.float32]] = field(default_factory=list)  # (256, 256) per box, 2D only
    embedding: npt.NDArray[np.float32] | None = None  # (256, 64, 64), 2D only


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch with `count` threads, which decides the order of its sums and so its rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def segment_image(network: LiteMedSAM, image: npt.NDArray[np.uint8], boxes: npt.NDArray) -> Answer:
    """Labels of an image (H, W, 3) and boxes (N, 4): box by box, later ones over earlier ones."""
    height, width = image.shape[:2]
    embedding = encode(network, network_input(image))
    answer = Answer(np.zeros((height, width), np.uint8), embedding=embedding[0].numpy())
    for label, box in enumerate(boxes, start=1):
        logits = decode(network, embedding, box_in_frame(box, height, width))
        answer.logits.append(logits[0, 0].numpy())
        answer.labels[mask_of(logits, height, width)] = label
    return answer


def segment_volume(
    network: LiteMedSAM,
    volume: npt.NDArray[np.uint8],
    boxes: npt.NDArray,
    slices: range | None = None,
    *,
    encode_again: bool = False,
) -> Answer:
    """Labels of a volume (D, H, W) and boxes (N, 6): each box alone, from its middle slice outwards both ways.

    Args:
        slices: which must hold every box's middle, and where each walk ends: the same labels, less work. None: all.
        encode_again: encode a slice for every box anew, as the baseline does, with the same result.
    """
    slices = slices or range(len(volume))
    height, width = volume.shape[1:]
    answer = Answer(np.zeros(volume.shape, np.uint8))

    def encode_slice(z: int) -> Tensor:
        return encode(network, network_input(np.repeat(volume[z][..., None], 3, axis=-1)))

    embedding_of = encode_slice if encode_again else cache(encode_slice)

    for label, (x_min, y_min, z_min, x_max, y_max, z_max) in enumerate(boxes.tolist(), start=1):
        own_box = box_in_frame(np.array([x_min, y_min, x_max, y_max]), height, width)
        found = np.zeros(volume.shape, np.uint8)  # holds the label's value, not 1
        middle = int((z_max - z_min) / 2 + z_min)
        for z in range(middle, min(int(z_max), slices[-1]) + 1):
            box = own_box if z == middle else box_around(found[z - 1], own_box)
            found[z][mask_of(decode(network, embedding_of(z), box), height, width)] = label
        for z in range(middle - 1, max(int(z_min), slices[0]) - 1, -1):
            box = box_around(found[z + 1], own_box)
            found[z][mask_of(decode(network, embedding_of(z), box), height, width)] = label
        answer.labels[found > 0] = label
    return answer


def inner_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the frame that hold image."""
    scale = SIZE / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def resize_longest_side(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """An image or label map with its longest side at 256."""
    rows, columns = inner_size(*image.shape[:2])
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def network_input(image: npt.NDArray[np.uint8]) -> Tensor:
    """(1, 3, 256, 256): resized, stretched from minimum to maximum, then padded."""
    resized = resize_longest_side(image)
    stretched = (resized - resized.min()) / np.clip(resized.max() - resized.min(), 1e-8, None)
    rows, columns = resized.shape[:2]
    padded = np.pad(stretched, ((0, SIZE - rows), (0, SIZE - columns), (0, 0)))
    return torch.tensor(padded).float().permute(2, 0, 1)[None]


def box_in_frame(box: npt.NDArray, height: int, width: int) -> npt.NDArray[np.int64]:
    """The box in the frame, cut to whole pixels."""
    return (np.asarray(box) * (SIZE / max(height, width))).astype(np.int64)


def box_around(labels: npt.NDArray[np.uint8], own_box: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The box of the previous slice's labels in the frame, widened; `own_box` where nothing is left of them."""
    rows, columns = np.nonzero(resize_longest_side(labels))
    if rows.size == 0:
        return own_box
    low = [max(0, columns.min() - MARGIN_PX), max(0, rows.min() - MARGIN_PX)]
    return np.array([*low, min(SIZE, columns.max() + MARGIN_PX), min(SIZE, rows.max() + MARGIN_PX)])


def mask_of(logits: Tensor, height: int, width: int) -> npt.NDArray[np.bool_]:
    """(height, width): padding cropped, resized, sigmoid above a half."""
    rows, columns = inner_size(height, width)
    restored = F.interpolate(logits[..., :rows, :columns], (height, width), mode="bilinear", align_corners=False)
    return (torch.sigmoid(restored)[0, 0] > 0.5).numpy()


@torch.no_grad()
def decode(network: LiteMedSAM, embedding: Tensor, box: npt.NDArray) -> Tensor:
    """Logits (1, 1, 256, 256) of one box (4,) by SAM's own prompt encoder and mask decoder."""
    prompt_encoder = network.prompt_encoder
    corners = torch.as_tensor(box, dtype=torch.float)[None, None]
    sparse, dense = prompt_encoder(points=None, boxes=corners, masks=None)
    positions = prompt_encoder.get_dense_pe()
    return network.mask_decoder(embedding, positions, sparse, dense, multimask_output=False)[0]


@torch.no_grad()
def encode(network: LiteMedSAM, images: Tensor) -> Tensor:
    """Embeddings (B, 256, 64, 64) of (B, 3, 256, 256)."""
    encoder: Any = network.image_encoder
    x = encoder.patch_embed(images)
    for index, stage in enumerate(encoder.layers):
        step: Callable[[Any, Tensor], Tensor] = _mbconv if index == 0 else _block
        for block in stage.blocks:
            x = step(block, x)
        if stage.downsample is not None:
            x = _merge(stage.downsample, x)
    shrink, first_norm, smooth, second_norm = encoder.neck
    return _layer_norm_2d(second_norm, smooth(_layer_norm_2d(first_norm, shrink(x))))


def _mbconv(block: Any, x: Tensor) -> Tensor:
    expanded = F.gelu(block.conv2(F.gelu(block.conv1(x))))
    return F.gelu(block.conv3(expanded) + x)


def _merge(downsample: Any, x: Tensor) -> Tensor:
    return downsample.conv3(F.gelu(downsample.conv2(F.gelu(downsample.conv1(x)))))


def _block(block: Any, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    tokens = x.flatten(2).transpose(1, 2)
    tokens = tokens + _in_windows(block, tokens.view(batch, height, width, channels)).view(tokens.shape)
    x = block.local_conv(tokens.transpose(1, 2).reshape(x.shape))
    tokens = x.view(batch, channels, height * width).transpose(1, 2)
    mlp = block.mlp
    tokens = tokens + mlp.fc2(F.gelu(mlp.fc1(mlp.norm(tokens))))
    return tokens.transpose(1, 2).reshape(x.shape)


def _in_windows(block: Any, rows: Tensor) -> Tensor:
    batch, height, width, channels = rows.shape
    size = block.window
    below, beside = (size - height % size) % size, (size - width % size) % size
    rows = F.pad(rows, (0, 0, 0, beside, 0, below))
    down, across = (height + below) // size, (width + beside) // size
    windows = rows.view(batch, down, size, across, size, channels).transpose(2, 3)
    windows = _attention(block.attn, windows.reshape(batch * down * across, size * size, channels))
    rows = windows.view(batch, down, across, size, size, channels).transpose(2, 3).reshape(rows.shape)
    return rows[:, :height, :width].contiguous()


def _attention(attention: Any, x: Tensor) -> Tensor:
    windows, tokens, width = x.shape
    each = width // attention.heads
    qkv = attention.qkv(attention.norm(x)).view(windows, tokens, attention.heads, 3 * each)
    query, key, value = (part.permute(0, 2, 1, 3) for part in qkv.split(each, dim=3))
    scores = (query @ key.transpose(-2, -1)) * attention.scale + _bias_table(attention, tokens)
    return attention.proj((scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(windows, tokens, width))


def _bias_table(attention: Any, tokens: int) -> Tensor:
    """(heads, tokens, tokens): one learned number per head and |dx|, |dy|, numbered as they are first met."""
    side = int(tokens**0.5)
    points = [(y, x) for y in range(side) for x in range(side)]
    numbers: dict[tuple[int, int], int] = {}
    index = [
        numbers.setdefault((abs(y - other_y), abs(x - other_x)), len(numbers))
        for y, x in points
        for other_y, other_x in points
    ]
    return attention.attention_biases[:, torch.tensor(index).view(tokens, tokens)]


def _layer_norm_2d(norm: Any, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return norm.weight[:, None, None] * ((x - mean) / torch.sqrt(variance + 1e-6)) + norm.bias[:, None, None]

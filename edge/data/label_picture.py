"""Labels drawn as a picture: the numbers that are in the file.

OpenCV turns a palette's numbers into colours and spreads greys of 1, 2 or 4 bits over 0 to 255; so does Pillow with the
greys. Both are undone here: a palette PNG is decoded as the grey PNG that it would be without its palette, and what was
spread is divided again. A TIFF whose 0 is white is turned around by OpenCV; here back where it has 8 bits, as ImageJ
writes them, whose numbers stay. (Pillow, writing such a file, turns the numbers themselves.)
"""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.data.files import write_whole
from edge.data.picture import decode, read_checked
from edge.data.picture_size import JPEG, PNG, announced_size
from edge.errors import CaseError

GREY, PALETTE = 0, 3  # colour types of a PNG
NEEDED = (b"IHDR", b"eXIf", b"IDAT", b"IEND")  # its chunks, without palette and transparency


def read_label_picture(path: Path) -> npt.NDArray:
    """The labels (H, W) of a picture: a palette's numbers, greys of any depth, or colours that are greys.

    Raises:
        CaseError: it cannot be read, is a JPEG, whose numbers are not those that were drawn, or is coloured.
    """
    content = read_checked(path)
    if content[:2] == JPEG:
        raise CaseError(f"{path.stem}: {path.name} is a JPEG, which changes labels; save them as PNG")
    spread = 1
    if content[:8] == PNG and len(content) > 25 and content[25] in (GREY, PALETTE):
        spread = 255 // (2 ** content[24] - 1) if content[24] in (1, 2, 4) else 1
        content = _as_grey(content)
    labels = decode(path, content, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)  # turned as the file says, as images are
    labels = labels if labels.ndim == 2 else _one_channel(path, labels)
    size = announced_size(content)
    if size is not None and size.inverted:
        labels = 255 - labels
    return labels if spread == 1 else labels // spread


def write_label_picture(path: Path, labels: npt.NDArray) -> None:
    """Write a label map (H, W), uint8 or uint16, as a PNG of its numbers.

    Raises:
        RunError: the file cannot be written.
    """
    write_whole(path, cv2.imencode(".png", labels)[1].tobytes())


def _as_grey(content: bytes) -> bytes:
    """A PNG whose numbers are greys, whatever they were."""
    chunks, place = [content[:8]], 8
    while place + 8 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, end = content[place + 4 : place + 8], place + 12 + length
        if kind == b"IHDR":
            header = content[place + 4 : place + 17] + bytes([GREY]) + content[place + 18 : place + 21]
            chunks.append(content[place : place + 4] + header + struct.pack(">I", zlib.crc32(header)))
        elif kind in NEEDED:
            chunks.append(content[place:end])
        place = end
    return b"".join(chunks)


def _one_channel(path: Path, labels: npt.NDArray) -> npt.NDArray:
    first = labels[..., 0]
    if any(not np.array_equal(first, labels[..., channel]) for channel in range(1, min(3, labels.shape[2]))):
        raise CaseError(f"{path.stem}: {path.name} is coloured; save its labels as numbers, a grey or a palette PNG")
    return first

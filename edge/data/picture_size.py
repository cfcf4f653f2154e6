"""How large a picture says it is, read from its first bytes before anything is decoded."""

import struct
from dataclasses import dataclass

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # JPEG markers among 0xC0 to 0xCF that do not begin with the size
TIFF = {b"II*\0": "<", b"MM\0*": ">"}
WIDTH_TAG, HEIGHT_TAG, BITS_TAG, PHOTOMETRIC_TAG = 256, 257, 258, 262
WHITE_IS_ZERO = 0
MAX_PAGES = 4096


@dataclass(frozen=True)
class PictureSize:
    """Of one picture, and how many there are in the file."""

    height: int
    width: int
    pages: int = 1
    inverted: bool = False  # a TIFF of 8 bits whose 0 is white


def announced_size(content: bytes) -> PictureSize | None:
    """The size that a PNG, JPEG, BMP, WebP or TIFF announces; None: it is none of these.

    Raises:
        struct.error, IndexError: it is cut short.
    """
    if content[:8] == PNG and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return PictureSize(height, width)
    if content[:2] == JPEG:
        return _jpeg(content)
    if content[:2] == b"BM":
        return _bmp(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp(content)
    return _tiff(content, TIFF[content[:4]]) if content[:4] in TIFF else None


def _jpeg(content: bytes) -> PictureSize | None:
    place = 2
    while place + 9 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in NOT_FRAMES:
            height, width = struct.unpack(">HH", content[place + 5 : place + 9])
            return PictureSize(height, width)
        # a marker may be preceded by any number of 0xFF
        place += 1 if marker == 0xFF else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return None


def _bmp(content: bytes) -> PictureSize:
    if struct.unpack("<I", content[14:18])[0] == 12:  # OS/2's short header
        width, height = struct.unpack("<HH", content[18:22])
    else:
        width, height = struct.unpack("<ii", content[18:26])
    return PictureSize(abs(height), abs(width))


def _webp(content: bytes) -> PictureSize | None:
    kind = content[12:16]
    if kind == b"VP8X":
        return PictureSize(1 + int.from_bytes(content[27:30], "little"), 1 + int.from_bytes(content[24:27], "little"))
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", content[21:25])
        return PictureSize(1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF))
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", content[26:30])
        return PictureSize(height & 0x3FFF, width & 0x3FFF)
    return None


def _tiff(content: bytes, order: str) -> PictureSize | None:
    """The largest of its pages; reduced copies of a picture count as pages, too."""
    height = width = pages = 0
    bits = photometric = None  # of the first page
    (place,) = struct.unpack(order + "I", content[4:8])
    while place and pages < MAX_PAGES:
        (count,) = struct.unpack(order + "H", content[place : place + 2])
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind = struct.unpack(order + "HH", content[entry : entry + 4])
            if tag in (BITS_TAG, PHOTOMETRIC_TAG) and pages == 0:
                (value,) = struct.unpack(order + "H", content[entry + 8 : entry + 10])
                bits, photometric = (value, photometric) if tag == BITS_TAG else (bits, value)
            if tag in (WIDTH_TAG, HEIGHT_TAG):
                form, size = ("H", 2) if kind == 3 else ("I", 4)
                (length,) = struct.unpack(order + form, content[entry + 8 : entry + 8 + size])
                height, width = (max(height, length), width) if tag == HEIGHT_TAG else (height, max(width, length))
        end = place + 2 + 12 * count
        (place,) = struct.unpack(order + "I", content[end : end + 4])
        pages += 1
    return PictureSize(height, width, pages, (bits, photometric) == (8, WHITE_IS_ZERO)) if pages else None

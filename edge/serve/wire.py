"""Arrays on the wire: the `NNIA` form of nnInteractive's protocol, version 1, with every size checked before memory is
taken.

    4 bytes NNIA, then one byte each: version, codec, dimensions, length of the type's name; the name; int64 lengths
    uint32 number of chunks; of each uint64 bytes unpacked, uint64 bytes packed, and a blosc2 frame

All numbers are little-endian.
"""

import math
import struct

import numpy as np
import numpy.typing as npt

from edge.errors import CaseError

MAGIC, VERSION, ZSTD = b"NNIA", 1, 1
TYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float16", "float32",
         "float64")  # fmt: skip
HEAD, COUNT, CHUNK = struct.Struct("<4sBBBB"), struct.Struct("<I"), struct.Struct("<QQ")
CHUNK_BYTES = 2**30  # blosc2 takes less than 2 GiB at once


def pack_array(array: npt.NDArray) -> bytes:
    """An array as the protocol's bytes."""
    import blosc2

    array = np.ascontiguousarray(array)
    name, raw = array.dtype.name.encode(), array.reshape(-1).view(np.uint8)
    parts = [HEAD.pack(MAGIC, VERSION, ZSTD, array.ndim, len(name)), name, struct.pack(f"<{array.ndim}q", *array.shape)]
    pieces = [raw[start : start + CHUNK_BYTES] for start in range(0, raw.size, CHUNK_BYTES)]
    parts.append(COUNT.pack(len(pieces)))
    for piece in pieces:
        packed = blosc2.compress2(piece, typesize=1, codec=blosc2.Codec.ZSTD, clevel=1)
        parts += [CHUNK.pack(piece.size, len(packed)), packed]
    return b"".join(parts)


def announced(content: bytes) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape and type that an array's bytes announce, and where its chunks begin; nothing is unpacked.

    Raises:
        CaseError: they are no such array.
    """
    try:
        magic, version, _, dimensions, length = HEAD.unpack_from(content)
        place = HEAD.size + length
        name = content[HEAD.size : place].decode("ascii")
        shape = struct.unpack_from(f"<{dimensions}q", content, place)
    except (struct.error, UnicodeDecodeError):
        raise CaseError("array: cut short; send it again") from None
    if magic != MAGIC or version != VERSION:
        raise CaseError(f"array: expected {MAGIC!r} version {VERSION}, got {magic!r} version {version}")
    if name not in TYPES:
        raise CaseError(f"array: type must be one of {', '.join(TYPES)}, got {name!r}")
    if not shape or min(shape) < 1:
        raise CaseError(f"array: every side must be at least 1, got shape {shape}")
    return shape, np.dtype(name), place + 8 * dimensions


def unpack_array(content: bytes) -> npt.NDArray:
    """The array; whoever calls has looked at what `announced` says of its size.

    Raises:
        CaseError: its chunks are not what it announces.
    """
    import blosc2

    shape, dtype, place = announced(content)
    size = math.prod(shape) * dtype.itemsize
    frames = _frames(content, place, size)
    raw, filled = np.empty(size, np.uint8), 0
    for unpacked, frame in frames:
        try:
            holds, needs, _ = blosc2.get_cbuffer_sizes(frame)
            if holds != unpacked or needs > len(frame):
                raise ValueError("its frame has another size than it says")
            blosc2.decompress2(frame, dst=raw[filled : filled + unpacked])
        except Exception as error:  # blosc2 raises RuntimeError and ValueError, and its C library more
            raise CaseError(f"array: a chunk cannot be unpacked ({error}); send it again") from None
        filled += unpacked
    return raw.view(dtype).reshape(shape)


def _frames(content: bytes, place: int, size: int) -> list[tuple[int, memoryview]]:
    """Bytes unpacked and the frame of each chunk, which make up `size` bytes in all."""
    view, frames = memoryview(content), []
    try:
        (count,) = COUNT.unpack_from(content, place)
        place += COUNT.size
        for _ in range(count):
            unpacked, packed = CHUNK.unpack_from(content, place)
            place += CHUNK.size + packed
            if not 0 < unpacked <= 2 * CHUNK_BYTES or place > len(content):
                raise CaseError("array: a chunk reaches beyond its end; send it again")
            frames.append((unpacked, view[place - packed : place]))
    except struct.error:
        raise CaseError("array: cut short; send it again") from None
    if (found := sum(unpacked for unpacked, _ in frames)) != size:
        raise CaseError(f"array: its chunks hold {found} bytes, its shape needs {size}")
    return frames

"""Each needed slice through the image encoder once, for all boxes, in batches."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Embedding = npt.NDArray[np.float32]


def encode_slices(
    encode: Callable[[npt.NDArray[np.float32]], Embedding],
    prepare_slice: Callable[[int], npt.NDArray[np.float32]],
    order: Sequence[int],
    *,
    batch: int,
    budget_bytes: int,
) -> Iterator[tuple[int, Embedding]]:
    """The embedding of every slice of `order`, in that order.

    A slice that comes again later is kept instead of encoded again, as long as what is kept stays within
    `budget_bytes`; past that it is encoded a second time, which costs time but changes nothing.

    Args:
        encode: network inputs (B, 3, S, S) to embeddings (B, C, h, w) that the caller owns.
        prepare_slice: slice index to network input (3, S, S).
        order: slice indices; one may appear more than once.
        batch: slices per call of `encode`.

    Yields:
        Slice index and embedding (1, C, h, w).
    """
    last_use = {z: position for position, z in enumerate(order)}
    kept: dict[int, Embedding] = {}
    for position, z in enumerate(order):
        if z not in kept:
            ahead = _next_missing(order, position, kept, batch)
            kept.update(zip(ahead, _encode_batch(encode, prepare_slice, ahead), strict=True))
        embedding = kept[z]
        if last_use[z] == position or _size(kept) > budget_bytes:
            del kept[z]
        yield z, embedding


def _next_missing(order: Sequence[int], position: int, kept: dict[int, Embedding], batch: int) -> list[int]:
    """The next up to `batch` different slices of `order` from `position` on that are not kept."""
    missing: list[int] = []
    for z in order[position:]:
        if z not in kept and z not in missing:
            missing.append(z)
            if len(missing) == batch:
                break
    return missing


def _encode_batch(
    encode: Callable[[npt.NDArray[np.float32]], Embedding],
    prepare_slice: Callable[[int], npt.NDArray[np.float32]],
    slices: list[int],
) -> list[Embedding]:
    embeddings = encode(np.stack([prepare_slice(z) for z in slices]))
    return [embeddings[i : i + 1].copy() if len(slices) > 1 else embeddings for i in range(len(slices))]


def _size(kept: dict[int, Embedding]) -> int:
    return sum(embedding.nbytes for embedding in kept.values())

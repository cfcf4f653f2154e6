"""Embeddings of whole slices, kept while boxes may ask for them again."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Embedding = npt.NDArray[np.float32]


class Embeddings:
    """The embedding of each slice that was encoded last, within a budget.

    Past the budget the slice that was used longest ago is dropped, and encoded a second time if it is asked for again:
    that costs time and changes nothing.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._kept: dict[int, Embedding] = {}  # the one used last at the end

    def get(self, z: int, encode: Callable[[], Embedding]) -> Embedding:
        """The embedding (1, C, h, w) of slice z, encoded if it is not kept."""
        embedding = self._kept.pop(z) if z in self._kept else encode()
        self._kept[z] = embedding
        while len(self._kept) > 1 and self.nbytes > self._budget_bytes:
            del self._kept[next(iter(self._kept))]
        return embedding

    @property
    def nbytes(self) -> int:
        """Of what is kept; may be asked while another thread adds to it."""
        return sum(kept.nbytes for kept in list(self._kept.values()))

    def forget(self, z: int) -> None:
        """Slice z is not needed any more."""
        self._kept.pop(z, None)

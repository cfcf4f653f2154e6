"""Embeddings of slices or views, kept while boxes may ask for them again."""

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Embedding = npt.NDArray[np.float32]
Key = TypeVar("Key", bound=Hashable)  # what was encoded, such as the number of a slice


class Embeddings(Generic[Key]):
    """The embeddings of what was encoded last, within a budget.

    Past the budget what was used longest ago is dropped, and encoded a second time if it is asked for again:
    that costs time and changes nothing.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._kept: dict[Key, Embedding] = {}  # the one used last at the end

    def __iter__(self) -> Iterator[Key]:
        """What is kept, the one used last at the end."""
        return iter(self._kept)

    def get(self, key: Key, encode: Callable[[], Embedding]) -> Embedding:
        """The embedding (1, C, h, w) of a key, encoded if it is not kept."""
        embedding = self._kept.pop(key) if key in self._kept else encode()
        self._kept[key] = embedding
        while len(self._kept) > 1 and self.nbytes > self._budget_bytes:
            del self._kept[next(iter(self._kept))]
        return embedding

    @property
    def nbytes(self) -> int:
        """Of what is kept; may be asked while another thread adds to it."""
        return sum(kept.nbytes for kept in list(self._kept.values()))

    def forget(self, key: Key) -> None:
        """It is not needed any more."""
        self._kept.pop(key, None)

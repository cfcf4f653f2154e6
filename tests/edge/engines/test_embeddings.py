"""Embeddings of whole slices: each slice through the encoder once, whatever comes of the budget."""

import numpy as np
import pytest

from edge.engines.embeddings import Embeddings

ORDERS = [[5], [3, 4, 5, 2, 1], [4, 5, 6, 7, 4, 3, 2], [2, 3, 4, 5, 5, 4, 3, 2, 1, 0], [1, 1, 2, 2], []]
ONE = 64  # bytes of an embedding


class Recorder:
    """An encoder whose embedding of slice z is filled with z, 64 bytes, and that remembers what it encoded."""

    def __init__(self, budget_bytes: int = 10**9) -> None:
        self.encoded: list[int] = []
        self.embeddings = Embeddings(budget_bytes)

    def ask(self, *order: int) -> list[int]:
        """The slices whose embeddings came back."""
        found = [self.embeddings.get(z, lambda z=z: self._encode(z)) for z in order]
        assert all(embedding.shape == (1, 4, 2, 2) and np.ptp(embedding) == 0 for embedding in found)
        return [int(embedding.mean()) for embedding in found]

    def _encode(self, z: int) -> np.ndarray:
        self.encoded.append(z)
        return np.full((1, 4, 2, 2), z, np.float32)


@pytest.mark.parametrize("order", ORDERS)
def test_each_slice_is_encoded_once_and_comes_in_order(order: list[int]) -> None:
    """Slices that come again on the way down are kept."""
    recorder = Recorder()
    assert recorder.ask(*order) == order
    assert recorder.encoded == list(dict.fromkeys(order))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("budget", [0, ONE, 2 * ONE, 3 * ONE])
def test_with_any_budget_the_same_embeddings_come(order: list[int], budget: int) -> None:
    """The budget costs time and changes nothing; a slice is never encoded more often than it is asked for."""
    recorder = Recorder(budget)
    assert recorder.ask(*order) == order
    assert all(recorder.encoded.count(z) <= order.count(z) for z in order)


def test_without_a_budget_only_the_last_one_stays() -> None:
    """It is there for the next boxes of its slice."""
    recorder = Recorder(0)
    recorder.ask(1, 1, 2, 2, 1)
    assert recorder.encoded == [1, 2, 1]


def test_the_budget_bounds_what_is_kept_and_the_oldest_goes() -> None:
    """Room for two: of slices 0 to 5 and back 5 and 4 are kept, the others not."""
    recorder = Recorder(2 * ONE)
    recorder.ask(0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0)
    assert recorder.encoded == [0, 1, 2, 3, 4, 5, 3, 2, 1, 0]


def test_what_was_used_again_is_no_longer_the_oldest() -> None:
    """Room for two, slice 1 asked for between 2 and 3: 2 goes."""
    recorder = Recorder(2 * ONE)
    recorder.ask(1, 2, 1, 3, 1)
    assert recorder.encoded == [1, 2, 3]
    recorder.ask(2)
    assert recorder.encoded == [1, 2, 3, 2]


def test_a_slice_that_is_forgotten_makes_room() -> None:
    """Room for two: 1 and 3 stay, as 2 was done. One that is not there can be forgotten, too."""
    recorder = Recorder(2 * ONE)
    recorder.ask(1, 2)
    recorder.embeddings.forget(2)
    recorder.embeddings.forget(7)
    recorder.ask(3, 1)
    assert recorder.encoded == [1, 2, 3]
    recorder.ask(2)
    assert recorder.encoded == [1, 2, 3, 2]


def test_a_kept_embedding_survives_later_calls() -> None:
    """It is the encoder's own array, neither copied nor written to."""
    recorder = Recorder()
    first = recorder.embeddings.get(1, lambda: np.full((1, 4, 2, 2), 1, np.float32))
    recorder.ask(2, 3)
    assert recorder.embeddings.get(1, lambda: np.zeros((1, 4, 2, 2), np.float32)) is first and (first == 1).all()

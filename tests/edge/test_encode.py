"""Each slice through the encoder once, in order, whatever the batch and the budget."""

import numpy as np
import pytest

from edge.encode import encode_slices


class Recorder:
    """An encoder whose embedding of slice z is filled with z, and that remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def encode(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(images[:, 0, 0, 0].astype(int).tolist())
        return np.repeat(images[:, :1, :2, :2], 4, axis=1).astype(np.float32)

    def run(self, order: list[int], batch: int = 1, budget: int = 10**9) -> list[tuple[int, np.ndarray]]:
        steps = encode_slices(self.encode, prepare_slice, order, batch=batch, budget_bytes=budget)
        return [(z, embedding.copy()) for z, embedding in steps]

    @property
    def encoded(self) -> list[int]:
        return [z for call in self.calls for z in call]


def prepare_slice(z: int) -> np.ndarray:
    return np.full((3, 4, 4), z, np.float32)


def values(steps: list[tuple[int, np.ndarray]]) -> list[tuple[int, float]]:
    assert all(embedding.shape == (1, 4, 2, 2) for _, embedding in steps)
    return [(z, float(embedding.mean())) for z, embedding in steps]


ORDERS = [[5], [3, 4, 5, 2, 1], [4, 5, 6, 7, 4, 3, 2], [2, 3, 4, 5, 5, 4, 3, 2, 1, 0], []]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("batch", [1, 2, 3, 20])
def test_each_slice_is_encoded_once_and_comes_in_order(order: list[int], batch: int) -> None:
    """Slices that come again on the way down are kept."""
    recorder = Recorder()
    assert values(recorder.run(order, batch)) == [(z, z) for z in order]
    assert sorted(recorder.encoded) == sorted(set(order))
    assert all(len(call) <= batch for call in recorder.calls)


def test_batches_are_full_but_for_the_last() -> None:
    """Seven slices by three: 3, 3, 1, in walking order."""
    recorder = Recorder()
    recorder.run([4, 5, 6, 3, 2, 1, 0], batch=3)
    assert recorder.calls == [[4, 5, 6], [3, 2, 1], [0]]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_without_a_budget_slices_are_encoded_again_with_the_same_result(order: list[int], batch: int) -> None:
    """The budget costs time and changes nothing."""
    recorder = Recorder()
    assert values(recorder.run(order, batch, budget=0)) == [(z, z) for z in order]
    assert set(recorder.encoded) == set(order)


def test_a_slice_dropped_for_the_budget_is_encoded_a_second_time() -> None:
    """Two slices, both visited twice, nothing kept: four encodes, in the order of the walk."""
    recorder = Recorder()
    recorder.run([1, 2, 2, 1], budget=0)
    assert recorder.encoded == [1, 2, 2, 1]


def test_the_budget_bounds_what_is_kept() -> None:
    """16 floats of 4 bytes a slice and room for two: of slices 0 to 5 and back, 0 and 1 are kept, the others not."""
    recorder = Recorder()
    recorder.run([0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0], budget=2 * 64)
    assert recorder.encoded == [0, 1, 2, 3, 4, 5, 5, 4, 3, 2]


@pytest.mark.parametrize("batch", [1, 2])
def test_a_kept_embedding_survives_later_calls(batch: int) -> None:
    """Embeddings of a batch are cut apart, not views that keep each other alive."""
    recorder = Recorder()
    steps = encode_slices(recorder.encode, prepare_slice, [1, 2, 3, 1], batch=batch, budget_bytes=10**9)
    first = next(steps)[1]
    assert first.base is None or batch == 1
    first_values = first.copy()
    later = list(steps)
    assert np.array_equal(first, first_values) and np.array_equal(later[-1][1], first_values)


def test_slices_are_prepared_only_when_needed() -> None:
    """A volume's network inputs never exist all at once."""
    prepared: list[int] = []

    def prepare(z: int) -> np.ndarray:
        prepared.append(z)
        return prepare_slice(z)

    steps = encode_slices(Recorder().encode, prepare, [7, 8, 9], batch=1, budget_bytes=0)
    next(steps)
    assert prepared == [7]

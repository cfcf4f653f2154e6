"""Where a 3D box lives: the slices of its range, and its middle one."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class SliceRanges:
    """Where each of N boxes lives: first, middle and last slice, all inclusive, each (N,)."""

    first: npt.NDArray[np.int64]
    middle: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    @classmethod
    def from_boxes(cls, boxes: npt.NDArray[np.float64]) -> "SliceRanges":
        """Ranges of boxes (N, 6); the middle slice is `int((z_max - z_min) / 2 + z_min)` as in the challenge."""
        low, high = boxes[:, 2], boxes[:, 5]
        return cls(*(np.floor(z).astype(np.int64) for z in (low, (high - low) / 2 + low, high)))

    def covered_order(self) -> list[int]:
        """The slices any box covers, ascending."""
        return _covered(self.first, self.last)

    def ascending_order(self) -> list[int]:
        """The slices any box covers from its middle up, ascending."""
        return _covered(self.middle, self.last)

    def descending_order(self) -> list[int]:
        """The slices any box covers below its middle, descending."""
        return _covered(self.first, self.middle - 1)[::-1]

    def boxes_per_slice(self) -> dict[int, int]:
        """How many boxes cover each covered slice."""
        return {z: len(self.rows_on(z)) for z in self.covered_order()}

    def rows_on(self, z: int) -> npt.NDArray[np.intp]:
        """Rows of the boxes that cover a slice."""
        return np.flatnonzero((self.first <= z) & (z <= self.last))

    def shares(self, z: int) -> npt.NDArray[np.float64]:
        """How large, (N,), an ellipsoid in each box is on slice z, 1 on the middle slice.

        At u of the way from its middle to its end it is sqrt(1 - u^2) of its middle's size; the end is half a slice
        beyond the last one. Rows whose range z is not in mean nothing.
        """
        half = np.where(z >= self.middle, self.last - self.middle, self.middle - self.first) + 0.5
        return np.sqrt((1 - ((z - self.middle) / half) ** 2).clip(min=0))


def _covered(first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> list[int]:
    covered: set[int] = set()
    for low, high in zip(first.tolist(), last.tolist(), strict=True):
        covered.update(range(low, high + 1))
    return sorted(covered)

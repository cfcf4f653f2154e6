"""What phantoms are made of: irregular blobs, smooth textures, soft edges, noise.

Arithmetic is float32 with + - * / and square roots only: IEEE 754 fixes those to the last bit, so a seed gives the
same bytes on every CPU. Sines, exponentials and normal deviates differ between machines and are not used.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]  # float32 throughout

WAVES = (0.08, 0.06, 0.035)  # largest amplitude of the harmonics 2, 3, 4 of a blob's radius
LARGEST_WAVE = math.sqrt(2) * sum(WAVES)  # a blob's radius stays within 1 +- this


@dataclass(frozen=True)
class Blob:
    """An ellipsoid with a wavy outline that leans over from slice to slice."""

    center: tuple[float, float, float]  # z, y, x in px
    radii: tuple[float, float, float]  # z, and the two in the plane, in px
    axis: tuple[float, float]  # unit vector (x, y) of the last radius
    lean: tuple[float, float]  # y, x in px from the middle to the last slice
    waves: tuple[tuple[float, float], ...]  # cosine and sine part of each harmonic

    @property
    def reach_px(self) -> float:
        """No pixel of the blob lies further from its centre, in y or x."""
        return max(self.radii[1:]) * (1 + LARGEST_WAVE) + max(abs(self.lean[0]), abs(self.lean[1]))

    def depth_px(self, z: int, ys: Array, xs: Array) -> Array:
        """How deep the pixels of slice z lie inside (h, w), about in px; negative outside."""
        dz = (z - self.center[0]) / self.radii[0]
        dy = (ys - (self.center[1] + self.lean[0] * dz))[:, None]
        dx = (xs - (self.center[2] + self.lean[1] * dz))[None, :]
        across = (dy * self.axis[0] - dx * self.axis[1]) / self.radii[1]
        along = (dx * self.axis[0] + dy * self.axis[1]) / self.radii[2]
        distance = np.sqrt(along * along + across * across)
        nonzero = np.maximum(distance, 1e-6)
        cos, sin = along / nonzero, across / nonzero
        radius = np.ones_like(distance)
        cos_k, sin_k = cos, sin
        for a, b in self.waves:
            cos_k, sin_k = cos_k * cos - sin_k * sin, sin_k * cos + cos_k * sin
            radius += a * cos_k + b * sin_k
        return (radius * math.sqrt(max(0.0, 1 - dz * dz)) - distance) * min(self.radii[1:])


def random_blob(
    rng: np.random.Generator,
    center: tuple[float, float, float],
    radii: tuple[float, float, float],
    lean_px: float = 0.0,
) -> Blob:
    """A blob of that place and size with a random direction, outline and lean (up to `lean_px` in y and in x)."""
    x, y = uniform(rng, 0.1, 1), uniform(rng, -1, 1)
    length = math.sqrt(x * x + y * y)
    lean = uniform(rng, -lean_px, lean_px), uniform(rng, -lean_px, lean_px)
    waves = tuple((uniform(rng, -limit, limit), uniform(rng, -limit, limit)) for limit in WAVES)
    return Blob(center, radii, (x / length, y / length), lean, waves)


class Texture:
    """Smooth random values -1 to 1, interpolated in a coarse grid."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], cell_px: float) -> None:
        self.cells = (max(1.0, shape[0] / 4), cell_px, cell_px)
        counts = [int(n / cell) + 2 for n, cell in zip(shape, self.cells, strict=True)]
        self.grid = rng.random(counts, dtype=np.float32) * 2 - 1

    def sample(self, z: int, ys: Array, xs: Array) -> Array:
        """Values (h, w) at slice z, rows (h,) and columns (w,)."""
        plane = _between(self.grid, np.array([z], np.float32), self.cells[0])[0]
        rows = _between(plane, ys, self.cells[1])
        return _between(rows.T, xs, self.cells[2]).T


def _between(grid: Array, at: Array, cell: float) -> Array:
    position = at / cell
    below = position.astype(np.intp)
    part = position - below.astype(np.float32)
    part = (part * part * (3 - 2 * part)).reshape(-1, *[1] * (grid.ndim - 1))
    return grid[below] * (1 - part) + grid[below + 1] * part


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Like `rng.uniform`, whose multiply-add some compilers fuse."""
    return low + (high - low) * rng.random()


def soft(depth_px: Array, edge_px: float) -> Array:
    """0 outside to 1 inside, one half at depth 0, over an edge of `edge_px` to either side."""
    part = np.clip(depth_px / (2 * edge_px) + 0.5, 0, 1)
    return part * part * (3 - 2 * part)


def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Nearly normal, mean 0, standard deviation 1: the sum of four random bytes."""
    return (rng.integers(0, 256, (4, *shape), dtype=np.uint8).sum(0, dtype=np.int16) - 510).astype(np.float32) / 147.8

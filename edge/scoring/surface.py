"""Surface distances as the challenge measures them: Normalized Surface Dice (NSD) at a fixed tolerance.

Method: DeepMind's surface-distance (https://github.com/google-deepmind/surface-distance; Nikolov et al., 2018), which
the challenge's `evaluation/SurfaceDice.py` follows. A surface element lies between every 2 x 2 (x 2) neighbouring
pixels that are not all alike; their pattern, the neighbour code, gives its size as marching squares (cubes) would draw
it. An element agrees when an element of the other surface lies within the tolerance, and NSD is the share of both
surfaces' size that agrees.

Nothing beyond the tolerance matters, so no distance map is made: distances run along the first axis only, as small
integers, and each element looks at the few columns of voxels within its reach. The answer is exact.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

CORNERS = tuple(itertools.product((0, 1), repeat=3))  # of 2 x 2 x 2 voxels; the first is the code's highest bit


def normalized_surface_dice(
    truth: npt.NDArray[np.bool_], prediction: npt.NDArray[np.bool_], spacing: Sequence[float], tolerance: float
) -> float:
    """NSD of two masks, 0 to 1. Cropping both to where either is changes nothing but the time.

    Args:
        truth: (H, W) for contours, (D, H, W) for surfaces.
        prediction: of the same shape.
        spacing: pixel size along each axis of the array, in array order.
        tolerance: in the unit of `spacing`.

    Returns:
        0 when only one mask is empty, NaN when both are.
    """
    codes = neighbour_codes(truth), neighbour_codes(prediction)
    sizes = contour_lengths(spacing) if truth.ndim == 2 else surface_areas(spacing)
    full = len(sizes) - 1
    agreed = total = 0.0
    for own, other in (codes, codes[::-1]):
        elements = np.nonzero((own != 0) & (own != full))
        size = sizes[own[elements]]
        near = _within(elements, (other != 0) & (other != full), spacing, tolerance)
        agreed += float(size[near].sum())
        total += float(size.sum())
    return agreed / total if total else float("nan")


def neighbour_codes(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Code of every 2 x 2 (x 2) neighbourhood, those half outside the mask included: one more than pixels per axis."""
    codes = np.zeros([length + 1 for length in mask.shape], np.uint8)
    values = mask.view(np.uint8)
    for bit, corner in enumerate(itertools.product((1, 0), repeat=mask.ndim)):
        place = tuple(slice(1 - c, 1 - c + length) for c, length in zip(corner, mask.shape, strict=True))
        codes[place] |= values << np.uint8(bit)
    return codes


def contour_lengths(spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Length of the contour in each of the 16 neighbourhoods of 2 x 2 pixels, (16,)."""
    along_first, along_second = spacing
    lengths = np.full(16, 0.5 * float(np.hypot(along_first, along_second)))  # cuts one corner off
    lengths[[0, 15]] = 0
    lengths[[0b0110, 0b1001]] *= 2
    lengths[[0b0101, 0b1010]] = along_first
    lengths[[0b0011, 0b1100]] = along_second
    return lengths


def surface_areas(spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Area of the surface in each of the 256 neighbourhoods of 2 x 2 x 2 voxels, (256,)."""
    first, second, third = spacing
    faces = np.array([second * third, first * third, first * second])  # of a voxel, by the axis they face
    areas: npt.NDArray[np.float64] = np.linalg.norm(_normals() * faces, axis=2).sum(axis=1)
    return areas


@cache
def _normals() -> npt.NDArray[np.float64]:
    """For each code, the surface's triangles in a cube of side 1 as normals whose length is the area, (256, 4, 3)."""
    table = np.zeros((256, 4, 3))
    for code, normals in enumerate(table):
        inside = {corner for bit, corner in enumerate(reversed(CORNERS)) if code >> bit & 1}
        if len(inside) > 4:  # the surface is the same seen from its other side
            inside = set(CORNERS) - inside
        found = [normal for piece in _connected(inside) for normal in _normals_around(piece)]
        if found:
            normals[: len(found)] = found
    return table


def _normals_around(piece: set[tuple[int, ...]]) -> list[npt.NDArray[np.float64]]:
    """The triangles that part 1 to 4 connected corners from the rest, as normals whose length is the area.

    Signs are left out and parallel triangles are added up. Where a polygon is not flat its area depends on how it is
    cut into triangles; this is the cut of the public table.
    """
    edges = _edges(piece)
    used = np.bincount([axis for axis, _ in edges], minlength=3)
    every = np.ones(3)
    if len(piece) == 1:
        return [every / 8]
    if len(piece) == 2:
        return [(used == 0) / 2]
    if len(piece) == 3:
        return [(used == 0) / 2, every * 3 / 8]
    if len(edges) == 4:  # a whole face of the cube
        return [(used == 0) * 1.0]
    touching = [sum(corner in ends for _, ends in edges) for corner in piece]
    if max(touching) == 3:  # a corner and its three neighbours
        return [every * 3 / 4]
    ends = {corner for corner, count in zip(piece, touching, strict=True) if count == 1}
    middle = next(axis for axis, pair in edges if not pair & ends)  # of the three edges of a path
    return [every / 2] + [(every - np.eye(3)[axis]) / 4 for axis in range(3) if axis != middle]


def _edges(corners: set[tuple[int, ...]]) -> list[tuple[int, set[tuple[int, ...]]]]:
    """Pairs of neighbouring corners, each with the axis it runs along."""
    pairs = itertools.combinations(sorted(corners), 2)
    differences = [([axis for axis in range(3) if a[axis] != b[axis]], {a, b}) for a, b in pairs]
    return [(axes[0], pair) for axes, pair in differences if len(axes) == 1]


def _connected(corners: set[tuple[int, ...]]) -> list[set[tuple[int, ...]]]:
    """Corners in groups that edges of the cube connect."""
    groups: list[set[tuple[int, ...]]] = [{corner} for corner in corners]
    for _, pair in _edges(corners):
        joined = set().union(*(group for group in groups if group & pair))
        groups = [group for group in groups if not group & pair] + [joined]
    return groups


def _within(
    elements: tuple[npt.NDArray[np.intp], ...],
    surface: npt.NDArray[np.bool_],
    spacing: Sequence[float],
    tolerance: float,
) -> npt.NDArray[np.bool_]:
    """Which of N elements, given as N indices per axis, have an element of `surface` within the tolerance, (N,)."""
    widest = math.hypot(*((length - 1) * step for length, step in zip(surface.shape, spacing, strict=True)))
    if widest <= tolerance:  # voxels are far smaller than it, and columns many
        return np.ones(len(elements[0]), np.bool_)
    offsets, reaches = _columns(surface.shape, spacing, tolerance)
    steps, margins = _steps_along_first_axis(surface, offsets, reaches)
    places = np.ravel_multi_index([index + m for index, m in zip(elements, margins, strict=True)], steps.shape)
    strides = np.array([np.prod(steps.shape[axis + 1 :], dtype=np.intp) for axis in range(1, steps.ndim)])
    flat = steps.ravel()
    found = np.zeros(len(places), np.bool_)
    open_rows = np.arange(len(places))
    for shift, reach in zip((offsets @ strides).tolist(), reaches.tolist(), strict=True):
        hit = flat[places[open_rows] + shift] <= reach
        found[open_rows[hit]] = True
        open_rows = open_rows[~hit]
        if not len(open_rows):
            break
    return found


def _columns(
    shape: tuple[int, ...], spacing: Sequence[float], tolerance: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Columns along the first axis that come within the tolerance, nearest first.

    Returns:
        Offsets over the other axes, (C, ndim - 1), and how many steps each may go along the first axis, (C,).
    """
    # one more than may be needed: the division may round down
    radii = [min(int(tolerance / step) + 1, length) for step, length in zip(spacing, shape, strict=True)]
    grid = np.indices([radii[0] + 1] + [2 * radius + 1 for radius in radii[1:]])
    squares = np.zeros(grid.shape[1:])
    for index, radius, step in zip(grid, [0, *radii[1:]], spacing, strict=True):
        squares += ((index - radius) * step) ** 2  # axis by axis, as SciPy sums: a tie must round the same way
    reaches = (np.sqrt(squares) <= tolerance).sum(axis=0) - 1
    order = np.argsort(squares[0], axis=None, kind="stable")
    order = order[reaches.ravel()[order] >= 0]
    offsets = grid[1:, 0].reshape(len(radii) - 1, -1).T - np.array(radii[1:])
    return offsets[order], reaches.ravel()[order]


def _steps_along_first_axis(
    surface: npt.NDArray[np.bool_], offsets: npt.NDArray[np.intp], reaches: npt.NDArray[np.intp]
) -> tuple[npt.NDArray, list[int]]:
    """Steps along the first axis to the nearest element, capped just above the longest reach.

    Returns:
        The steps, with a margin around the other axes as wide as the farthest offset; the margin of each axis.
    """
    margins = [0, *np.abs(offsets).max(axis=0, initial=0).tolist()]
    cap = int(reaches.max(initial=0)) + 1
    shape = [length + 2 * margin for length, margin in zip(surface.shape, margins, strict=True)]
    steps = np.full(shape, cap, np.min_scalar_type(cap + 1))
    inner = tuple(slice(margin, margin + length) for margin, length in zip(margins, surface.shape, strict=True))
    steps[inner][surface] = 0
    if cap > 1:
        for rows in (steps, steps[::-1]):
            for previous, row in itertools.pairwise(rows):
                np.minimum(row, previous + 1, out=row)
    return steps, margins

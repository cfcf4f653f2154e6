"""Boxes around lesions measured as in RECIST: by a long axis, and by a short one across it where that is known.

A lesion is taken for the ellipse that has these axes, a circle where only the long one is known, and for as deep as its
short axis is long. Lines lie in one slice.
"""

import numpy as np
import numpy.typing as npt

from edge.errors import CaseError

SAME_SLICE = 0.5  # slices between the ends of a line

Points = npt.NDArray[np.float64]


def boxes_of_lines(name: str, lines: Points, spacing_mm: tuple[float, ...], shape: tuple[int, ...]) -> Points:
    """Boxes (N, 4) or (N, 6), corners in pixels, within the image.

    Args:
        name: of the case.
        lines: (N, 4, 2) or (N, 4, 3): ends of the long axis, then of the short one (NaN: not known), indices x, y[, z].
        spacing_mm: (y, x) or (z, y, x), or ones.
        shape: (H, W) or (D, H, W).

    Raises:
        CaseError: a line without a length, or across slices.
    """
    axes = lines.shape[-1]
    if axes == 3 and (np.nanmax(lines[..., 2], axis=1) - np.nanmin(lines[..., 2], axis=1) > SAME_SLICE).any():
        raise CaseError(f"{name}: a measured line runs through several slices; expected both ends in one")
    if (np.nanmin(lines, axis=1) < -1).any() or (np.nanmax(lines, axis=1) > np.array(shape[::-1])).any():
        raise CaseError(f"{name}: a measured line ends outside the image {shape}; are its units and frame right?")
    steps = np.array(spacing_mm[::-1])
    mm = lines * steps
    middle, long = (mm[:, 0] + mm[:, 1]) / 2, (mm[:, 1] - mm[:, 0]) / 2
    if not (np.linalg.norm(long, axis=1) > 0).all():
        raise CaseError(f"{name}: a measured line has no length; expected two ends that differ")
    short = (mm[:, 3] - mm[:, 2]) / 2
    across = np.zeros_like(long)
    across[:, 0], across[:, 1] = -long[:, 1], long[:, 0]
    short = np.where(np.isnan(short), across, short)
    half = np.hypot(long, short)  # of the ellipse's extent along each axis
    if axes == 3:
        half[:, 2] = np.linalg.norm(short, axis=1)
    low, high = np.fmin(middle - half, np.nanmin(mm, axis=1)), np.fmax(middle + half, np.nanmax(mm, axis=1))
    corners = np.stack([low, high], axis=1) / steps
    if axes == 3:
        corners[..., 2] = np.rint(corners[..., 2])
    return corners.clip(0, np.array(shape[::-1], np.float64) - 1).reshape(len(lines), 2 * axes)

"""Where something is true in an array: what boxes, crops and changed blocks are made of."""

import numpy as np
import numpy.typing as npt

Extent = tuple[slice, ...]  # along each axis, which is how an array is cut to it


def extent_of(mask: npt.NDArray[np.bool_]) -> Extent:
    """The smallest part of a mask of any number of axes with all that is true in it; empty where nothing is."""
    part: Extent = ()
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        found = np.flatnonzero(mask[part].any(axis=others))
        if not found.size:
            return (slice(0, 0),) * mask.ndim
        part = (*part, slice(int(found[0]), int(found[-1]) + 1))
    return part


def box_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The box (4,) x_min, y_min, x_max, y_max, inclusive pixels, around what is true of (H, W), which something is."""
    rows, columns = extent_of(mask)
    return np.array([columns.start, rows.start, columns.stop - 1, rows.stop - 1], np.float64)

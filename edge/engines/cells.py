"""The cells of the embedding that a box's mask can reach, and logit maps put together of those cells' pixels.

A decoder that takes `cells` upscales only these: most of its time is spent there, and most boxes are small.
"""

import numpy as np
import numpy.typing as npt

OUTSIDE = np.float32(-1)  # logit of a pixel that was not asked for

Windows = npt.NDArray[np.int64]  # (N, 4): first row, first column, one past the last row, one past the last column


def windows_over(within: npt.NDArray[np.float32], grid: int, cell_px: int) -> Windows:
    """Windows in cells of a grid x grid embedding that hold every pixel of boxes, each its own.

    Args:
        within: (N, 4) x_min y_min x_max y_max in the model frame.
        cell_px: side of a cell in the model frame.
    """
    corners = within[:, [1, 0, 3, 2]].astype(np.float64)
    first = np.floor(corners[:, :2] / cell_px).clip(0, grid - 1)
    stop = (np.floor(corners[:, 2:] / cell_px) + 1).clip(first + 1, grid)
    return np.concatenate([first, stop], axis=1).astype(np.int64)


def cells_of(windows: Windows, grid: int) -> npt.NDArray[np.int32]:
    """Indices (M,) of the windows' cells, row by row, among N x grid x grid."""
    places = np.arange(len(windows) * grid * grid, dtype=np.int32).reshape(len(windows), grid, grid)
    pairs = zip(places, windows.tolist(), strict=True)
    return np.concatenate([cells[top:bottom, left:right].ravel() for cells, (top, left, bottom, right) in pairs])


def logit_maps(patches: npt.NDArray[np.float32], windows: Windows, grid: int) -> npt.NDArray[np.float32]:
    """Maps (N, grid x p, grid x p) of the patches (M, p, p) of `cells_of`; OUTSIDE where there is none."""
    side = patches.shape[1]
    maps = np.full((len(windows), grid * side, grid * side), OUTSIDE, np.float32)
    start = 0
    for logits, (top, left, bottom, right) in zip(maps, windows.tolist(), strict=True):
        height, width = bottom - top, right - left
        part = patches[start : start + height * width].reshape(height, width, side, side).swapaxes(1, 2)
        logits[top * side : bottom * side, left * side : right * side] = part.reshape(height * side, width * side)
        start += height * width
    return maps

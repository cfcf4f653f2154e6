"""Where something is true, by hand."""

import numpy as np

from edge.data.extent import box_of, extent_of


def test_an_extent_cuts_an_array_to_what_is_true() -> None:
    """Rows 2 to 4, column 5; a pixel in a corner; two voxels that share no row or column; empty where nothing is."""
    mask = np.zeros((8, 9), bool)
    assert mask[extent_of(mask)].shape == (0, 0)
    mask[2, 5] = mask[4, 5] = True
    assert extent_of(mask) == (slice(2, 5), slice(5, 6)) and mask[extent_of(mask)].shape == (3, 1)
    mask[7, 8] = True
    assert extent_of(mask) == (slice(2, 8), slice(5, 9))
    volume = np.zeros((3, 4, 5), bool)
    volume[0, 3, 1] = volume[2, 1, 4] = True
    assert extent_of(volume) == (slice(0, 3), slice(1, 4), slice(1, 5))
    assert extent_of(volume[:, :1]) == (slice(0, 0),) * 3


def test_a_box_is_x_before_y_and_inclusive() -> None:
    """Worked by hand."""
    mask = np.zeros((6, 8), np.bool_)
    mask[1:3, 2:6] = True
    assert box_of(mask).tolist() == [2, 1, 5, 2]

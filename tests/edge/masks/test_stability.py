"""How sure the model is of a mask: by hand."""

import numpy as np

from edge.masks.stability import mask_areas, stability
from edge.views.view import View


def test_the_score_of_a_mask_by_hand() -> None:
    """Three of 8 x 4 logits are above 1, six above -1; padding does not count, and an area is in px of the image."""
    logits = np.full((8, 8), 9, np.float32)
    logits[:4] = -1
    logits[0, :6] = [2, 1.5, 1.001, 1, 0, -0.5]
    areas = mask_areas(logits, View.letterbox(4, 8, size=8))
    assert areas.tolist() == [3, 6] and stability(areas) == 0.5
    assert mask_areas(logits, View.letterbox(8, 16, size=8)).tolist() == [12, 24]


def test_slices_add_up_and_nothing_scores_0() -> None:
    """Over a volume it is the IoU of the two volumes, whatever each slice has."""
    assert stability(np.array([1.0, 4.0]) + np.array([5.0, 6.0])) == 0.6
    assert stability(np.zeros(2)) == 0 and stability(np.array([0.0, 7.0])) == 0

"""How sure the model is of a mask: SAM's stability score, how little the mask changes with its threshold.

The IoU of the masks at logits above 1 and above -1, of which the first lies in the second; of a volume over all slices.
"""

import numpy as np
import numpy.typing as npt

from edge.masks.restore import Logits
from edge.views.view import View

OFFSET = 1.0  # above and below the threshold 0 of a mask

Areas = npt.NDArray[np.float64]  # (..., 2) px of the image: of logits above OFFSET, of those above -OFFSET


def mask_areas(logits: Logits, view: View) -> Areas:
    """The two areas of a view's logit map (size, size), which add up over slices."""
    inner = logits[: view.inner_height, : view.inner_width]
    px = view.height * view.width / inner.size
    return px * np.array([np.count_nonzero(inner > OFFSET), np.count_nonzero(inner > -OFFSET)])


def stability(areas: Areas) -> float:
    """The score of areas (2,), 0 to 1; 0 where nothing was found."""
    return float(areas[0] / areas[1]) if areas[1] else 0.0

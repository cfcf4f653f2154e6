"""A whole map of logits brought back to its image, for tests that compare pixel by pixel."""

import numpy as np

from edge.masks.restore import LogitWindow, restore_rows
from edge.views.view import View


def restored(logits: np.ndarray, letterbox: View) -> np.ndarray:
    """Logits (size, size) of a letterbox at its image's size (height, width), positive or not."""
    rows, columns = letterbox.inner_height, letterbox.inner_width
    window = LogitWindow(1, letterbox, 0, 0, logits[:rows, :columns], (0, rows - 1), (0, columns - 1))
    return restore_rows(window, letterbox.width, 0, letterbox.height)[2]

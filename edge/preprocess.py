"""A slice or image -> network input, in the frame that `geometry.Frame` describes."""

import cv2
import numpy as np
import numpy.typing as npt

from edge.geometry import MODEL_SIZE, Frame


def prepare(image: npt.NDArray[np.uint8], size: int = MODEL_SIZE) -> npt.NDArray[np.float32]:
    """Network input (3, size, size) in [0, 1] of an image (H, W, 3) or a slice (H, W).

    Longest side resized to `size` (area averaging on uint8), then minimum to maximum over all channels stretched to
    [0, 1], then zeros at the bottom and right: the order of the public baseline. A constant image becomes zeros.
    """
    frame = Frame(image.shape[0], image.shape[1], size)
    resized = resize_to_frame(image, frame)
    low, high = int(resized.min()), int(resized.max())
    inner = (resized.astype(np.float32) - low) / np.float32(max(high - low, 1e-8))
    padded = np.zeros((3, size, size), dtype=np.float32)
    padded[:, : frame.inner_height, : frame.inner_width] = inner if inner.ndim == 2 else inner.transpose(2, 0, 1)
    return padded


def resize_to_frame(image: npt.NDArray[np.uint8], frame: Frame) -> npt.NDArray[np.uint8]:
    """The image area-averaged to the frame's inner size (inner_height, inner_width[, 3]), still uint8."""
    size = (frame.inner_width, frame.inner_height)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

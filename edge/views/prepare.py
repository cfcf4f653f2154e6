"""A slice or image -> network input, in the frame that `geometry.Frame` describes."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from edge.views.letterbox import MODEL_SIZE, Frame

SAM_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of the colours SAM was trained on, 0 to 255
SAM_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)

Array = npt.NDArray[np.float32]


def prepare(image: npt.NDArray, size: int = MODEL_SIZE, normalisation: str = "min-max") -> Array:
    """Network input (3, size, size) of an image (H, W, 3) or a slice (H, W), uint8 (or float32 with z-score).

    Longest side resized to `size` (area averaging in the image's own type), then normalised, then zeros at the bottom
    and right: the order of the public baseline.

    Args:
        normalisation: one of NORMALISATIONS. `min-max` stretches minimum to maximum over all channels to [0, 1], a
            constant image becomes zeros; `sam` takes SAM's mean colour away and divides by its deviation; `z-score`
            does so with the image's own mean and deviation over all channels.
    """
    frame = Frame(image.shape[0], image.shape[1], size)
    inner = NORMALISATIONS[normalisation](resize_to_frame(image, frame))
    padded = np.zeros((3, size, size), dtype=np.float32)
    padded[:, : frame.inner_height, : frame.inner_width] = inner if inner.ndim == 2 else inner.transpose(2, 0, 1)
    return padded


def resize_to_frame(image: npt.NDArray, frame: Frame) -> npt.NDArray:
    """The image area-averaged to the frame's inner size (inner_height, inner_width[, 3]), its type kept."""
    size = (frame.inner_width, frame.inner_height)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=image.dtype)


def _min_max(image: npt.NDArray) -> Array:
    low, high = int(image.min()), int(image.max())
    return (image.astype(np.float32) - low) / np.float32(max(high - low, 1e-8))


def _sam(image: npt.NDArray) -> Array:
    colours = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    return (colours.astype(np.float32) - SAM_MEAN) / SAM_DEVIATION


def _z_score(image: npt.NDArray) -> Array:
    values = image.astype(np.float32)
    return (values - values.mean()) / max(float(values.std()), 1e-8)


# name in model.json -> of a resized image, before padding
NORMALISATIONS: dict[str, Callable[[npt.NDArray], Array]] = {"min-max": _min_max, "sam": _sam, "z-score": _z_score}

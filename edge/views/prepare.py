"""What a view shows -> network input. The one place where intensities are normalised."""

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from edge.prompts.prompt import Neighbour, Prompt
from edge.prompts.propagation import mask_value
from edge.views.view import FRAME_PX, View

SAM_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of the colours SAM was trained on, 0 to 255
SAM_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)

RANGES_KEPT = 64  # slices whose minimum and maximum are remembered

Array = npt.NDArray[np.float32]


def prepare(image: npt.NDArray, size: int = FRAME_PX, normalisation: str = "min-max") -> Array:
    """Network input (3, size, size) of a whole image (H, W, 3) or slice (H, W), uint8 (or float32 with z-score).

    Longest side resized to `size` (area averaging in the image's own type), then normalised, then zeros at the bottom
    and right: the order of the public baseline.

    Args:
        normalisation: one of NORMALISATIONS. `min-max` stretches minimum to maximum over all channels to [0, 1], a
            constant image becomes zeros; `sam` takes SAM's mean colour away and divides by its deviation; `z-score`
            does so with the image's own mean and deviation over all channels.
    """
    view = View.letterbox(image.shape[0], image.shape[1], size)
    inner = NORMALISATIONS[normalisation](view.show(image))
    padded = np.zeros((3, size, size), dtype=np.float32)
    padded[:, : view.inner_height, : view.inner_width] = inner if inner.ndim == 2 else inner.transpose(2, 0, 1)
    return padded


def prepare_view(view: View, image: npt.NDArray[np.uint8], low: int, high: int) -> Array:
    """Network input (3, size, size) in [0, 1] of a square of an image (H, W, 3) or slice (H, W); zeros beyond it.

    Args:
        low, high: what becomes 0 and 1, the whole image's minimum and maximum.
    """
    shown = stretch(view.show(image, low), low, high)
    planes = shown[None] if shown.ndim == 2 else shown.transpose(2, 0, 1)
    return np.ascontiguousarray(np.broadcast_to(planes, (3, view.size, view.size)))


def draw_mask(view: View, neighbour: Neighbour) -> Array:
    """A neighbour's mask (size, size) in a view, 0 outside; inside what says how much of the way is left."""
    mask = neighbour.mask
    there = View(view.left - mask.left, view.top - mask.top, view.width, view.height, view.size)
    shown = there.show(mask.pixels.astype(np.uint8) * np.uint8(255)) >= 128
    return shown * np.float32(mask_value(neighbour.left) / 255)


class ViewInputs:
    """Network inputs of a case's views."""

    def __init__(self, slices: npt.NDArray[np.uint8], normalisation: str, *, walks: bool) -> None:
        """What is shown.

        Args:
            slices: (D, H, W[, 3]).
            normalisation: of whole slices, one of NORMALISATIONS.
            walks: a prompt's neighbour and its mask are shown as second and third channel of grey slices.
        """
        self._slices, self._normalisation = slices, normalisation
        self._walks = walks and slices.ndim == 3
        self._range_of = lru_cache(maxsize=RANGES_KEPT)(lambda z: _range(slices[z]))
        self._volume_range = cache(lambda: _range(slices))

    def whole(self, z: int, size: int) -> Array:
        """The letterbox (3, size, size) of a slice."""
        return prepare(self._slices[z], size, self._normalisation)

    def part(self, prompt: Prompt, view: View) -> Array:
        """A prompt's view (3, size, size); of a walk the slice, its neighbour, and the neighbour's mask."""
        neighbour = prompt.neighbour
        if neighbour is None or not self._walks:
            return prepare_view(view, self._slices[prompt.z], *self._range_of(prompt.z))
        low, high = self._volume_range()
        shown = [stretch(view.show(self._slices[z], low), low, high) for z in (prompt.z, neighbour.z)]
        return np.stack([*shown, draw_mask(view, neighbour)])


def _range(image: npt.NDArray[np.uint8]) -> tuple[int, int]:
    return int(image.min()), int(image.max())


def stretch(image: npt.NDArray, low: int, high: int) -> Array:
    """Values as float32, `low` becoming 0 and `high` 1."""
    return (image.astype(np.float32) - low) / np.float32(max(high - low, 1))


def _min_max(image: npt.NDArray) -> Array:
    return stretch(image, int(image.min()), int(image.max()))


def _sam(image: npt.NDArray) -> Array:
    colours = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    return (colours.astype(np.float32) - SAM_MEAN) / SAM_DEVIATION


def _z_score(image: npt.NDArray) -> Array:
    values = image.astype(np.float32)
    return (values - values.mean()) / max(float(values.std()), 1e-8)


# name in model.json -> of a resized image, before padding
NORMALISATIONS: dict[str, Callable[[npt.NDArray], Array]] = {"min-max": _min_max, "sam": _sam, "z-score": _z_score}

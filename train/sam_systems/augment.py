"""Changes of an image with its labels: place, colour, noise. Each by its own chance, all from one generator.

Not albumentations, which is no longer kept (its successor is AGPL), nor TorchIO, which is for volumes.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

LARGEST_NOISE = 25.0  # standard deviation, of 255
ASPECTS = (3 / 4, 4 / 3)  # of a random crop


@dataclass(frozen=True)
class Picture:
    """An image with what is known of each pixel."""

    image: npt.NDArray[np.uint8]  # (H, W, 3)
    labels: npt.NDArray[np.int32]  # (H, W), 0 is background
    counted: npt.NDArray[np.bool_]  # (H, W), False where nobody knows: ambiguous areas, beyond the image


@dataclass(frozen=True)
class Changes:
    """How much is changed; 0 everywhere: nothing."""

    flip: float = 0.0  # probability, horizontally and vertically each
    rotation_rad: float = 0.0  # largest, either way
    resized_crop: float = 0.0  # smallest share of the area that is kept; 0: no cropping
    equalise: float = 0.0  # probability that each channel's histogram is made even
    colour_jitter: float = 0.0  # largest relative change of brightness, contrast, saturation
    noise: float = 0.0  # probability of Gaussian noise


def augment(picture: Picture, changes: Changes, chance: np.random.Generator) -> Picture:
    """The picture, changed by chance; what rotation brings in from beyond the image is black and not counted."""
    for axis in (1, 0):
        if chance.random() < changes.flip:
            picture = Picture(*(np.ascontiguousarray(np.flip(part, axis)) for part in vars(picture).values()))
    if changes.resized_crop:
        picture = _crop(picture, changes.resized_crop, chance)
    if changes.rotation_rad:
        picture = _rotate(picture, chance.uniform(-changes.rotation_rad, changes.rotation_rad))
    return replace(picture, image=_recolour(picture.image, changes, chance))


def _crop(picture: Picture, smallest: float, chance: np.random.Generator) -> Picture:
    height, width = picture.labels.shape
    area = height * width * chance.uniform(smallest, 1)
    aspect = np.exp(chance.uniform(*np.log(ASPECTS)))
    across, down = (min(limit, max(1, round(side))) for limit, side in (
        (width, np.sqrt(area * aspect)), (height, np.sqrt(area / aspect))
    ))  # fmt: skip
    x, y = int(chance.integers(0, width - across + 1)), int(chance.integers(0, height - down + 1))
    return Picture(*(np.ascontiguousarray(part[y : y + down, x : x + across]) for part in vars(picture).values()))


def _rotate(picture: Picture, angle_rad: float) -> Picture:
    height, width = picture.labels.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), np.degrees(angle_rad), 1.0)

    def turned(part: npt.NDArray, how: int) -> npt.NDArray:
        return cv2.warpAffine(part, turn, (width, height), flags=how, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    labels = turned(picture.labels.astype(np.float32), cv2.INTER_NEAREST)  # exact below 2^24
    counted = turned(picture.counted.astype(np.uint8), cv2.INTER_NEAREST)
    return Picture(turned(picture.image, cv2.INTER_LINEAR), labels.astype(np.int32), counted.astype(np.bool_))


def _recolour(image: npt.NDArray[np.uint8], changes: Changes, chance: np.random.Generator) -> npt.NDArray[np.uint8]:
    if chance.random() < changes.equalise:
        image = np.stack([cv2.equalizeHist(np.ascontiguousarray(image[..., c])) for c in range(3)], axis=-1)
    values: npt.NDArray = image.astype(np.float32)
    if changes.colour_jitter:
        brightness, contrast, saturation = 1 + chance.uniform(-changes.colour_jitter, changes.colour_jitter, 3)
        values = values * brightness
        values = (values - values.mean()) * contrast + values.mean()
        grey = values.mean(axis=-1, keepdims=True)
        values = grey + (values - grey) * saturation
    if chance.random() < changes.noise:
        values = values + chance.normal(0, chance.uniform(0, LARGEST_NOISE), values.shape)
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)

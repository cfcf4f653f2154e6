"""Pictures of what was segmented: contours and boxes over the image, and label maps."""

import colorsys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.data.case import Case
from edge.data.files import write_whole
from edge.prompts.slice_ranges import SliceRanges

LONGEST_SIDE_PX = 1024  # of one tile of the picture
MAX_TILES = 6  # slices shown of a volume
GOLDEN_RATIO = 0.618034  # successive hues as far apart as can be

Picture = npt.NDArray[np.uint8]


def write_overlay(path: Path, case: Case, labels: npt.NDArray) -> None:
    """Write `draw_overlay` as a PNG.

    Raises:
        RunError: the file cannot be written.
    """
    _, encoded = cv2.imencode(".png", draw_overlay(case, labels)[..., ::-1])
    write_whole(path, encoded.tobytes())


def draw_overlay(case: Case, labels: npt.NDArray) -> Picture:
    """RGB picture of the case with its boxes and the contours of `labels`; of a volume, the boxes' middle slices."""
    if not case.is_volume:
        return _tile(case.image, labels, dict(enumerate(case.boxes, start=1)))
    ranges = SliceRanges.from_boxes(case.boxes)
    middles = sorted(set(ranges.middle.tolist())) or [len(case.image) // 2]
    shown = [middles[i] for i in np.unique(np.linspace(0, len(middles) - 1, MAX_TILES).round().astype(int))]
    return np.concatenate([_slice_tile(case, labels, ranges, z) for z in shown], axis=1)


def _slice_tile(case: Case, labels: npt.NDArray, ranges: SliceRanges, z: int) -> Picture:
    here = {row + 1: case.boxes[row][[0, 1, 3, 4]] for row in np.flatnonzero(ranges.middle == z).tolist()}
    tile = _tile(np.repeat(case.image[z][..., None], 3, axis=-1), labels[z], here)
    cv2.putText(tile, f"slice {z}", (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1, cv2.LINE_AA)
    return tile


def _tile(image: Picture, labels: npt.NDArray, boxes: dict[int, npt.NDArray[np.float64]]) -> Picture:
    """RGB picture of an image (H, W, 3) with label contours, and boxes {label: (4,)} as thin rectangles."""
    scale = LONGEST_SIDE_PX / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = np.asarray(cv2.resize(image, size, interpolation=interpolation), dtype=np.uint8)
    for label in np.unique(labels[labels > 0]).tolist():
        mask = cv2.resize((labels == label).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, _colour(label), 2, cv2.LINE_AA)
    for label, box in boxes.items():
        corners = np.rint(box * scale).astype(int).tolist()
        cv2.rectangle(picture, tuple(corners[:2]), tuple(corners[2:]), _colour(label), 1, cv2.LINE_AA)
    return picture


def _colour(label: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 0.75, 1)
    return int(255 * red), int(255 * green), int(255 * blue)

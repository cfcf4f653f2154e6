"""Boxes as a hurried hand draws them: every side somewhat off, the same way every time."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import read_case, write_case
from edge.errors import CaseError

Boxes = npt.NDArray[np.float64]


@contextmanager
def moved_boxes(path: Path, percent: float) -> Iterator[Path]:
    """The case file, or at more than 0 % one of the same name whose boxes' sides are moved, until the block ends.

    A file that cannot be read is given as it is, so that its reader says what is wrong.
    """
    if not percent:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        moved = Path(folder) / path.name
        try:
            case = read_case(path, with_truth=True)
            shifts = side_shifts(case.name, len(case.boxes), percent)
            write_case(moved, replace(case, boxes=move_sides(case.boxes, shifts, case.shape)))
        except CaseError:
            moved = path
        yield moved


def side_shifts(name: str, boxes: int, percent: float) -> npt.NDArray[np.float64]:
    """Shifts (N, 2, 2) of N boxes' minimum and maximum in x and y: parts of the box's extent, uniform in +- percent.

    Args: name: of the case; it and the percentage are the seed.
    """
    digest = hashlib.sha256(f"{name} {percent:g}".encode()).digest()
    share = percent / 100
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).uniform(-share, share, (boxes, 2, 2))


def move_sides(boxes: Boxes, shifts: npt.NDArray[np.float64], shape: tuple[int, ...]) -> Boxes:
    """Boxes (N, 4) or (N, 6), their sides in x and y moved; the range of slices stays.

    A box that covers 10 px has an extent of 10. Sides that pass each other change places; what leaves the image ends at
    its border.

    Args:
        shifts: (N, 2, 2), see `side_shifts`; positive is right or down.
        shape: of the image (H, W) or volume (D, H, W).
    """
    corners = boxes.reshape(len(boxes), 2, len(shape)).copy()
    flat = corners[..., :2]
    extent = flat[:, 1] - flat[:, 0] + 1
    moved = np.sort(flat + shifts * extent[:, None], axis=1)
    corners[..., :2] = moved.clip(0, np.array(shape[:-3:-1], np.float64) - 1)
    return corners.reshape(boxes.shape)

"""Boxes as a hurried hand draws them: every side somewhat off, the same way every time."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import write_case
from edge.data.formats.registry import read_with_truth
from edge.data.names import case_name
from edge.data.prompting import Prompting, prompted
from edge.data.scan import Reading
from edge.errors import CaseError
from edge.predict import Job

Boxes = npt.NDArray[np.float64]


@contextmanager
def moved_boxes(path: Path, percent: float, job: Job, *, as_npz: bool = False) -> Iterator[tuple[Path, Job]]:
    """The case and how it is read; at more than 0 % an `.npz` of its name with the boxes' sides moved, while it lasts.

    Args: as_npz: such a file at 0 %, too.

    A case that cannot be read is given as it is, so that its reader says what is wrong.
    """
    if not percent and not as_npz:
        yield path, job
        return
    with tempfile.TemporaryDirectory() as folder:
        moved = Path(folder) / f"{case_name(path)}.npz"
        try:
            case = prompted(read_with_truth(path, job.reading), path, job.prompting)
            shifts = side_shifts(case.name, len(case.boxes), percent)
            write_case(moved, replace(case, boxes=move_sides(case.boxes, shifts, case.shape)))
            given = moved, replace(job, reading=Reading(case.stated_modality), prompting=Prompting())
        except CaseError:
            given = path, job
        yield given


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

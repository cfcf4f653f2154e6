"""Which object a number in a label map is: label k is of box k, whatever numbers a mask was drawn with.

Masks are drawn 0/255, 0/2, or with numbers left out. A number that does not occur is no object, so where there are as
many numbers as boxes, but larger ones, the numbers in their order are labels 1 to N. Where no number is larger than the
number of boxes they are what the challenge says, and a box whose label is absent has no object.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.box_records import as_rows
from edge.data.npz import read_npz
from edge.errors import CaseError

MAX_LABEL = 2**16 - 1
LISTED = 5  # numbers that a text names


def label_dtype(highest: int) -> type[np.uint8] | type[np.uint16]:
    """uint8 as the challenge writes it, uint16 where the highest label would not fit."""
    return np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16


def numbers_in(labels: npt.NDArray) -> npt.NDArray[np.int64]:
    """The numbers above 0 that occur in labels up to MAX_LABEL (H, W) or (D, H, W), ascending."""
    found = np.zeros(MAX_LABEL + 1, np.bool_)
    for plane in labels:  # one at a time: indexing converts to int64
        found[plane] = True
    return np.flatnonzero(found[1:]) + 1


def renumber(labels: npt.NDArray) -> npt.NDArray:
    """Labels 1 to N in the order of the numbers that occur."""
    numbers = numbers_in(labels)
    if len(numbers) == numbers.max(initial=0):
        return labels
    label_of = np.zeros(numbers[-1] + 1, labels.dtype)
    label_of[numbers] = np.arange(1, len(numbers) + 1)
    return np.stack([label_of[plane] for plane in labels])


def number_by_box(labels: npt.NDArray, boxes: int) -> tuple[npt.NDArray, str | None]:
    """Labels that belong to so many boxes, and what to say of the numbers they were drawn with, if anything."""
    if not boxes or labels.max(initial=0) <= boxes:
        return labels, None
    numbers = numbers_in(labels)
    if len(numbers) == boxes:
        return renumber(labels), f"is drawn with {some(numbers)}, read as {_span(boxes)}: label k is of box k"
    return labels, f"is drawn with {some(numbers)}, expected {_span(boxes)}: label k is of box k"


def count_boxes(path: Path) -> int:
    """How many boxes a case's file states; 0: none, or none that can be read."""
    try:
        boxes = read_npz(path, ["boxes"], records=["boxes"]).get("boxes")
        return 0 if boxes is None or not boxes.size else len(np.atleast_2d(as_rows(path.stem, boxes)[0]))
    except CaseError:
        return 0


def some(numbers: Sequence[int] | npt.NDArray) -> str:
    """The first LISTED of numbers as text, and how many more there are."""
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return ", ".join(str(number) for number in numbers[:LISTED]) + more


def _span(count: int) -> str:
    return "1" if count == 1 else f"1 to {count}"

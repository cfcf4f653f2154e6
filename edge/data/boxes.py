"""Boxes as they are given: what cannot be pixels is refused, what may be meant otherwise is told.

Expected are inclusive pixels of the image as it is stored, `x_min y_min x_max y_max`, in 3D `x_min y_min z_min x_max
y_max z_max`, a row per object. Nothing else is guessed at:

    refused  no finite real numbers or another number of columns; x and y within 0 to 1 (shares of the image); a minimum
             above its maximum (exchanged corners, too: the public program makes an empty mask of them); a box beside
             the image, or that reaches more than its size past it
    told     most boxes end beyond the image, or all of them would fit only with the axes in reverse order; they look
             like x y width height (see `_look_like_sizes`); a box is there twice
    taken    a point; one slice; x_max = W, y_max = H and z_max = D, as public files have them; what reaches over the
             border, which is cut off there (the public program does not, and its masks differ by a few pixels)
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge.errors import CaseError
from edge.notes import Note

COLUMNS = {2: "x_min y_min x_max y_max", 3: "x_min y_min z_min x_max y_max z_max"}
SHARES = (-0.1, 1.1)  # 0 to 1, and what rounding and loose boxes make of it
MANY = 4  # of 136 public cases with so many boxes none fits as sizes in all rows; of those with fewer, a sixth
ELONGATED = 3.0  # longer side over shorter; see `_look_like_sizes`
ROUNDER = 1.5

Boxes = npt.NDArray[np.float64]  # (N, 4) or (N, 6)
Corners = npt.NDArray[np.float64]  # (N, 2, axes): minimum and maximum, in x, y and perhaps z
Size = npt.NDArray[np.float64]  # of the image in x, y and perhaps z


def check_boxes(name: str, boxes: npt.NDArray, shape: tuple[int, ...]) -> tuple[Boxes, tuple[Note, ...]]:
    """The boxes cut off at the border of an image or volume of `shape`, (H, W) or (D, H, W), and doubts about them.

    Raises:
        CaseError: they cannot be what is expected; see the module.
    """
    axes = len(shape)
    if boxes.size == 0:
        return np.zeros((0, 2 * axes)), ()
    rows = _numbers(name, boxes, axes)
    size = np.array(shape[::-1], np.float64)
    corners = rows.reshape(len(rows), 2, axes)
    _refuse_shares(name, corners, shape)
    low, high = corners[:, 0], corners[:, 1]
    wrong = {
        "has a minimum above its maximum": (low > high).any(1),
        f"lies far outside the image of shape {shape}": ((corners < -size) | (corners > 2 * size)).any((1, 2)),
        f"does not touch the image of shape {shape}": ((high < 0) | (low > size - 1)).any(1),
    }
    for what, found in wrong.items():
        if found.any():
            row = int(np.argmax(found))
            raise CaseError(
                f"{name}: boxes row {row} ({_text(rows[row])}) {what}; expected {COLUMNS[axes]} in pixels of the image"
                f"{_cure(rows, size)}"
            )
    notes = (*_doubts(rows, corners, size), *_repeated(rows))
    corners = np.clip(corners, 0, size)
    corners[..., 2:] = np.clip(corners[..., 2:], 0, size[2:] - 1)
    return corners.reshape(len(rows), 2 * axes), notes


def from_sizes(rows: Boxes) -> Corners:
    """Corners of rows `x y [z] width height [depth]`: a width of 1 is one pixel."""
    first, size = np.split(rows, 2, axis=1)
    return np.stack([first, first + size - 1], axis=1)


def _from_centres(rows: Boxes) -> Corners:
    centre, size = np.split(rows, 2, axis=1)
    return np.stack([centre - size / 2, centre + size / 2], axis=1)


def _from_reversed_axes(rows: Boxes) -> Corners:
    return rows.reshape(len(rows), 2, -1)[..., ::-1]


def _from_pairs(rows: Boxes) -> Corners:
    return rows.reshape(len(rows), -1, 2).swapaxes(1, 2)


def _from_exchanged_corners(rows: Boxes) -> Corners:
    return np.sort(rows.reshape(len(rows), 2, -1), axis=1)


OTHER_CONVENTIONS: dict[str, Callable[[Boxes], Corners]] = {
    "corner and size (x y width height)": from_sizes,
    "centre and size": _from_centres,
    "y before x": _from_reversed_axes,
    "x_min x_max y_min y_max": _from_pairs,
    "exchanged corners": _from_exchanged_corners,
}


def _numbers(name: str, boxes: npt.NDArray, axes: int) -> Boxes:
    boxes = boxes[None] if boxes.ndim == 1 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 2 * axes:
        kind, other = ("3D", "2D") if axes == 3 else ("2D", "3D")
        raise CaseError(
            f"{name}: boxes must be (N, {2 * axes}) for a {kind} case, got {boxes.shape}; "
            f"a {other} case's name starts with {other}Box_"
        )
    if boxes.dtype.kind not in "uif":
        raise CaseError(f"{name}: boxes must be real numbers, got {boxes.dtype}")
    if not np.all(np.isfinite(boxes)):
        raise CaseError(f"{name}: boxes must be finite, got NaN or infinity; leave out boxes that are not known")
    return boxes.astype(np.float64)


def _refuse_shares(name: str, corners: Corners, shape: tuple[int, ...]) -> None:
    """Fractions of a pixel within the first pixel, or boxes that all end at it, are no boxes of pixels."""
    flat = corners[..., :2].reshape(len(corners), 4)
    within = ((flat >= SHARES[0]) & (flat <= SHARES[1])).all(1)
    fractional = (flat != np.rint(flat)).any(1)
    all_at_one = within.all() and (flat[:, :2] < flat[:, 2:]).any()
    found = within & (fractional | all_at_one)
    if found.any() and max(shape[-2:]) > 2:
        row = int(np.argmax(found))
        raise CaseError(
            f"{name}: boxes row {row} ({_text(corners[row].ravel())}) lies within 0 to 1; expected "
            f"{COLUMNS[len(shape)]} in pixels: multiply x by {shape[-1]} and y by {shape[-2]}"
        )


def _cure(rows: Boxes, size: Size) -> str:
    fitting = [title for title, read in OTHER_CONVENTIONS.items() if _fits(read(rows), size)]
    if not fitting:
        return "; they must be of this image, not of another size of it"
    return (
        f"; as they are they fit as {' or '.join(fitting)}: convert them (from a CSV file of sizes: --box-format xywh)"
    )


def _fits(corners: Corners, size: Size) -> bool:
    return bool(((corners[:, 0] <= corners[:, 1]).all()) and (corners >= 0).all() and (corners <= size).all())


def _doubts(rows: Boxes, corners: Corners, size: Size) -> tuple[Note, ...]:
    beyond = ((corners < 0) | (corners > size)).any((1, 2))
    got = f"{int(beyond.sum())} of {len(rows)} end beyond the {' x '.join(f'{length:g}' for length in size)} px"
    if beyond.any() and _fits(_from_reversed_axes(rows), size):
        return (Note("boxes fit the image only with y before x; exchange the columns if they are so", got),)
    if beyond.mean() > 0.5:
        what = f"boxes mostly end beyond the image and are cut off there; are they {COLUMNS[len(size)]} of this image?"
        return (Note(what, got),)
    if _look_like_sizes(rows, corners, size):
        what = "boxes look like x y width height and are read as corners; convert them, or say --box-format xywh (CSV)"
        return (Note(what, f"row 0 is {_text(rows[0])}"),)
    return ()


def _repeated(rows: Boxes) -> tuple[Note, ...]:
    first: dict[tuple[float, ...], int] = {}
    for row, box in enumerate(map(tuple, rows.tolist())):
        if (same := first.setdefault(box, row)) != row:
            what = "a box is there twice; its labels share one mask, so that some may stay empty"
            return (Note(what, f"rows {same} and {row}"),)
    return ()


def _look_like_sizes(rows: Boxes, corners: Corners, size: Size) -> bool:
    """Whether all rows fit as x y width height, and are so many that this is no chance, or all strangely long.

    Of 618 public cases none is taken for sizes; of the 159 of them whose boxes, turned into sizes, would still pass for
    corners, this finds a tenth: few boxes of an ordinary shape cannot be told.
    """
    sizes = from_sizes(rows)
    if not (_fits(sizes, size) and (rows[:, rows.shape[1] // 2 :] >= 1).all()):
        return False
    as_corners, as_sizes = _elongation(corners), _elongation(sizes)
    return len(rows) >= MANY or bool((as_corners >= np.maximum(ELONGATED, ROUNDER * as_sizes)).all())


def _elongation(corners: Corners) -> npt.NDArray[np.float64]:
    width, height = (corners[:, 1] - corners[:, 0] + 1)[:, :2].T
    return np.maximum(width / height, height / width)


def _text(numbers: npt.NDArray) -> str:
    return " ".join(f"{number:g}" for number in numbers)

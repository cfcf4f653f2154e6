"""Boxes as records with a name for each number, as the challenges of 2025 and 2026 have them.

Their files hold a list of dicts, which NumPy pickles (`edge.data.pickled` reads them as data). The same records as a
structured array or as JSON text are read, too, as are dicts given from Python.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import CaseError
from edge.notes import Note

FLAT = ("x_min", "y_min", "x_max", "y_max")
DEEP = ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max")
OTHER_NAMES = {f"z_mid_{column}": column for column in FLAT}  # x and y of the middle slice, as everywhere here


def as_rows(name: str, boxes: npt.ArrayLike) -> tuple[npt.NDArray, tuple[Note, ...]]:
    """Records as rows (N, 4) or (N, 6), in their order, and what is odd about them; other arrays as they are.

    Raises:
        CaseError: a record lacks a column, or one of its values is no number.
    """
    try:
        array = np.asarray(boxes)
    except ValueError:
        raise CaseError(f"{name}: boxes must be rows of one length, {' '.join(FLAT)} or {' '.join(DEEP)}") from None
    records = _records(name, array)
    if records is None:
        return array, ()
    rows = [_row(name, number, record) for number, record in enumerate(records)]
    if len({len(row) for row in rows}) > 1:
        raise CaseError(f"{name}: boxes must all be 2D or all 3D, got records with and without z_min and z_max")
    return np.array(rows, np.float64), _off_the_middle(rows, [record.get("z_mid") for record in records])


def _records(name: str, array: npt.NDArray) -> list[dict[str, Any]] | None:
    """The records of an array; None: it holds none."""
    if array.dtype.names:
        return [dict(zip(array.dtype.names, record, strict=True)) for record in array.ravel().tolist()]
    if array.size == 0 or array.dtype.kind not in "USO":
        return None
    items = array.ravel().tolist()
    if array.dtype.kind in "US":
        texts = [item.decode(errors="replace") if isinstance(item, bytes) else item for item in items]
        if not all(text.strip()[:1] in ("{", "[") for text in texts):
            return None
        items = [record for text in texts for record in _parsed(name, text)]
    return items if all(isinstance(item, dict) for item in items) else None


def _parsed(name: str, text: str) -> list[Any]:
    """What a JSON text lists, or the one thing it is."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise CaseError(f"{name}: boxes is text, but no JSON, got {text[:60]!r}; save a plain numeric array") from None
    return content if isinstance(content, list) else [content]


def _row(name: str, number: int, record: dict[str, Any]) -> list[float]:
    named = {OTHER_NAMES.get(key, key): value for key, value in record.items()}
    columns = DEEP if "z_min" in named or "z_max" in named else FLAT
    if missing := [column for column in columns if column not in named]:
        keys = ", ".join(map(str, record)) or "nothing"
        raise CaseError(
            f"{name}: boxes record {number} lacks {', '.join(missing)}; it has {keys[:200]}; expected are "
            f"{', '.join(FLAT)} (or z_mid_x_min and so on), in 3D with z_min and z_max"
        )
    try:
        return [float(named[column]) for column in columns]
    except (TypeError, ValueError):
        raise CaseError(f"{name}: boxes record {number} must hold numbers, got {str(record)[:200]}") from None


def _off_the_middle(rows: list[list[float]], middles: list[Any]) -> tuple[Note, ...]:
    """A z_mid that is not the middle, whose x and y are used there all the same."""
    for number, (row, z_mid) in enumerate(zip(rows, middles, strict=True)):
        if (
            len(row) == len(DEEP)
            and isinstance(z_mid, int | float | np.number)
            and abs(z_mid - (row[2] + row[5]) / 2) > 1
        ):
            what = "boxes have z_mid off the middle of z_min and z_max; x and y are taken for those of the middle"
            return (Note(what, f"record {number} has z_mid {z_mid}"),)
    return ()

"""Boxes in JSON: records or rows of numbers, of one case or by the names of many; see `edge.data.box_files`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from edge.data.box_names import LINES, MAX_BYTES, NAMES, SAID, SAID_BY, Found, called, is_of, listed
from edge.data.box_records import as_rows
from edge.data.files import read_bounded
from edge.data.names import case_name
from edge.errors import CaseError


def from_json(path: Path, file: Path, content: bytes, axes: int, box_format: str | None) -> Found:
    """What a JSON file says of a case.

    Args: axes, box_format: see `edge.data.box_files.read_box_file`.

    Raises:
        CaseError: none of its boxes is of the case, or it is not what is expected.
    """
    name = case_name(path)
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise CaseError(f"{name}: {file.name} is no JSON; see docs/formats.md for its form") from None
    units = None
    if isinstance(found, dict) and "boxes" in found:
        units, found = _renamed(found).get("units"), found["boxes"]
    if isinstance(found, dict):
        mine = [boxes for key, boxes in found.items() if is_of(path, key)]
        if not mine:
            raise CaseError(f"{name}: {file.name} names no box of it; it has {', '.join(map(str, found))[:200]}")
        if len(mine) > 1:
            raise CaseError(f"{name}: {file.name} names it {len(mine)} times; one list of boxes for each case")
        found = mine[0]
    if not isinstance(found, list):
        raise CaseError(f"{name}: {file.name} must hold a list of boxes, got {str(found)[:60]}")
    records = [_renamed(one) for one in found if isinstance(one, dict)]
    if not records:
        return Found(_plain_rows(name, file, found, axes), box_format or "xyxy", [], units)
    if len(records) < len(found):
        raise CaseError(f"{name}: {file.name} mixes records and rows; one kind for all its boxes")
    named = [record for record in records if record.get("file") not in (None, "")]
    if 0 < len(named) < len(records):
        raise CaseError(f"{name}: {file.name} has records with and without a file; say it in all or in none")
    records = [record for record in records if is_of(path, record.get("file"))]
    if not records:
        raise CaseError(f"{name}: {file.name} names no box of it; its records' file must be {called(path)}")
    mixed = {str(record.get("units") or units or "") for record in records} | ({str(units)} if units else set())
    if len(mixed) > 1:
        raise CaseError(f"{name}: {file.name} mixes units ({listed(mixed)}); one for all its boxes")
    units = mixed.pop()
    labels = [str(record.get("label") or "") for record in records]
    long, short = LINES[axes]
    if all(set(long) <= set(record) for record in records):
        chosen = [[record[column] for column in (*long, *short) if column in record] for record in records]
        if box_format:
            raise CaseError(f"{name}: {file.name} has records of measured lines, and --box-format says {box_format}")
        ends = _plain_rows(name, file, chosen, axes, (2 * axes, 4 * axes))
        return Found(ends, "lines", labels, units)
    sizes = NAMES[axes]["xywh"]
    form = "xywh" if all(set(sizes) <= set(record) for record in records) else "xyxy"
    if box_format not in (form, None):
        raise CaseError(f"{name}: {file.name} has records of {form}, and --box-format says {box_format}")
    if form == "xywh":
        rows = _plain_rows(name, file, [[record[column] for column in sizes] for record in records], axes)
        return Found(rows, form, labels, units)
    plain = [{key: one for key, one in record.items() if key not in SAID} for record in records]
    corners, _ = as_rows(name, np.array(plain, dtype=object))
    return Found(corners.tolist(), form, labels, units)


def _renamed(record: dict[str, Any]) -> dict[str, Any]:
    """With `file`, `label` and `units` called so, where it says them by another name and not by their own.

    A `name` that is no case's may be the object's: it is left as it is, and so is a `frame` of another kind.
    """
    renamed = dict(record)
    for key, value in record.items():
        word = str(key).strip().lower()
        known = SAID_BY.get(word)
        unlike = word == "name" or (known == "units" and not isinstance(value, str))
        if known and not unlike and value not in (None, "") and record.get(known) in (None, ""):
            renamed[known] = value
    return renamed


def may_hold_boxes(path: Path, file: Path) -> bool:
    """Whether a JSON file beside a case is one of boxes: scanners and `samedge predict` lay others there.

    One that is damaged may be.
    """
    try:
        found = json.loads(read_bounded(file, MAX_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError, CaseError):
        return True
    if not isinstance(found, dict) or "boxes" in found or any(is_of(path, key) for key in found if key):
        return True
    firsts = [value[0] if isinstance(value, list) and value else None for value in found.values()]
    columns = {column for forms in NAMES.values() for names in forms.values() for column in names} | {"x1"}
    return bool(firsts) and all(
        isinstance(first, list) or (isinstance(first, dict) and bool(columns & first.keys())) for first in firsts
    )


def _plain_rows(
    name: str, file: Path, found: list[Any], axes: int, lengths: tuple[int, ...] | None = None
) -> list[list[float]]:
    try:
        rows = [[float(number) for number in row] for row in found]
    except (TypeError, ValueError):
        raise CaseError(f"{name}: {file.name} must hold rows of {2 * axes} numbers or records") from None
    if any(len(row) not in (lengths or (2 * axes,)) for row in rows):
        raise CaseError(f"{name}: {file.name} must hold rows of {2 * axes} numbers, {' '.join(NAMES[axes]['xyxy'])}")
    return rows

"""Files of boxes: CSV as spreadsheets save it, or JSON; of one case or of many.

    x_min,y_min,x_max,y_max                              a flat image; a line each, this first line may be left out
    x_min,y_min,z_min,x_max,y_max,z_max                  a volume
    x,y,width,height         x,y,z,width,height,depth    corner and size, a width of 1 being one pixel; in mm, 1 mm
    x1,y1,x2,y2[,x3,y3,x4,y4]  or with z    a lesion as RECIST measures it: ends of its long axis, of its short one
    file      of many cases: the name of each, with or without its ending; `visit1/mr` only in that folder
    label     what is in the box
    units     voxels, LPS or RAS (mm in the patient); one for all lines

JSON is a list of such records or of rows of numbers, or `{"units": ..., "boxes": list, or {name: list}}`.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge.data.box_records import as_rows
from edge.data.boxes import from_sizes
from edge.data.files import read_bounded
from edge.data.names import case_name, without_ending
from edge.data.table import Table, parse_table
from edge.errors import CaseError

MAX_BYTES = 2**22  # 65,535 boxes of four numbers with seven digits take half of it
UNITS = ("voxels", "LPS", "RAS")
# axes -> format -> its columns; in a first line in any order, with or without underscores
NAMES: dict[int, dict[str, tuple[str, ...]]] = {
    2: {"xyxy": ("x_min", "y_min", "x_max", "y_max"), "xywh": ("x", "y", "width", "height")},
    3: {
        "xyxy": ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max"),
        "xywh": ("x", "y", "z", "width", "height", "depth"),
    },
}
LINES = {  # axes -> columns of the long axis, and of the short one, which may be left out
    axes: tuple(tuple(f"{axis}{end}" for end in ends for axis in "xyz"[:axes]) for ends in ((1, 2), (3, 4)))
    for axes in NAMES
}
OTHER_NAMES = {"w": "width", "h": "height", "d": "depth"}
SAID = {"file": "file case name image filename", "label": "label class organ structure", "units": "units unit frame"}
SAID_BY = {word: key for key, words in SAID.items() for word in words.split()}


@dataclass(frozen=True)
class BoxList:
    """Boxes as a file has them."""

    rows: npt.NDArray[np.float64]  # (N, 4) or (N, 6), corners
    labels: tuple[str, ...] = ()  # of each row; empty: the file names none
    units: str | None = None  # one of UNITS; None: the file does not say
    lines: npt.NDArray[np.float64] | None = None  # (N, 4, 2) or (N, 4, 3) instead of rows, see `edge.data.recist`


class _Found(NamedTuple):
    """What a file has of one case."""

    rows: list[list[float]]
    form: str  # xyxy, xywh or lines
    labels: list[str]
    units: Any


def read_box_file(
    path: Path, file: Path, axes: int, box_format: str | None = None, units: str | None = None
) -> BoxList:
    """The boxes of a case in a file, which may hold those of others too.

    Args:
        path: of the case.
        axes: 2 or 3, of the case's image.
        box_format: `xyxy` or `xywh`; None: what the file's first line or its keys say, else `xyxy`.
        units: one of UNITS, of what the file says no units of; None: voxels.

    Raises:
        CaseError: there is no such file, none of its boxes is of the case, or a line is not what is expected.
    """
    name = case_name(path)
    try:
        content = read_bounded(file, MAX_BYTES)
    except FileNotFoundError:
        columns = ",".join(NAMES[axes]["xyxy"])
        raise CaseError(f"{name}: this model needs boxes; write {file.name} beside it, lines {columns}") from None
    except OSError as error:
        raise CaseError(f"{name}: {file.name} cannot be read ({error.strerror or error})") from None
    if file.suffix.lower() == ".json":
        return _list(name, file, _from_json(path, file, content, axes, box_format), axes, units)
    try:
        table = parse_table(content)
    except ValueError:
        raise CaseError(f"{name}: {file.name} is not text; write lines {','.join(NAMES[axes]['xyxy'])}") from None
    return _list(name, file, _from_table(path, file, table, axes, box_format), axes, units)


def _from_table(path: Path, file: Path, table: Table, axes: int, box_format: str | None) -> _Found:
    name = case_name(path)
    places = _places(table.rows[0][1]) if table.rows else {}
    named = next((form for form, names in NAMES[axes].items() if set(names) <= set(places)), None)
    if named is None and not set(LINES[axes][0]) <= set(places) and places.keys() & {"file", "label", "units"}:
        lacking = [one for one in NAMES[axes]["xyxy"] if one not in places]
        raise CaseError(f"{name}: {file.name} line 1 lacks the columns {', '.join(lacking)}")
    if named and box_format and named != box_format:
        raise CaseError(f"{name}: {file.name} line 1 names columns of {named}, and --box-format says {box_format}")
    form = box_format or named or "xyxy"
    long, short = LINES[axes]
    measured = set(long) <= set(places)
    columns = NAMES[axes][form] if not measured else (*long, *(short if set(short) <= set(places) else ()))
    rows, labels, units = [], [], set()
    for line, fields in table.rows[bool(named) or measured :]:
        if named or measured:
            said = {key: fields[place] for key, place in places.items() if key in SAID and place < len(fields)}
            if not _is_of(path, said.get("file")):
                continue
            fields = [fields[places[column]] for column in columns if places[column] < len(fields)]
            if measured and len(columns) > len(long) and not any(field.strip() for field in fields[len(long) :]):
                fields = fields[: len(long)]
            labels.append(said.get("label", ""))
            units.add(said.get("units", ""))
        rows.append(_numbers(name, file, table, line, fields, columns[: len(fields)] if measured else columns))
    if not rows and "file" in places and table.rows[1:]:
        raise CaseError(f"{name}: {file.name} names no box of it; its column file must hold {_names(path)}")
    if len(units) > 1:
        raise CaseError(f"{name}: {file.name} mixes units ({_named(units)}); one for all its lines")
    return _Found(rows, "lines" if measured else form, labels, next(iter(units), ""))


def _places(fields: list[str]) -> dict[str, int]:
    """Which column a first line names where; without any it is no line of names."""
    ends = {column: column for columns in LINES[3] for column in columns}
    plain = {
        column.replace("_", ""): column for forms in NAMES.values() for names in forms.values() for column in names
    }
    known = {**plain, **ends, **OTHER_NAMES, **SAID_BY}
    words = [field.strip().lower().replace("_", "").replace(" ", "") for field in fields]
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        if word in known:
            places.setdefault(known[word], place)
    for axis in "xyz":  # x_min y_min width height
        if f"{axis}_min" in places and f"{axis}_max" not in places:
            places.setdefault(axis, places[f"{axis}_min"])
    return places


def _numbers(
    name: str, file: Path, table: Table, line: int, fields: list[str], columns: tuple[str, ...]
) -> list[float]:
    """The numbers of a line."""
    try:
        box = [table.number(field) for field in fields]
    except ValueError:
        box = []
    got = table.separator.join(fields)[:60]
    if len(box) != len(columns):
        raise CaseError(f"{name}: {file.name} line {line} must be {','.join(columns)}, got {got}")
    return box


def _from_json(path: Path, file: Path, content: bytes, axes: int, box_format: str | None) -> _Found:
    name = case_name(path)
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise CaseError(f"{name}: {file.name} is no JSON; see docs/formats.md for its form") from None
    units = None
    if isinstance(found, dict) and "boxes" in found:
        units, found = _renamed(found).get("units"), found["boxes"]
    if isinstance(found, dict):
        mine = [boxes for key, boxes in found.items() if _is_of(path, key)]
        if not mine:
            raise CaseError(f"{name}: {file.name} names no box of it; it has {', '.join(map(str, found))[:200]}")
        if len(mine) > 1:
            raise CaseError(f"{name}: {file.name} names it {len(mine)} times; one list of boxes for each case")
        found = mine[0]
    if not isinstance(found, list):
        raise CaseError(f"{name}: {file.name} must hold a list of boxes, got {str(found)[:60]}")
    records = [_renamed(one) for one in found if isinstance(one, dict)]
    if not records:
        return _Found(_plain_rows(name, file, found, axes), box_format or "xyxy", [], units)
    if len(records) < len(found):
        raise CaseError(f"{name}: {file.name} mixes records and rows; one kind for all its boxes")
    records = [record for record in records if _is_of(path, record.get("file"))]
    if not records:
        raise CaseError(f"{name}: {file.name} names no box of it; its records' file must be {_names(path)}")
    mixed = {str(record.get("units") or units or "") for record in records} | ({str(units)} if units else set())
    if len(mixed) > 1:
        raise CaseError(f"{name}: {file.name} mixes units ({_named(mixed)}); one for all its boxes")
    units = mixed.pop()
    labels = [str(record.get("label") or "") for record in records]
    long, short = LINES[axes]
    if all(set(long) <= set(record) for record in records):
        chosen = [[record[column] for column in (*long, *short) if column in record] for record in records]
        if box_format:
            raise CaseError(f"{name}: {file.name} has records of measured lines, and --box-format says {box_format}")
        ends = _plain_rows(name, file, chosen, axes, (2 * axes, 4 * axes))
        return _Found(ends, "lines", labels, units)
    sizes = NAMES[axes]["xywh"]
    form = "xywh" if all(set(sizes) <= set(record) for record in records) else "xyxy"
    if box_format not in (form, None):
        raise CaseError(f"{name}: {file.name} has records of {form}, and --box-format says {box_format}")
    if form == "xywh":
        rows = _plain_rows(name, file, [[record[column] for column in sizes] for record in records], axes)
        return _Found(rows, form, labels, units)
    plain = [{key: one for key, one in record.items() if key not in SAID} for record in records]
    corners, _ = as_rows(name, np.array(plain, dtype=object))
    return _Found(corners.tolist(), form, labels, units)


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
    if not isinstance(found, dict) or "boxes" in found or any(_is_of(path, key) for key in found if key):
        return True
    firsts = [value[0] for value in found.values() if isinstance(value, list) and value]
    columns = {column for forms in NAMES.values() for names in forms.values() for column in names} | {"x1"}
    return all(
        isinstance(value, list) and (not value or isinstance(value[0], list) or columns & set(value[0]))
        for value in found.values()
    ) and bool(firsts)


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


def _names(path: Path) -> str:
    """What a file of boxes may call a case."""
    return f"{path.name}, {case_name(path)} or, of this folder only, {path.parent.name}/{case_name(path)}"


def _named(units: set[str]) -> str:
    return ", ".join(sorted(one or "none" for one in units))


def _list(name: str, file: Path, found: _Found, axes: int, units: str | None) -> BoxList:
    rows, labels = found.rows, tuple(found.labels if any(found.labels) else ())
    stated = next((one for one in UNITS if one.lower() == str(found.units).lower()), None)
    if found.units and stated is None:
        told = f"has units {found.units!r}; expected {', '.join(UNITS)} (mm need their frame)"
        raise CaseError(f"{name}: {file.name} {told}")
    if found.form == "lines":
        whole = [row + [np.nan] * (4 * axes - len(row)) for row in rows]
        return BoxList(np.zeros((0, 2 * axes)), labels, stated, np.array(whole, np.float64).reshape(-1, 4, axes))
    boxes = np.array(rows, np.float64).reshape(len(rows), -1 if rows else 2 * axes)
    if found.form == "xywh" and rows:
        boxes = _from_sizes(name, file, boxes, axes, in_voxels=(stated or units or UNITS[0]) == UNITS[0])
    return BoxList(boxes, labels, stated)


def _from_sizes(
    name: str, file: Path, boxes: npt.NDArray[np.float64], axes: int, *, in_voxels: bool
) -> npt.NDArray[np.float64]:
    """Corners (N, 4) or (N, 6): of sizes in voxels the last voxel, of those in mm where the box ends."""
    first, size = np.split(boxes, 2, axis=1)
    wrong = (size < 1 if in_voxels else size <= 0).any(axis=1)
    if wrong.any():
        got = ",".join(f"{number:g}" for number in boxes[int(np.argmax(wrong))])
        columns, least = ",".join(NAMES[axes]["xywh"]), "pixels, at least 1" if in_voxels else "mm, more than 0"
        raise CaseError(f"{name}: {file.name} has a box {got}; it must be {columns}, sizes in {least}")
    return from_sizes(boxes).reshape(boxes.shape) if in_voxels else np.concatenate([first, first + size], axis=1)


def _is_of(path: Path, said: Any) -> bool:
    """Whether a file that names a case means this one; one that names none does.

    A folder that is named with it must be the case's: `mr.nii.gz` of another patient is another case.
    """
    if said in (None, ""):
        return True
    *folders, last = PurePath(str(said)).parts or (str(said),)
    if folders and tuple(folders) != path.parts[:-1][-len(folders) :]:
        return False
    return last == path.name or case_name(path) in (last, without_ending(last))

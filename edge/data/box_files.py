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

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.box_json import from_json
from edge.data.box_names import LINES, MAX_BYTES, NAMES, OTHER_NAMES, SAID, SAID_BY, UNITS, Found, called, is_of, listed
from edge.data.boxes import from_sizes
from edge.data.files import read_bounded
from edge.data.names import LABEL_MAPS, case_name, ending_of, is_folder
from edge.data.table import Table, parse_table
from edge.errors import CaseError


@dataclass(frozen=True)
class BoxList:
    """Boxes as a file has them."""

    rows: npt.NDArray[np.float64]  # (N, 4) or (N, 6), corners
    labels: tuple[str, ...] = ()  # of each row; empty: the file names none
    units: str | None = None  # one of UNITS; None: the file does not say
    lines: npt.NDArray[np.float64] | None = None  # (N, 4, 2) or (N, 4, 3) instead of rows, see `edge.data.recist`


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
    if ending_of(file) in LABEL_MAPS:
        raise CaseError(f"{name}: {file.name} is no CSV or JSON of boxes; a label map goes to --boxes-from")
    try:
        content = read_bounded(file, MAX_BYTES)
    except FileNotFoundError:
        columns = ",".join(NAMES[axes]["xyxy"])
        where = f"the folder {path.name}" if is_folder(path) else "it"
        raise CaseError(f"{name}: this model needs boxes; write {file.name} beside {where}, lines {columns}") from None
    except OSError as error:
        raise CaseError(f"{name}: {file.name} cannot be read ({error.strerror or error})") from None
    if file.suffix.lower() == ".json":
        return _list(name, file, from_json(path, file, content, axes, box_format), axes, units)
    try:
        table = parse_table(content)
    except ValueError:
        raise CaseError(f"{name}: {file.name} is not text; write lines {','.join(NAMES[axes]['xyxy'])}") from None
    return _list(name, file, _from_table(path, file, table, axes, box_format), axes, units)


def _from_table(path: Path, file: Path, table: Table, axes: int, box_format: str | None) -> Found:
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
    names_files = "file" in places and any("".join(fields[places["file"] :][:1]) for _, fields in table.rows[1:])
    for line, fields in table.rows[bool(named) or measured :]:
        if named or measured:
            said = {key: fields[place] for key, place in places.items() if key in SAID and place < len(fields)}
            if names_files and not said.get("file"):
                raise CaseError(f"{name}: {file.name} line {line} names no file; fill the column in every line")
            if not is_of(path, said.get("file")):
                continue
            fields = [fields[places[column]] for column in columns if places[column] < len(fields)]
            if measured and len(columns) > len(long) and not any(field.strip() for field in fields[len(long) :]):
                fields = fields[: len(long)]
            labels.append(said.get("label", ""))
            units.add(said.get("units", ""))
        rows.append(_numbers(name, file, table, line, fields, columns[: len(fields)] if measured else columns))
    if not rows and "file" in places and table.rows[1:]:
        raise CaseError(f"{name}: {file.name} names no box of it; its column file must hold {called(path)}")
    if len(units) > 1:
        raise CaseError(f"{name}: {file.name} mixes units ({listed(units)}); one for all its lines")
    return Found(rows, "lines" if measured else form, labels, next(iter(units), ""))


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


def _list(name: str, file: Path, found: Found, axes: int, units: str | None) -> BoxList:
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

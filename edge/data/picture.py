"""Pictures (PNG, JPEG) as 2D cases: decoded within bounds, their boxes in a CSV file beside them."""

import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.data.boxes import from_sizes
from edge.data.case import Case, find_cases, make_case
from edge.data.table import Table, parse_table
from edge.errors import CaseError

PICTURES = (".png", ".jpg", ".jpeg")
INPUTS = (".npz", *PICTURES)
TRUTH_SUFFIX = "_gt.png"  # what ends so holds the labels of a picture, and is none
MAX_FILE_BYTES = 2**29
MAX_PIXELS = 2**28  # 0.8 GiB of RGB; OpenCV's own limit is four times as much
MAX_BOXES_BYTES = 2**22  # 65,535 boxes of four numbers with seven digits take half of it
BOX_COLUMNS = "x_min,y_min,x_max,y_max"
BOX_FORMATS = {  # format -> names of its columns in a file's first line, without underscores
    "xyxy": ("xmin,ymin,xmax,ymax",),
    "xywh": ("x,y,width,height", "x,y,w,h", "xmin,ymin,width,height"),
}
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # JPEG markers among 0xC0 to 0xCF that do not begin with the size


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name, and not the truth of one."""
    return path.suffix.lower() in PICTURES and not path.name.endswith(TRUTH_SUFFIX)


def find_inputs(inputs: Path, *, recursive: bool = False, leave_out: Path | None = None) -> list[Path]:
    """The cases and pictures of a folder in name order, or the one file given.

    A picture that lies beside a case of its name is taken for a view of it and passed over. For the arguments see
    `edge.data.case.find_cases`.

    Raises:
        CaseError: nothing there, not readable, or neither case nor picture among it.
    """
    found = find_cases(inputs, INPUTS, recursive=recursive, leave_out=leave_out)
    if not inputs.is_dir():
        return found
    cases = [path for path in found if path.suffix.lower() not in PICTURES]
    named = {path.with_suffix("") for path in cases}
    chosen = cases + [path for path in found if is_picture(path) and path.with_suffix("") not in named]
    if not chosen:
        raise CaseError(f"{inputs}: no case in this folder, only truths (*{TRUTH_SUFFIX})")
    return sorted(chosen)


def read_picture(path: Path) -> Case:
    """A picture as a case without boxes.

    Raises:
        CaseError: it cannot be read, is too large, or has more than 8 bits a colour.
    """
    return make_case(path.stem, read_rgb(path), np.zeros((0, 4)))


def with_boxes(case: Case, path: Path, box_format: str | None = None) -> Case:
    """A picture's case with the boxes of the file `<name>.csv` beside it; see `read_boxes`.

    Raises:
        CaseError: there is no such file, or a line of it is no box in the picture.
    """
    checked = make_case(case.name, case.image, read_boxes(path, box_format))
    return replace(case, boxes=checked.boxes, notes=(*case.notes, *checked.notes))


def read_boxes(path: Path, box_format: str | None = None) -> npt.NDArray[np.float64]:
    """Boxes (N, 4), `x_min y_min x_max y_max`, of the file `<name>.csv` beside a picture: a line each.

    Args:
        path: of the picture.
        box_format: `xyxy`, or `xywh` for x, y, width and height in pixels, a width of 1 being one pixel; None: what the
            file's first line says if it names columns, else `xyxy`.

    Raises:
        CaseError: there is no such file, or a line of it is not four numbers in this format.
    """
    name, file = path.stem, path.with_suffix(".csv")
    table = _read_table(name, file)
    named = _named_format(table.rows[0][1]) if table.rows else None
    if named and box_format and named != box_format:
        raise CaseError(f"{name}: {file.name} line 1 names columns of {named}, and --box-format says {box_format}")
    chosen = box_format or named or "xyxy"
    numbers = [_box(name, file, table, line, row, chosen) for line, row in table.rows[bool(named) :]]
    boxes = np.array(numbers, np.float64).reshape(-1, 4)
    return from_sizes(boxes).reshape(-1, 4) if chosen == "xywh" else boxes


def _read_table(name: str, file: Path) -> Table:
    try:
        return parse_table(_read_bytes(file, MAX_BOXES_BYTES))
    except FileNotFoundError:
        raise CaseError(f"{name}: this model needs boxes; write {file.name} beside it, lines {BOX_COLUMNS}") from None
    except ValueError:
        raise CaseError(f"{name}: {file.name} is not text; write lines {BOX_COLUMNS}") from None


def _named_format(row: list[str]) -> str | None:
    """The format whose columns a first line names; None: it names none."""
    columns = ",".join(word.strip().lower().replace("_", "") for word in row)
    return next((name for name, known in BOX_FORMATS.items() if columns in known), None)


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """The colours (H, W, 3) of a picture, turned as its file says.

    Raises:
        CaseError: see `read_picture`.
    """
    picture = decode_picture(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if picture.dtype != np.uint8:
        raise CaseError(f"{path.stem}: {path.name} has more than 8 bits a colour; window or scale it to 0 to 255 first")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def decode_picture(path: Path, flags: int) -> npt.NDArray:
    """A picture as OpenCV decodes it, its announced size looked at first.

    Raises:
        CaseError: it cannot be read, or is too large.
    """
    return decode(path, read_checked(path), flags)


def read_checked(path: Path) -> bytes:
    """The bytes of a picture that is not too large.

    Raises:
        CaseError: it cannot be read, is too large, or is called PNG or JPEG and is neither.
    """
    try:
        content = _read_bytes(path, MAX_FILE_BYTES)
    except OSError as error:
        raise CaseError(f"{path.stem}: {path.name} cannot be read ({error})") from None
    if path.suffix.lower() in PICTURES:
        _check_size(path, content)
    return content


def decode(path: Path, content: bytes, flags: int) -> npt.NDArray:
    """A picture from its bytes; `path` for what is said of it.

    Raises:
        CaseError: it is not one.
    """
    try:
        decoded = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags) if content else None
    except cv2.error as error:
        raise CaseError(f"{path.stem}: {path.name} cannot be read ({error})") from None
    if decoded is None:
        raise CaseError(f"{path.stem}: {path.name} is not a picture")
    return decoded


def _read_bytes(path: Path, limit: int) -> bytes:
    if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
        raise CaseError(f"{path.stem}: {path} is a folder or a device, expected a file")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise CaseError(f"{path.stem}: {path.name} is larger than {limit / 2**20:.0f} MiB, the limit")
    return content


def _check_size(path: Path, content: bytes) -> None:
    size = _announced_size(content)
    if size is None:
        raise CaseError(f"{path.stem}: {path.name} is neither PNG nor JPEG")
    if size[0] * size[1] > MAX_PIXELS:
        raise CaseError(f"{path.stem}: {path.name} has {size[0]} x {size[1]} px, the limit is {MAX_PIXELS} px in all")


def _announced_size(content: bytes) -> tuple[int, int] | None:
    """Height and width as the file's header has them; None: not there."""
    if content[:8] == PNG and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    place = 2 if content[:2] == JPEG else len(content)
    while place + 9 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in NOT_FRAMES:
            height, width = struct.unpack(">HH", content[place + 5 : place + 9])
            return height, width
        # a marker may be preceded by any number of 0xFF
        place += 1 if marker == 0xFF else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return None


def _box(name: str, file: Path, table: Table, line: int, row: list[str], box_format: str) -> list[float]:
    """The numbers of a line."""
    columns = BOX_COLUMNS if box_format == "xyxy" else BOX_FORMATS[box_format][0]
    try:
        box = [table.number(word) for word in row]
    except ValueError:
        box = []
    got = table.separator.join(row)[:60]
    if len(box) != 4:
        raise CaseError(f"{name}: {file.name} line {line} must be {columns}, got {got}")
    if box_format == "xywh" and min(box[2:]) < 1:
        raise CaseError(f"{name}: {file.name} line {line} must be {columns} in pixels, got {got}")
    return box

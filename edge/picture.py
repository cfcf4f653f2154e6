"""Pictures (PNG, JPEG) as 2D cases: decoded within bounds, their boxes in a CSV file beside them."""

import csv
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.case import Case, find_cases, make_case
from edge.errors import CaseError

PICTURES = (".png", ".jpg", ".jpeg")
TRUTH_SUFFIX = "_gt.png"  # what ends so holds the labels of a picture, and is none
MAX_FILE_BYTES = 2**29
MAX_PIXELS = 2**28  # 0.8 GiB of RGB; OpenCV's own limit is four times as much
MAX_BOXES_BYTES = 2**22  # 65,535 boxes of four numbers with seven digits take half of it
BOX_COLUMNS = ["x_min", "y_min", "x_max", "y_max"]
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # JPEG markers among 0xC0 to 0xCF that do not begin with the size


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name, and not the truth of one."""
    return path.suffix.lower() in PICTURES and not path.name.endswith(TRUTH_SUFFIX)


def find_inputs(inputs: Path) -> list[Path]:
    """The cases and pictures of a folder in name order, or the one file given.

    A picture that lies beside a case of its name is taken for a view of it and passed over.

    Raises:
        CaseError: nothing there, not readable, or neither case nor picture among it.
    """
    found = find_cases(inputs, (".npz", *PICTURES))
    if not inputs.is_dir():
        return found
    cases = [path for path in found if path.suffix.lower() not in PICTURES]
    named = {path.stem for path in cases}
    chosen = cases + [path for path in found if is_picture(path) and path.stem not in named]
    if not chosen:
        raise CaseError(f"{inputs}: no case in this folder, only truths (*{TRUTH_SUFFIX})")
    return sorted(chosen)


def read_picture(path: Path) -> Case:
    """A picture as a case without boxes.

    Raises:
        CaseError: it cannot be read, is too large, or has more than 8 bits a colour.
    """
    return make_case(path.stem, read_rgb(path), np.zeros((0, 4)))


def with_boxes(case: Case, path: Path) -> Case:
    """A picture's case with the boxes of the file `<name>.csv` beside it: a line `x_min,y_min,x_max,y_max` each.

    Raises:
        CaseError: there is no such file, or a line of it is no box in the picture.
    """
    file = path.with_suffix(".csv")
    try:
        lines = _read_bytes(file, MAX_BOXES_BYTES).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        columns = ",".join(BOX_COLUMNS)
        raise CaseError(f"{case.name}: this model needs boxes; write {file.name} beside it, lines {columns}") from None
    except UnicodeDecodeError:
        raise CaseError(f"{case.name}: {file.name} is not text; write lines {','.join(BOX_COLUMNS)}") from None
    boxes = [_box(case.name, file, number, row) for number, row in enumerate(csv.reader(lines), 1) if row]
    held = np.array([box for box in boxes if box is not None], np.float64)
    return replace(case, boxes=make_case(case.name, case.image, held).boxes)


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
    try:
        content = _read_bytes(path, MAX_FILE_BYTES)
        if path.suffix.lower() in PICTURES:
            _check_size(path, content)
        decoded = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags) if content else None
    except (OSError, cv2.error) as error:
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


def _box(name: str, file: Path, number: int, row: list[str]) -> list[float] | None:
    """The numbers of a line; None for a first line that names the columns."""
    if number == 1 and [word.strip() for word in row] == BOX_COLUMNS:
        return None
    try:
        box = [float(word) for word in row]
    except ValueError:
        box = []
    if len(box) != len(BOX_COLUMNS):
        raise CaseError(f"{name}: {file.name} line {number} must be {','.join(BOX_COLUMNS)}, got {','.join(row)[:60]}")
    return box

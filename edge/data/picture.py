"""Pictures as 2D cases: decoded within bounds."""

import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.data.case import Case, make_case
from edge.data.files import read_bounded
from edge.data.intensity import SUV, Window, parse_window, percentile_window
from edge.data.names import PICTURES, case_name
from edge.data.picture_size import announced_size
from edge.errors import CaseError, in_one_line
from edge.notes import Note

MAX_FILE_BYTES = 2**29
MAX_PIXELS = 2**28  # 0.8 GiB of RGB; OpenCV's own limit is four times as much
SHALLOW = "has 8 bits a colour; --window changes nothing"
DEEP = "has more than 8 bits a colour; its 0.5 to 99.5 percentile becomes 0 to 255"


def read_picture(path: Path, window: str | None = None) -> Case:
    """A picture as a case without boxes.

    Args:
        window: of more than 8 bits a colour, see `edge.data.intensity.parse_window`; None: the percentiles.

    Raises:
        CaseError: it cannot be read, or is too large.
    """
    image, deep = _read_colours(path, window)
    case = make_case(case_name(path), image, np.zeros((0, 4)), shaped=2)
    note = DEEP if deep and window is None else SHALLOW if window is not None and not deep else None
    return replace(case, notes=(*case.notes, Note(note))) if note else case


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """The colours (H, W, 3) of a picture, turned as its file says.

    Raises:
        CaseError: see `read_picture`.
    """
    return _read_colours(path, None)[0]


def _read_colours(path: Path, window: str | None) -> tuple[npt.NDArray[np.uint8], bool]:
    """Colours (H, W, 3), and whether they had more than 8 bits each."""
    picture = decode_picture(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    deep = picture.dtype != np.uint8
    if window == SUV:
        raise CaseError(f"{path.stem}: --window {SUV} is for PET scans, this is a picture; leave it out")
    if deep:
        chosen = parse_window(window) if window else percentile_window(picture, leave_out_zero=False)
        picture = (chosen or Window(0, 2**16 - 1)).greys(picture)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8), deep


def decode_picture(path: Path, flags: int) -> npt.NDArray:
    """A picture as OpenCV decodes it, its announced size looked at first.

    Raises:
        CaseError: it cannot be read, or is too large.
    """
    return decode(path, read_checked(path), flags)


def read_checked(path: Path) -> bytes:
    """The bytes of a picture that is not too large.

    Raises:
        CaseError: it cannot be read, is too large, holds several, or is called a picture and is none.
    """
    try:
        content = read_bounded(path, MAX_FILE_BYTES)
    except OSError as error:
        raise CaseError(f"{path.stem}: {path.name} cannot be read ({in_one_line(error)})") from None
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
        raise CaseError(f"{path.stem}: {path.name} cannot be read ({in_one_line(error)})") from None
    if decoded is None:
        raise CaseError(f"{path.stem}: {path.name} is not a picture of 8 or 16 bits a colour; save it as one")
    return decoded


def _check_size(path: Path, content: bytes) -> None:
    try:
        size = announced_size(content)
    except (struct.error, IndexError):  # cut short
        size = None
    if size is None:
        raise CaseError(f"{path.stem}: {path.name} is neither PNG nor JPEG, BMP, TIFF or WebP")
    if size.height * size.width > MAX_PIXELS:
        raise CaseError(
            f"{path.stem}: {path.name} has {size.height} x {size.width} px, the limit is {MAX_PIXELS} px in all"
        )
    if size.pages > 1:
        raise CaseError(f"{path.stem}: {path.name} holds {size.pages} pictures; save each in a file, or all as NIfTI")

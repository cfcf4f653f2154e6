"""What is wrong with a case file, key by key: goes on after the first problem, where `read_case` stops."""

import zipfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge.choices import MODALITIES
from edge.data.box_records import as_rows
from edge.data.case import Case, check_labels, make_case
from edge.data.formats.registry import KINDS, kind_of, labels_for, read_input, truth_beside
from edge.data.labels import number_by_box, numbers_in, some
from edge.data.modality import UNKNOWN, modality_of
from edge.data.names import BOX_FILES, case_name
from edge.data.npz import read_npz
from edge.data.prompting import Prompting, prompted
from edge.errors import CaseError, SamedgeError

KEYS = ("imgs", "boxes", "spacing", "gts")
VOLUME_MODALITIES = ("CT", "MR", "PET")
FAR_PX = 2**20  # stands for the image's size where that is not known
NO_BOXES = np.zeros((0, 4))


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or odd, with a case file."""

    key: str  # "file", "name", or the key in the archive
    severity: Literal["error", "warning"]  # error: a command that reads this key refuses the file; warning: it does not
    message: str  # one line that names the key but not the case


def check_case(path: Path, box_format: str | None = None) -> list[Finding]:
    """Findings in the order file, name, imgs, boxes, spacing, gts, other keys; an empty list: all is well.

    A file that cannot be opened at all has one finding; a damaged array leaves the others to be looked at.
    """
    kind = kind_of(path)
    if kind is None:
        return [Finding("file", "error", f"{path.name} is not {KINDS}; convert it to one of these")]
    if kind != "npz":
        named = _check_modality(case_name(path)) if kind == "picture" else []  # a scan's header may say it
        return named + _check_files(path, box_format)
    try:
        read_npz(path, [])
    except CaseError as error:
        return [_error("file", path.stem, error)]
    arrays, unreadable = _read_keys(path)
    return [*_check_name(path.stem), *_check_arrays(path.stem, arrays, unreadable), *_check_other_keys(path)]


def _check_files(path: Path, box_format: str | None) -> list[Finding]:
    """Of a case that is no `.npz`: its image, and the boxes and the truth beside it, where they are there."""
    name = case_name(path)
    try:
        case = read_input(path)
    except SamedgeError as error:
        return [_error("file", name, error)]
    findings = [Finding("imgs", "warning", str(note)) for note in case.notes]
    boxed, truth = None, truth_beside(path)
    if any((path.parent / f"{name}{ending}").exists() for ending in BOX_FILES) or truth is None:
        try:
            boxed = prompted(replace(case, notes=()), path, Prompting(box_format=box_format))
            findings += [Finding("boxes", "warning", str(note)) for note in boxed.notes] + _odd(boxed.boxes, case.shape)
        except SamedgeError as error:
            findings.append(_error("boxes", name, error))
    if truth is not None:
        try:
            findings += _check_truth(name, labels_for(case, truth), case, boxed)
        except SamedgeError as error:
            findings.append(_error("gts", case_name(truth), error))
    return findings


def _read_keys(path: Path) -> tuple[dict[str, npt.NDArray], dict[str, Finding]]:
    arrays, unreadable = {}, {}
    for key in KEYS:
        try:
            arrays.update(read_npz(path, [key], records=["boxes"]))
        except CaseError as error:
            unreadable[key] = _error(key, path.stem, error)
    if "spacing" in unreadable:
        unreadable["spacing"] = _warning("spacing", f"is not read ({unreadable['spacing'].message})")
    return arrays, unreadable


def _check_arrays(name: str, arrays: dict[str, npt.NDArray], unreadable: dict[str, Finding]) -> list[Finding]:
    findings = list(unreadable.values())
    name = _with_prefix(name, arrays.get("boxes"))
    frame = boxed = None
    if "imgs" in arrays:
        image_findings, frame = _check_image(name, arrays["imgs"])
        findings += image_findings
    shape = frame.shape if frame else (FAR_PX,) * (3 if name.startswith("3DBox_") else 2)
    if "boxes" in arrays:
        box_findings, boxed = _check_boxes(name, arrays["boxes"], shape)
        findings += box_findings
    if "spacing" in arrays:
        findings += _attempt("spacing", name, _blank(shape), NO_BOXES, arrays["spacing"])[0]
    if "gts" in arrays:
        findings += _check_truth(name, arrays["gts"], frame, boxed)
    absent = [key for key in KEYS if key not in arrays and key not in unreadable]
    findings += _check_absent(absent, is_volume=len(shape) == 3)
    return sorted(findings, key=lambda finding: KEYS.index(finding.key))


def _check_absent(keys: list[str], *, is_volume: bool) -> list[Finding]:
    needed = [key for key in keys if key in ("imgs", "boxes")]
    findings = [Finding(key, "error", f"{key} is missing; a case needs 'imgs' and 'boxes'") for key in needed]
    if is_volume and "spacing" in keys:
        findings.append(_warning("spacing", "is missing; NSD of a 3D case needs it (x, y, z in mm)"))
    return findings


def _check_name(name: str) -> list[Finding]:
    findings = []
    if not name.startswith(("2DBox_", "3DBox_")):
        findings.append(_warning("name", "should start with 2DBox_ or 3DBox_; without, the boxes' columns decide"))
    return findings + _check_modality(name)


def _check_modality(name: str) -> list[Finding]:
    findings = []
    modality = modality_of(name)
    if modality == UNKNOWN:
        findings.append(_warning("name", f"names no modality, or several; expected one of {', '.join(MODALITIES)}"))
    elif name.startswith("3DBox_") and modality not in VOLUME_MODALITIES:
        findings.append(_warning("name", f"says 3D and {modality}; the challenge's 3D cases are CT, MR and PET"))
    return findings


def _check_image(name: str, image: npt.NDArray) -> tuple[list[Finding], Case | None]:
    """Findings, and a blank case of the image's shape (None where the shape is wrong)."""
    findings, frame = _attempt("imgs", name, np.broadcast_to(np.uint8(0), image.shape), NO_BOXES)
    if frame is None:
        return findings, None
    findings, case = _attempt("imgs", name, image, NO_BOXES)
    if case is None:
        return findings, frame
    if image.dtype != np.uint8:
        findings.append(_warning("imgs", f"is {image.dtype}; uint8 is what the challenge's programs expect"))
    low, high = image.min(), image.max()
    if low == high:
        findings.append(_warning("imgs", f"is {low} everywhere"))
    elif high <= 1 and image.dtype.kind in "ui":
        findings.append(_warning("imgs", f"lies in {low} to {high}; values are read as 0 to 255, multiply by 255"))
    return findings, frame


def _check_boxes(name: str, boxes: npt.NDArray, shape: tuple[int, ...]) -> tuple[list[Finding], Case | None]:
    """Findings, and a case with the boxes as they are used (None where they cannot be)."""
    findings, case = _attempt("boxes", name, _blank(shape), boxes)
    if case is None:
        return findings, None
    if FAR_PX in shape:  # every box would fit, whatever its numbers mean
        findings = []
    return findings + _odd(_rows(boxes).astype(np.float64), shape), case


def _odd(boxes: npt.NDArray[np.float64], shape: tuple[int, ...]) -> list[Finding]:
    if not boxes.size:
        return [_warning("boxes", "holds no box: nothing will be segmented")]
    corners = boxes.reshape(-1, 2, len(shape))
    low, high = corners[:, 0], corners[:, 1]
    end = np.array(shape[::-1]) - np.array([0, 0, 1])[: len(shape)]  # public cases use x_max = W at the border
    odd = (
        ((low < 0) | (high > end), f"reaches outside 0 to {some(end)}; cut off there"),
        (low[:, :2] == high[:, :2], "is one pixel wide or high"),
        (low[:, 2:] == high[:, 2:], "is one slice deep (z_min = z_max); the public baseline stops at such a box"),
    )
    rows = [(np.flatnonzero(wrong.any(axis=1)), what) for wrong, what in odd]
    return [_warning("boxes", f"row {some(which)} {what}") for which, what in rows if len(which)]


def _check_truth(name: str, truth: npt.NDArray, frame: Case | None, boxed: Case | None) -> list[Finding]:
    try:
        labels = check_labels(name, "gts", truth, frame.shape if frame else truth.shape)
    except CaseError as error:
        return [_error("gts", name, error)]
    findings = []
    if boxed is not None:
        labels, told = number_by_box(labels, len(boxed.boxes))
        findings += [_warning("gts", told)] if told else []
    numbers = numbers_in(labels)
    top = int(numbers.max(initial=0))
    gone = np.setdiff1d(np.arange(1, top + 1), numbers)
    if top == 0:
        findings.append(_warning("gts", "holds no object, only background"))
    if len(gone):
        findings.append(_warning("gts", f"has labels up to {top} without {some(gone)}; absent labels have no DSC"))
    if boxed is not None and len(boxed.boxes) != top:
        findings.append(_warning("gts", f"has labels up to {top}, boxes {len(boxed.boxes)} rows; label k is of box k"))
    if boxed is not None and boxed.shape == labels.shape:
        there = [number - 1 for number in numbers.tolist() if number <= len(boxed.boxes)]
        apart = [row for row in there if not _touches(boxed.boxes[row], labels, row + 1)]
        if apart:
            findings.append(
                _warning("gts", f"has no pixel of its label in box {some(apart)}; order or axes exchanged?")
            )
    return findings


def _touches(box: npt.NDArray[np.float64], labels: npt.NDArray, label: int) -> bool:
    low, high = np.floor(box.reshape(2, -1)[:, ::-1]).astype(int)
    inside = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
    return bool((labels[inside] == label).any())


def _check_other_keys(path: Path) -> list[Finding]:
    with zipfile.ZipFile(path) as archive:
        names = [Path(member).stem for member in archive.namelist()]
    return [_warning(key, "is not a key of a case; it is not read") for key in names if key not in KEYS]


def _attempt(
    key: str, name: str, image: npt.NDArray, boxes: npt.NDArray, spacing: npt.NDArray | None = None
) -> tuple[list[Finding], Case | None]:
    """What `make_case` says when only the array of `key` can be wrong or odd."""
    try:
        case = make_case(name, image, boxes, spacing)
    except CaseError as error:
        return [_error(key, name, error)], None
    return [Finding(key, "warning", str(note)) for note in case.notes], case


def _blank(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.broadcast_to(np.uint8(0), shape if len(shape) == 3 else (*shape, 3))


def _with_prefix(name: str, boxes: npt.NDArray | None) -> str:
    """A name without a prefix gets the one that its boxes ask for, so that each key is judged alike."""
    if name.startswith(("2DBox_", "3DBox_")) or boxes is None or not boxes.size:
        return name
    return ("3DBox_" if _rows(boxes).shape[-1:] == (6,) else "2DBox_") + name


def _rows(boxes: npt.NDArray) -> npt.NDArray:
    """Rows of records, where they can be rows."""
    with suppress(CaseError):
        return as_rows("", boxes)[0]
    return boxes


def _error(key: str, name: str, error: SamedgeError) -> Finding:
    return Finding(key, "error", str(error).removeprefix(f"{name}: "))


def _warning(key: str, what: str) -> Finding:
    return Finding(key, "warning", f"{key} {what}")

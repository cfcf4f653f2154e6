"""Which DICOM files belong together.

A case is a series: a path to one is its folder where that holds no other, else its first file in name order. A file of
several frames is a case of its own.
"""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edge.data.names import DICOM, case_name, ending_of, is_remote
from edge.data.remote import bytes_of, size_of
from edge.errors import CaseError, RunError, in_one_line

NEEDED = "reading DICOM needs pydicom: pip install 'samedge[dicom]'"
NUMBERED = re.compile(r"(\.\d+)?")  # of a UID as a name, or no ending at all: its first bytes decide
NOT_IMAGES = ("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG", "DOC")
MAX_FILES = 20_000  # of a folder
TURNED = 1e-3  # direction cosines that differ by less are of one orientation
FRAME_VALUES = {  # functional group -> what it says of a frame that other files say of themselves
    "PlanePositionSequence": ["ImagePositionPatient"],
    "PlaneOrientationSequence": ["ImageOrientationPatient"],
    "PixelMeasuresSequence": ["PixelSpacing", "SliceThickness"],
    "PixelValueTransformationSequence": ["RescaleSlope", "RescaleIntercept"],
}
GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
HEADER = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription",
    "Modality", "InstanceNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored",
    "PixelRepresentation", "PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "SpacingBetweenSlices", "GantryDetectorTilt",
    "RescaleSlope", "RescaleIntercept",
]  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """What decides where a file belongs."""

    path: Path
    dataset: Any  # pydicom's, of HEADER only

    @property
    def frames(self) -> int:
        return int(self.dataset.get("NumberOfFrames") or 1)

    @property
    def position(self) -> npt.NDArray[np.float64] | None:
        """Of the middle of the first pixel in mm, LPS."""
        return numbers_of(self.dataset.get("ImagePositionPatient"), 3)

    @property
    def orientation(self) -> npt.NDArray[np.float64] | None:
        """Directions (6,) in which columns and rows are counted, LPS."""
        return numbers_of(self.dataset.get("ImageOrientationPatient"), 6)

    @property
    def key(self) -> tuple[Any, ...]:
        """Alike for the files of one series; pictures of another size or orientation in it are another."""
        data = self.dataset
        alone = str(self.path) if self.frames > 1 or self.position is None else ""
        return str(data.get("SeriesInstanceUID") or ""), data.get("Rows"), data.get("Columns"), alone

    def is_turned_like(self, other: "Header") -> bool:
        """Whether both have one orientation, or none, but for what scanners make of the last digits."""
        mine, its = self.orientation, other.orientation
        return mine is its is None or bool(mine is not None and its is not None and np.abs(mine - its).max() < TURNED)


Groups = dict[Any, list[tuple[Header, list[T]]]]  # by key: of each series its first header, and what belongs to it


@contextmanager
def quiet_pydicom() -> Iterator[Any]:
    """pydicom, which says what it thinks of values on stderr: here what matters is said, and raised.

    Raises:
        RunError: it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise RunError(NEEDED) from None
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pydicom


def is_dicom(path: Path) -> bool:
    """By its ending; of a file without one, or named like a UID, by its first bytes."""
    ending = ending_of(path)
    if ending in DICOM:
        return True
    if not NUMBERED.fullmatch(ending) or path.name.upper() == "DICOMDIR":
        return False
    if is_remote(path):
        return size_of(path) >= 132 and bytes_of(path, 128, 132) == b"DICM"  # no store has a range beyond an object
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> Header:
    """A file's header, without its pixels.

    Raises:
        CaseError: not DICOM, or damaged.
    """
    name = case_name(path)
    with quiet_pydicom() as pydicom:
        try:
            header = Header(path, pydicom.dcmread(path, stop_before_pixels=True, specific_tags=HEADER))
            if header.frames == 1 and header.position is None:
                data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*HEADER, *GROUPS])
                header = Header(path, as_of_one_slice(data))
            _ = header.key, header.frames, list(header.dataset)  # values are parsed when looked at
            return header
        except Exception as error:  # pydicom raises what its parts do
            what = (
                "is not DICOM"
                if type(error).__name__ == "InvalidDicomError"
                else f"is damaged DICOM ({in_one_line(error)})"
            )
            raise CaseError(f"{name}: {path.name} {what}; export it again") from None


def as_of_one_slice(data: Any) -> Any:
    """A dataset; one of a single frame with what its functional groups say of it where other files have that."""
    if int(data.get("NumberOfFrames") or 1) == 1 and data.get("PerFrameFunctionalGroupsSequence"):
        for key, value in values_of_frame(data, 0).items():
            setattr(data, key, value)
    return data


def values_of_frame(data: Any, frame: int) -> dict[str, Any]:
    """Place, spacing and rescaling of a frame of a file with functional groups, as far as they are stated."""
    own = data.PerFrameFunctionalGroupsSequence[frame]
    shared = (data.get("SharedFunctionalGroupsSequence") or [{}])[0]
    found: dict[str, Any] = {}
    for sequence, keys in FRAME_VALUES.items():
        item = (own.get(sequence) or shared.get(sequence) or [data])[0]
        found |= {key: value for key in keys if (value := item.get(key)) is not None}
    return found


def find_series(paths: Iterable[Path]) -> list[Path]:
    """The cases among DICOM files, as paths that `series_of` takes; files that are no images are passed over.

    Without pydicom every folder of them is one case, which says so when it is read.
    """
    cases: list[Path] = []
    files = sorted(paths)
    if find_spec("pydicom") is None:
        return sorted({path.parent for path in files})
    for folder in sorted({path.parent for path in files}):
        here = [path for path in files if path.parent == folder]
        groups: Groups[Path] = {}
        damaged: list[Path] = []  # named where they are read
        for path in here:
            try:
                header = read_header(path)
            except CaseError:
                damaged.append(path)
                continue
            if _is_image(header):
                _join(groups, header, path)
        series = _members(groups)
        alone = len(series) == 1 and len(series[0]) > 1 and not damaged
        cases += [folder] if alone else sorted([min(group) for group in series] + damaged)
    return cases


def _join(groups: Groups[T], header: Header, member: T) -> None:
    """Put what is of a header to the others of its series."""
    alike = groups.setdefault(header.key, [])
    for first, members in alike:
        if header.is_turned_like(first):
            members.append(member)
            return
    alike.append((header, [member]))


def _members(groups: Groups[T]) -> list[list[T]]:
    return [members for alike in groups.values() for _, members in alike]


def series_of(path: Path) -> list[Header]:
    """The headers of the series of a folder, or of a file: of all files beside it that belong to it.

    Raises:
        CaseError: no image there, or a folder of several series; pydicom is not installed.
    """
    folder, name = (path, case_name(path)) if path.is_dir() else (path.parent, case_name(path))
    if find_spec("pydicom") is None:
        raise CaseError(f"{name}: {NEEDED}")
    own = None if path.is_dir() else read_header(path)
    if own is not None and not _is_image(own):
        raise CaseError(f"{name}: {path.name} holds no image ({own.dataset.get('Modality') or 'no modality'})")
    if own is not None and (own.frames > 1 or own.position is None):
        return [own]
    files = [file for file in sorted(folder.iterdir()) if file.name[0] != "." and is_dicom(file) and file.is_file()]
    if len(files) > MAX_FILES:
        raise CaseError(f"{name}: {folder} holds {len(files)} files, the limit is {MAX_FILES}")
    groups: Groups[Header] = {}
    for file in files:
        try:
            header = read_header(file)
        except CaseError:
            if own is None:
                raise
            continue
        if _is_image(header):
            _join(groups, header, header)
    if own is not None:
        return next(members for first, members in groups[own.key] if own.is_turned_like(first))
    series = _members(groups)
    if len(series) > 1:
        firsts = ", ".join(min(header.path.name for header in group) for group in series[:4])
        raise CaseError(f"{name}: holds {len(series)} series; give a file of the one that is meant, such as {firsts}")
    if not series:
        raise CaseError(f"{name}: no DICOM image in this folder")
    return series[0]


def _is_image(header: Header) -> bool:
    return bool(header.dataset.get("Rows")) and header.dataset.get("Modality") not in NOT_IMAGES


def numbers_of(value: Any, count: int) -> npt.NDArray[np.float64] | None:
    """So many finite numbers; None: the header has none such."""
    if value is None or value == "":
        return None
    numbers = np.array([float(one) for one in value], np.float64)
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None

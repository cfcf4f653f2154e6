"""What the readers of NIfTI, DICOM, NRRD and MetaImage give, and the one way from there to a case."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import Case, check_labels, make_case
from edge.data.geometry import Geometry
from edge.data.intensity import SUV, to_greys
from edge.data.modality import UNKNOWN, modality_of
from edge.errors import CaseError
from edge.notes import Note

MAX_SCAN_BYTES = 4 * 2**30  # as an array of an .npz
WHOLE = 1e-3  # as far from a whole number a label may be
IN_SUV, IN_GREYS = "SUV", "greys 0 to 255"  # greys: windowed already, by `samedge cases convert`
TAKEN_FOR_SUV = "its values are taken for SUV; only DICOM states what they are"
UNSIZED = "the size of its voxels is not stated; areas and volumes are left out"
WINDOWED_BEFORE = "it holds greys that were windowed when it was converted; --window changes nothing"


@dataclass(frozen=True)
class Reading:
    """What a user says about how files are read."""

    modality: str | None = None  # one of `edge.choices.MODALITIES`; None: what the header or the name says
    window: str | None = None  # see `edge.data.intensity.parse_window`
    volume: int | None = None  # which of a file that holds several, from 0; None: it must hold one
    plane: str = "auto"  # along which slices are taken, see `edge.data.geometry`


@dataclass(frozen=True)
class Scan:
    """One image or volume as its file has it."""

    name: str
    array: npt.NDArray  # (I, J, K) stored values, or (I, J, 1, 3) uint8 colours
    geometry: Geometry
    slope: float = 1.0  # intensity = stored value * slope + intercept
    intercept: float = 0.0
    modality: str | None = None  # that the header states
    flat: bool = False  # a 2D image, with boxes (N, 4)
    unit: str | None = None  # of intensities: IN_SUV, IN_GREYS; None: the scanner's
    notes: tuple[Note, ...] = ()


def case_of(scan: Scan, reading: Reading) -> Case:
    """The scan in greys as a case without boxes, in the volume's order.

    Raises:
        CaseError: it holds no number; or SUV are asked for of what is not PET.
    """
    named = modality_of(scan.name)
    modality = reading.modality or scan.modality or (named if named != UNKNOWN else None)
    notes: tuple[Note, ...]
    if scan.array.ndim == 4:
        image, notes = np.ascontiguousarray(scan.array[:, :, 0].swapaxes(0, 1)), ()
    else:
        stored = scan.geometry.to_volume(scan.array)
        if stored.dtype.kind == "f" and not any(np.isfinite(plane).any() for plane in stored):
            raise CaseError(f"{scan.name}: holds no finite intensity")
        if reading.window == SUV and modality not in ("PET", None):
            raise CaseError(f"{scan.name}: --window {SUV} is for PET, this is {modality}; leave it out")
        if scan.unit == IN_GREYS:
            image, notes = stored, (Note(WINDOWED_BEFORE),) if reading.window else ()
        else:
            image, notes = to_greys(stored, scan.slope, scan.intercept, modality, reading.window)
            if reading.window == SUV and scan.unit != IN_SUV:
                notes = (*notes, Note(TAKEN_FOR_SUV))
    if scan.flat and image.ndim == 3 and scan.array.ndim == 3:
        image = image[0]
    # the name's prefix may say 2D or 3D; here the file does
    case = make_case(scan.name, image, np.zeros((0, 4 if scan.flat else 6)), shaped=2 if scan.flat else 3)
    spacing_mm = None if scan.flat else scan.geometry.spacing_mm
    return replace(
        case,
        spacing_mm=spacing_mm,
        notes=(*scan.notes, *notes, *case.notes),
        geometry=scan.geometry,
        stated_modality=modality,
    )


def labels_of(scan: Scan, key: str = "labels") -> npt.NDArray:
    """The whole numbers of a label map's file in the volume's order, (D, H, W), or (H, W) of a flat one.

    Raises:
        CaseError: colours, fractions, or numbers below 0 or above 65535.
    """
    if scan.array.ndim == 4:
        raise CaseError(f"{scan.name}: {key} must be numbers, got colours")
    labels = scan.geometry.to_volume(scan.array)
    if (scan.slope, scan.intercept) != (1.0, 0.0):
        labels = labels * scan.slope + scan.intercept
        whole = np.rint(labels)
        labels = whole if np.abs(labels - whole).max(initial=0) < WHOLE else labels  # a slope of 0.99999994 is one
    return check_labels(scan.name, key, np.ascontiguousarray(labels[0] if scan.flat else labels), _shape(scan))


def mean_intensities(scan: Scan, labels: npt.NDArray, count: int) -> list[float | None]:
    """Of each label from 1 to `count`, in the file's own unit (HU of CT); None: it has no finite one, or colours.

    Args: labels: (H, W) or (D, H, W), as `case_of` shows the scan.
    """
    if scan.array.ndim == 4:
        return [None] * count
    sums, counts = np.zeros(count + 1), np.zeros(count + 1)
    for plane, on in zip(scan.geometry.to_volume(scan.array), labels.reshape(scan.geometry.shape), strict=True):
        finite = np.isfinite(plane) & (on <= count)
        sums += np.bincount(on[finite], weights=plane[finite], minlength=count + 1)
        counts += np.bincount(on[finite], minlength=count + 1)
    means = sums[1:] / np.maximum(counts[1:], 1) * scan.slope + scan.intercept
    return [float(mean) if number else None for mean, number in zip(means, counts[1:], strict=True)]


def check_scan_size(name: str, shape: tuple[int, ...], itemsize: int) -> int:
    """The bytes of an array that a header announces.

    Raises:
        CaseError: more than MAX_SCAN_BYTES, or a side without length.
    """
    size = itemsize
    for length in shape:
        size *= int(length)
    if size <= 0:
        raise CaseError(f"{name}: its header announces an empty image, {' x '.join(map(str, shape))}")
    if size > MAX_SCAN_BYTES:
        raise CaseError(f"{name}: declares {size / 2**30:.1f} GiB, the limit is {MAX_SCAN_BYTES / 2**30:g} GiB")
    return size


def check_file(path: Path, name: str) -> None:
    """Whether there is a file that can be read.

    Raises:
        CaseError: there is not.
    """
    if not path.exists():
        raise CaseError(f"{name}: {path} does not exist")
    if not path.is_file():  # opening a named pipe would wait for ever
        raise CaseError(f"{name}: {path} is a folder or a device, expected a file")


def _shape(scan: Scan) -> tuple[int, ...]:
    return scan.geometry.shape[1:] if scan.flat else scan.geometry.shape

"""Every kind of file that a case or a label map may come from: one table, used by every command.

    .npz                                    the challenge's: image, boxes, spacing, truth in one file
    .png .jpg .bmp .tif .webp               2D images
    .nii .nii.gz                            NIfTI
    .dcm .dicom .ima, UIDs, without ending  DICOM: a series is a folder, or a file of it
    .nrrd .nhdr .mha .mhd                  through SimpleITK

The truth of `<name>` in a file of its own is `<name>_gt`, a PNG, TIFF, BMP, NIfTI, NRRD or MetaImage. What reads scans
is imported when the first one is read.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import Case, Spacing, check_labels, read_case, read_labels
from edge.data.datasets import chosen_channel, dataset_modality, dataset_truth
from edge.data.formats.dicom_series import is_dicom
from edge.data.geometry import Geometry
from edge.data.label_picture import read_label_picture
from edge.data.names import (
    ITK,
    LABEL_MAPS,
    NIFTI,
    PICTURES,
    TRUTH,
    case_name,
    ending_of,
    is_channel,
    is_folder,
)
from edge.data.npz import read_npz
from edge.data.picture import read_picture
from edge.data.scan import Reading, Scan, case_of, labels_of
from edge.errors import CaseError
from edge.notes import Note

KINDS = ".npz, a picture, NIfTI, DICOM, NRRD or MetaImage"
OF_SCANS = "--window, --volume and --slices are of scans; it is taken as it is"
APART_MM = 0.1  # between the same corner voxel of an image and its label map

ScanReader = Callable[[Path, Reading], Scan]
SCANS = {"nifti": NIFTI, "itk": ITK}  # module of this folder -> endings; DICOM is told by content, too


@dataclass(frozen=True)
class LabelMap:
    """Labels from a file."""

    labels: npt.NDArray  # (H, W) or (D, H, W), in the volume's order
    spacing_mm: Spacing | None = None  # (z, y, x); None: not stated
    geometry: Geometry | None = None  # None: the file states no place


def kind_of(path: Path) -> str | None:
    """`npz`, `picture`, `nifti`, `dicom` or `itk`; None: none of these."""
    ending = ending_of(path)
    if ending == ".npz":
        return "npz"
    if is_folder(path):
        return "dicom"
    if ending in PICTURES:
        return "picture"
    return next((kind for kind, endings in SCANS.items() if ending in endings), "dicom" if is_dicom(path) else None)


def is_truth(path: Path) -> bool:
    """Whether a file is the truth of a case by its name, and none itself."""
    return ending_of(path) in LABEL_MAPS and case_name(path).endswith(TRUTH)


def truth_beside(path: Path) -> Path | None:
    """The file with the truth of a case, beside it or where its data set has it; None: there is none.

    Raises:
        CaseError: see `edge.data.datasets.dataset_truth`.
    """
    stem = path.parent / f"{case_name(path)}{TRUTH}"
    beside = next((found for ending in LABEL_MAPS if (found := Path(f"{stem}{ending}")).is_file()), None)
    return beside or dataset_truth(path)


def read_input(path: Path, reading: Reading | None = None) -> Case:
    """A case of any kind; with boxes where its file holds them, else without.

    Raises:
        CaseError: it cannot be read; see the readers.
        RunError: the library that reads it is not installed, or `reading` asks for what there is not.
    """
    reading, kind = reading or Reading(), kind_of(path)
    sliced = reading.plane != "auto"
    if kind == "npz":
        asked = sliced or reading.window is not None or reading.volume is not None
        return _stated(read_case(path), reading, as_scan=asked)
    reading = replace(reading, modality=reading.modality or dataset_modality(path))
    if kind == "picture":
        picture = read_picture(chosen_channel(path, reading.volume), reading.window)
        return _stated(picture, reading, as_scan=sliced or (reading.volume is not None and not is_channel(path)))
    return case_of(read_stored(path, reading), reading)


def read_stored(path: Path, reading: Reading) -> Scan:
    """The scan of a case that is no `.npz` and no picture as its file has it; for errors see `read_input`."""
    if is_channel(path):
        return read_scan(chosen_channel(path, reading.volume), replace(reading, volume=None))
    return read_scan(path, reading)


def read_with_truth(path: Path, reading: Reading | None = None) -> Case:
    """A case with its truth, from the same file or from the one beside it; without where there is none.

    Raises:
        CaseError: see `read_input`; the truth is of another shape or lies elsewhere.
    """
    if kind_of(path) == "npz":
        return _stated(read_case(path, with_truth=True), reading or Reading())
    case, truth = read_input(path, reading), truth_beside(path)
    return case if truth is None else replace(case, truth=labels_for(case, truth))


def labels_for(case: Case, path: Path) -> npt.NDArray:
    """The labels of a file, in the order and on the voxels of a case.

    Raises:
        CaseError: they are of another shape or lie elsewhere.
    """
    in_npz = kind_of(path) == "npz"
    key = "gts" if (in_npz and "gts" in read_npz(path, ["gts"])) or not in_npz else "segs"
    found = read_label_map(path, key, plane_of(case.geometry))
    labels = found.labels
    if not case.is_volume and labels.shape == (1, *case.shape):
        labels = labels[0]
    if case.is_volume and case.shape == (1, *labels.shape):
        labels = labels[None]
    if far := apart_mm(case.geometry, found.geometry):
        raise CaseError(f"{case.name}: {path.name} lies {far:.1f} mm beside the image; resample it to the image's grid")
    if labels.shape != case.shape:
        raise CaseError(f"{case.name}: {path.name} has shape {labels.shape}, the image {case.shape}; resample it")
    return labels


def plane_of(geometry: Geometry | None) -> str:
    """How the slices of a label map lie that belongs to an image of that geometry; None: to an `.npz` or a picture."""
    return "axial" if geometry is None else geometry.plane  # as `edge.data.outputs.geometry_of` writes them


def read_label_map(path: Path, key: str = "segs", plane: str = "auto") -> LabelMap:
    """A label map of any kind; `key` is that of an `.npz`.

    Args: plane: along which a scan's slices are taken, that of its image; see `edge.data.geometry`.

    Raises:
        CaseError: it cannot be read, or holds no labels.
    """
    kind = kind_of(path)
    if kind == "npz":
        return LabelMap(*read_labels(path, key))
    if kind == "picture":
        labels = read_label_picture(path)
        return LabelMap(check_labels(case_name(path), key, labels, labels.shape))
    scan = read_scan(path, Reading(plane=plane))
    return LabelMap(labels_of(scan, key), scan.geometry.spacing_mm, scan.geometry)


def read_scan(path: Path, reading: Reading) -> Scan:
    """A NIfTI, DICOM, NRRD or MetaImage file, or a folder with a DICOM series, as it is stored.

    Raises:
        CaseError: see the readers; a file of no kind that is known.
        RunError: the library that reads it is not installed.
    """
    kind = kind_of(path)
    if kind not in ("nifti", "dicom", "itk"):
        if not path.exists():
            raise CaseError(f"{case_name(path)}: {path} does not exist")
        raise CaseError(f"{case_name(path)}: {path.name} is not {KINDS}; convert it to one of these")
    reader: ScanReader = import_module(f"edge.data.formats.{kind}").read_scan
    return reader(path, reading)


def apart_mm(one: Geometry | None, other: Geometry | None) -> float | None:
    """How far apart the same voxels of two volumes lie, at the worst corner; None: nowhere more than APART_MM."""
    if one is None or other is None or one.shape != other.shape:
        return None
    ends = np.array(np.meshgrid(*[(0, length - 1) for length in one.shape[::-1]], indexing="ij")).reshape(3, 8).T
    far = float(np.linalg.norm(one.mm_from_volume(ends, "RAS") - other.mm_from_volume(ends, "RAS"), axis=1).max())
    return far if far > APART_MM else None


def _stated(case: Case, reading: Reading, *, as_scan: bool = False) -> Case:
    """Args: as_scan: whether options are given that change nothing of it."""
    notes = (*case.notes, Note(OF_SCANS)) if as_scan else case.notes
    return replace(case, stated_modality=reading.modality or case.stated_modality, notes=notes)

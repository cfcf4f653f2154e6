"""Every kind of file that a case or a label map may come from: one table, used by every command.

    .npz                                    the challenge's: image, boxes, spacing, truth in one file
    .png .jpg .bmp .tif .webp               2D images
    .nii .nii.gz                            NIfTI
    .dcm .dicom .ima, UIDs, without ending  DICOM: a series is a folder, or a file of it
    .nrrd .nhdr .mha .mhd                  through SimpleITK

The truth of `<name>` in a file of its own is `<name>_gt`, a PNG, TIFF, BMP, NIfTI, NRRD or MetaImage. What reads scans
is imported when the first one is read.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import Case, Spacing, check_labels, find_cases, read_case, read_labels
from edge.data.folders import files_in, files_within, folders_within
from edge.data.formats.dicom_series import find_series, is_dicom
from edge.data.geometry import Geometry
from edge.data.label_picture import read_label_picture
from edge.data.names import (
    DICOM,
    INPUTS,
    ITK,
    LABEL_MAPS,
    NIFTI,
    PICTURES,
    TRUTH,
    address_of,
    case_name,
    ending_of,
    is_channel,
    is_folder,
    is_remote,
)
from edge.data.npz import read_npz
from edge.data.picture import read_picture
from edge.data.scan import Reading, Scan, case_of, labels_of
from edge.data.trees import chosen_channel, first_channels, is_tree, tree_images, tree_modality, tree_truth
from edge.errors import CaseError

KINDS = ".npz, a picture, NIfTI, DICOM, NRRD or MetaImage"
LOOKED_INTO = 100  # folders within one without a case, for what it may be that is meant
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
        CaseError: see `edge.data.trees.tree_truth`.
    """
    stem = path.parent / f"{case_name(path)}{TRUTH}"
    beside = next((found for ending in LABEL_MAPS if (found := Path(f"{stem}{ending}")).is_file()), None)
    return beside or tree_truth(path)


def files_of(path: Path) -> Iterator[Path]:
    """All that a case is read from but its boxes, in an order that stays: itself, of a folder its files, its truth.

    Raises:
        CaseError: see `truth_beside`.
    """
    yield from sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else _with_voxels(path)
    if kind_of(path) != "npz" and (truth := truth_beside(path)):
        yield from _with_voxels(truth)


def image_of(truth: Path, root: Path) -> Path | None:
    """The case that a truth in the folder or data set `root` is of; None: there is none."""
    if kind_of(truth) == "npz":
        return truth
    if is_tree(root):
        return next((image for image in tree_images(root) if tree_truth(image) == truth), None)
    stem = truth.parent / case_name(truth).removesuffix(TRUTH)
    beside = [stem, *(Path(f"{stem}{ending}") for ending in INPUTS)]
    return next((path for path in beside if path.exists() and path != truth), None)


def find_inputs(
    inputs: Path, *, recursive: bool = False, leave_out: Path | None = None, remote: bool = False
) -> list[Path]:
    """The cases of a folder or data set in name order, of whatever kind, or the one given; truths are left out.

    A picture that lies beside another file of its name is taken for a view of it and passed over. For the arguments see
    `edge.data.case.find_cases`.

    Args: remote: whether an address in an object store will do; there a folder of DICOM is a series.

    Raises:
        CaseError: nothing there, not readable, or no case among it.
    """
    if is_remote(inputs) and not remote:
        raise CaseError(f"{address_of(inputs)}: only predict and evaluate read object stores; copy it to a disk")
    if is_tree(inputs):
        return _of_tree(inputs)
    series = _find_dicom(inputs, recursive, leave_out) if is_folder(inputs) else []
    types = tuple(ending for ending in INPUTS if ending not in DICOM)
    try:
        found = find_cases(inputs, types, recursive=recursive, leave_out=leave_out)
    except CaseError as error:
        is_told = "there is" in str(error) or recursive or not is_folder(inputs)
        if not series and not is_told and (nested := _nested_dicom(inputs, leave_out)):
            raise CaseError(f"{error}; there is DICOM in {nested}: give that folder, or --recursive") from None
        if not series:
            raise
        return sorted(series)
    if not is_folder(inputs):
        return found
    cases = [path for path in found if kind_of(path) != "picture" and not is_truth(path)]
    named = {(path.parent, case_name(path)) for path in cases}
    pictures = [path for path in found if kind_of(path) == "picture" and not is_truth(path)]
    chosen = cases + series + [path for path in pictures if (path.parent, case_name(path)) not in named]
    if not chosen:
        raise CaseError(f"{inputs}: no case in this folder, only truths (*{TRUTH}.*)")
    if is_remote(inputs) and any(map(is_channel, chosen)):
        raise CaseError(f"{address_of(inputs)}: data sets of nnU-Net are read from a disk; copy it to one")
    return first_channels(chosen)


def read_input(path: Path, reading: Reading | None = None) -> Case:
    """A case of any kind; with boxes where its file holds them, else without.

    Raises:
        CaseError: it cannot be read; see the readers.
        RunError: the library that reads it is not installed, or `reading` asks for what there is not.
    """
    reading, kind = reading or Reading(), kind_of(path)
    if kind == "npz":
        return _stated(read_case(path), reading)
    reading = replace(reading, modality=reading.modality or tree_modality(path))
    if kind == "picture":
        return _stated(read_picture(chosen_channel(path, reading.volume), reading.window), reading)
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


def _with_voxels(path: Path) -> list[Path]:
    """A file, and the one beside it that its header says holds the voxels."""
    if kind_of(path) != "itk":
        return [path]
    from edge.data.formats.itk import voxels_of

    with suppress(CaseError, OSError):  # which reading says
        return list(dict.fromkeys([path, voxels_of(path)]))
    return [path]


def _find_dicom(inputs: Path, recursive: bool, leave_out: Path | None) -> list[Path]:
    found: list[Path] = []
    if is_remote(inputs):  # what is in the files is not known yet
        files = files_in(inputs, ("",)) + (list(files_within(inputs, ("",), leave_out)) if recursive else [])
        grouped = groupby(sorted(files), key=lambda path: path.parent)
        return [folder for folder, files in grouped if any(map(is_dicom, files))]
    for folder in [inputs, *(folders_within(inputs, leave_out) if recursive else [])]:
        try:
            files = [path for path in folder.iterdir() if path.name[0] != "." and is_dicom(path) and path.is_file()]
        except OSError:
            continue  # named by what looks for the other kinds
        found += find_series(files) if files else []
    return found


def _nested_dicom(inputs: Path, leave_out: Path | None) -> Path | None:
    """The first folder within one on a disk that holds a series."""
    folders = [] if is_remote(inputs) else islice(folders_within(inputs, leave_out), LOOKED_INTO)
    return next((folder for folder in folders if _find_dicom(folder, False, leave_out)), None)


def _of_tree(folder: Path) -> list[Path]:
    if found := tree_images(folder):
        return found
    raise CaseError(f"{folder}: a data set without images; expected imagesTr/*_0000.nii.gz or sub-*/anat/*.nii.gz")


def _stated(case: Case, reading: Reading) -> Case:
    return replace(case, stated_modality=reading.modality) if reading.modality else case

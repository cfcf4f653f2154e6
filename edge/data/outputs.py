"""Label maps written in the geometry they came from, in one format or several, and what is said of them beside them.

    npz         <name>.npz            key `segs`, in the volume's order
    png         <name>_labels.png     the numbers of a flat label map
    nifti       <name>.nii.gz         a NIfTI input's own affine, shape, sform and qform
    dicom-seg   <name>_seg.dcm        DICOM Segmentation, a segment a label
    rtstruct    <name>_rtstruct.dcm   DICOM contours, a region of interest a label

The default is what came in. Beside whatever states a place in the patient lies <name>.json, see `edge.data.sidecar`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import Case
from edge.data.formats.registry import kind_of
from edge.data.geometry import Geometry, make_geometry, picture_geometry
from edge.data.label_picture import write_label_picture
from edge.data.names import case_name
from edge.data.npz import write_npz
from edge.errors import CaseError, RunError

ENDINGS = {
    "npz": ".npz",
    "png": "_labels.png",
    "nifti": ".nii.gz",
    "dicom-seg": "_seg.dcm",
    "rtstruct": "_rtstruct.dcm",
}
DEFAULTS = {
    "npz": ("npz",),
    "picture": ("npz", "png"),
    "nifti": ("nifti",),
    "itk": ("nifti",),
    "dicom": ("dicom-seg",),
}
DICOM_ONLY = ("dicom-seg", "rtstruct")
SIDECAR = ".json"
OVERLAY = ".png"


def parse_formats(words: Sequence[str] | None) -> tuple[str, ...] | None:
    """Formats from the command line, such as `nifti,dicom-seg`; None: what came in.

    Raises:
        RunError: one of them is not known.
    """
    formats = [one.strip() for word in words or () for one in word.split(",")]
    if unknown := [one for one in formats if one not in ENDINGS]:
        raise RunError(f"--format must be of {', '.join(ENDINGS)}, got {unknown[0]!r}")
    return tuple(dict.fromkeys(formats)) or None


def formats_of(path: Path, formats: tuple[str, ...] | None) -> tuple[str, ...]:
    """The formats that a case's labels are written in."""
    return formats or DEFAULTS.get(kind_of(path) or "npz", ("npz",))


def output_files(path: Path, folder: Path, formats: tuple[str, ...] | None) -> list[Path]:
    """Where the labels of a case are written."""
    return [folder / f"{case_name(path)}{ENDINGS[one]}" for one in formats_of(path, formats)]


def check_formats(case: Case, path: Path, formats: tuple[str, ...]) -> None:
    """Whether a case's labels can be written so, before they are made.

    Raises:
        CaseError: a volume as PNG; slices along another axis than a scan's own as .npz, which does not say so; DICOM of
            what is not DICOM or lacks what others refer to.
        RunError: the library that writes it is not installed.
    """
    if "png" in formats and case.is_volume:
        raise CaseError(f"{case.name}: png is for flat images; choose --format nifti or npz for a volume")
    if "npz" in formats and case.is_volume and case.geometry is not None and not case.geometry.is_as_read:
        plane = case.geometry.plane
        raise CaseError(
            f"{case.name}: an .npz does not say that its slices are {plane}, and would be taken for another volume's; "
            f"choose --format nifti, or cases convert --slices {plane} and predict from its .npz"
        )
    if not set(formats) & set(DICOM_ONLY):
        return
    if kind_of(path) != "dicom":
        raise CaseError(
            f"{case.name}: DICOM labels refer to DICOM images; choose --format nifti or npz for {path.name}"
        )
    from edge.data.formats.dicom_source import read_source

    read_source(path, case).check(formats)


def write_labels(case: Case, labels: npt.NDArray, path: Path, folder: Path, formats: tuple[str, ...]) -> list[Path]:
    """Write labels (H, W) or (D, H, W) of a case in each format, each file whole or not at all.

    Args:
        path: the case's file, whose header says how.

    Raises:
        CaseError: see `check_formats`.
        RunError: a file cannot be written.
    """
    files = output_files(path, folder, formats)
    for one, file in zip(formats, files, strict=True):
        if one == "npz":
            write_npz(file, {"segs": labels})
        elif one == "png":
            write_label_picture(file, labels)
        elif one == "nifti":
            from edge.data.formats import nifti

            like = path if kind_of(path) == "nifti" else None
            nifti.write_labels(file, labels, geometry_of(case), like)
        else:
            _write_dicom(one, file, case, labels, path)
    return files


def geometry_of(case: Case) -> Geometry:
    """The case's geometry; where its file states none, one with its spacing, or 1 mm, that lies anywhere."""
    if case.geometry is not None:
        return case.geometry
    if not case.is_volume:
        return picture_geometry(case.shape[0], case.shape[1])
    z, y, x = case.spacing_mm or (1.0, 1.0, 1.0)
    return make_geometry(case.name, np.diag([-x, -y, z, 1.0]), case.shape[::-1], "axial")


def _write_dicom(kind: str, file: Path, case: Case, labels: npt.NDArray, path: Path) -> None:
    from edge.data.formats.dicom_source import read_source

    source = read_source(path, case)
    if kind == "dicom-seg":
        from edge.data.formats.dicom_seg import write_seg

        write_seg(file, case, labels, source)
    else:
        from edge.data.formats.rtstruct import write_rtstruct

        write_rtstruct(file, case, labels, source)

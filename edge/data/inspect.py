"""What a file holds, and what would be done with it."""

from pathlib import Path
from typing import Any

import numpy as np

from edge.data.case import Case
from edge.data.formats.registry import kind_of, labels_for, read_input, read_stored, truth_beside
from edge.data.intensity import percentile_window
from edge.data.labels import numbers_in
from edge.data.names import case_name
from edge.data.outputs import check_formats, formats_of
from edge.data.prompting import prompted
from edge.data.scan import Reading
from edge.errors import CaseError, SamedgeError

SCANS = ("nifti", "dicom", "itk")


def inspect(path: Path, reading: Reading) -> dict[str, Any]:
    """Facts about a case, in the order in which they are told; what is not known is None.

    Raises:
        CaseError: it cannot be read.
    """
    kind = kind_of(path)
    stored = _stored(path, reading) if kind in SCANS else {}
    case = read_input(path, reading)
    geometry = case.geometry
    facts: dict[str, Any] = {
        "name": case.name,
        "kind": {"itk": "NRRD or MetaImage", "nifti": "NIfTI", "dicom": "DICOM"}.get(str(kind), kind),
        "shown as": f"{'volume' if case.is_volume else 'image'} {' x '.join(map(str, case.shape))}",
        "slices": f"{geometry.plane}, of the file's axes {geometry.orientation}"
        if geometry and case.is_volume
        else None,
        "spacing in mm (z, y, x)": [round(length, 4) for length in case.spacing_mm or ()] or None,
        "modality": case.modality,
        **stored,
        "greys": f"{case.image.min()} to {case.image.max()}, mean {case.image.mean():.1f}",
        "boxes": _boxes(case, path),
        "truth": _truth(case, path),
        "labels are written as": _written(case, path),
        "notes": [str(note) for note in case.notes] or None,
    }
    return facts


def _stored(path: Path, reading: Reading) -> dict[str, Any]:
    scan = read_stored(path, reading)
    if scan.array.ndim == 4:
        return {"stored": "colours"}
    ends = np.array([scan.array.min(), scan.array.max()]) * scan.slope + scan.intercept
    window = percentile_window(scan.geometry.to_volume(scan.array), scan.slope, scan.intercept)
    shares = f"; 0.5 to 99.5 percentile {window.low:g} to {window.high:g}" if window else ""
    return {"stored": f"{scan.array.dtype}, intensities {ends.min():g} to {ends.max():g}{shares}"}


def _boxes(case: Case, path: Path) -> str:
    if kind_of(path) == "npz":
        return f"{len(case.boxes)}, in the file"
    try:
        return f"{len(prompted(case, path).boxes)}, in a file beside it"
    except CaseError as error:
        return str(error).removeprefix(f"{case.name}: ")


def _written(case: Case, path: Path) -> str:
    formats = formats_of(path, None)
    try:
        check_formats(case, path, formats)
    except SamedgeError as error:
        return f"cannot be written: {str(error).removeprefix(f'{case.name}: ')}"
    return ", ".join(formats)


def _truth(case: Case, path: Path) -> str | None:
    truth = truth_beside(path)
    if truth is None:
        return None
    try:
        return f"{truth.name}, {len(numbers_in(labels_for(case, truth)))} labels"
    except CaseError as error:
        return str(error).removeprefix(f"{case_name(path)}: ")

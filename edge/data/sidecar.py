"""What is said of a label map in a JSON file beside it: what it was made of and with, and what it holds.

Keys that BIDS knows for derivatives are written as BIDS has them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.case import Case
from edge.data.files import read_json, write_whole
from edge.data.outputs import geometry_of
from edge.data.scan import UNSIZED


def describe(
    case: Case,
    labels: npt.NDArray,
    source: str,
    files: list[Path],
    made_by: dict[str, Any],
    seconds: float,
    intensities: Sequence[float | None] = (),
    stability: Sequence[float] = (),
    window: str | None = None,
) -> dict[str, Any]:
    """The content of a label map's JSON file.

    Args:
        labels: (H, W) or (D, H, W), in the case's order.
        source: the case's path or address.
        files: the label map, in each of its formats.
        made_by: the engine, see `edge.engines.runtime.describe_engine`.
        seconds: that segmenting took.
        intensities: the mean of each label in the file's unit; empty: not known.
        stability: of each label, see `edge.masks.stability`; empty: not known.
        window: that was asked for, see `edge.data.intensity.parse_window`.
    """
    geometry = geometry_of(case)
    return {
        "Name": case.name,
        "GeneratedBy": [{"Name": "samedge", **made_by}],
        "Sources": [source],
        "Files": [file.name for file in files],
        "Modality": case.modality,
        "Window": window,
        "Shape": list(labels.shape),
        "SpacingMm": list(case.spacing_mm or ()) or None,  # (z, y, x)
        "Orientation": geometry.orientation if case.geometry else None,
        "Slices": geometry.plane if case.is_volume and case.geometry else None,
        "Affine": geometry.affine.tolist() if case.geometry else None,
        "Seconds": round(seconds, 3),
        "Notes": [str(note) for note in case.notes],
        "Labels": [_label(case, labels, row, intensities, stability) for row in range(len(case.boxes))],
    }


def write_sidecar(path: Path, content: dict[str, Any]) -> None:
    """Write it whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    import json

    write_whole(path, (json.dumps(content, indent=2) + "\n").encode("utf-8", errors="backslashreplace"))


def count_labels(path: Path) -> int:
    """How many labels the JSON file `path` says that its label map was made with; 0: none, or not such a file."""
    return len(_labels_in(path))


def names_in(path: Path) -> dict[int, str]:
    """What the JSON file `path` calls the numbers of its label map; empty: no such file."""
    labels = [one for one in _labels_in(path) if isinstance(one, dict)]
    return {one["Label"]: str(one["Name"]) for one in labels if isinstance(one.get("Label"), int) and one.get("Name")}


def _labels_in(path: Path) -> list[Any]:
    try:
        labels = read_json(path)["Labels"]
        return labels if isinstance(labels, list) else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _label(
    case: Case, labels: npt.NDArray, row: int, intensities: Sequence[float | None], stability: Sequence[float]
) -> dict[str, Any]:
    mask = labels == row + 1
    voxels = int(mask.sum())
    greys = case.image[mask]
    named = case.label_names[row] if row < len(case.label_names) else ""
    found: dict[str, Any] = {
        "Label": row + 1,
        "Name": named or f"box {row + 1}",
        "Box": case.boxes[row].tolist(),  # in the shown volume: x_min y_min [z_min] x_max y_max [z_max]
        "Voxels": voxels,
        "MeanGrey": round(float(np.mean(greys)), 2) if voxels else None,  # 0 to 255, as the model saw it
    }
    if row < len(stability):  # of the box's own mask, before it is merged with others
        found["StabilityScore"] = round(stability[row], 3)
    if intensities:  # HU of CT; what a DICOM or NIfTI header scales to
        mean = intensities[row]
        found["MeanIntensity"] = None if mean is None else float(f"{mean:.6g}")
    if (case.geometry is None and case.spacing_mm is None) or any(note.what == UNSIZED for note in case.notes):
        return found
    geometry = geometry_of(case)
    if case.is_volume:
        return {**found, "VolumeMl": _rounded(voxels * geometry.voxel_ml)}
    _, y_mm, x_mm = geometry.spacing_mm
    return {**found, "AreaMm2": _rounded(voxels * y_mm * x_mm)}


def _rounded(number: float) -> float:
    """To 4 decimals, and at least 4 digits: voxels may be of microns."""
    return round(number, 4) if number >= 0.1 else float(f"{number:.4g}")

"""Where the slices of a DICOM series lie, and whether they are a volume."""

import itertools

import numpy as np
import numpy.typing as npt

from edge.data.formats.dicom_series import Header, numbers_of
from edge.data.geometry import SKEWED
from edge.errors import CaseError

GAP = 1.5  # times the usual distance of slices: one is missing
UNEVEN_MM = 0.05  # and a hundredth of the distance, that distances may differ by
BESIDE_MM = 0.25  # that a slice may lie beside the line of the others, half a pixel of a fine scan
SAME_SIZE_MM = 1e-3  # that the sides of pixels may differ by


def in_order(name: str, headers: list[Header]) -> tuple[list[Header], npt.NDArray[np.float64]]:
    """The slices of a series along its normal, and the step (3,) in mm, LPS, from one to the next.

    Raises:
        CaseError: slices are missing, twice there or uneven, or the gantry was tilted.
    """
    directions = headers[0].orientation
    if directions is None or any(header.position is None for header in headers):
        raise CaseError(f"{name}: its slices state no ImagePositionPatient or ImageOrientationPatient")
    normal = np.cross(directions[:3], directions[3:])
    length = np.linalg.norm(normal)
    if not length > 0:
        raise CaseError(f"{name}: ImageOrientationPatient has no direction, {directions.tolist()}")
    places = np.array([header.position for header in headers]) @ (normal / length)
    order = np.argsort(places, kind="stable")
    ordered = [headers[index] for index in order]
    steps = np.diff(places[order])
    _check_steps(name, ordered, steps)
    first, last = ordered[0].position, ordered[-1].position
    step = (np.asarray(last) - np.asarray(first)) / (len(ordered) - 1)
    sideways = float(np.linalg.norm(step - normal / length * (step @ normal / length)) / np.linalg.norm(step))
    if sideways > SKEWED:
        degrees = np.degrees(np.arcsin(min(1.0, sideways)))
        raise CaseError(
            f"{name}: slices are shifted against each other, {degrees:.1f} degrees (tilted gantry); its voxels are no "
            "boxes and masks would land beside the anatomy: resample it first, such as with dcm2niix"
        )
    _check_grid(name, ordered, step)
    return ordered, step


def _check_grid(name: str, ordered: list[Header], step: npt.NDArray[np.float64]) -> None:
    """Raises CaseError: a slice lies beside the others, or has pixels of another size."""
    places = np.array([header.position for header in ordered])
    along, offsets = step / np.linalg.norm(step), places - places[0]
    beside = np.linalg.norm(offsets - (offsets @ along)[:, None] * along, axis=1)
    worst = int(np.argmax(beside))
    if beside[worst] > BESIDE_MM:
        raise CaseError(
            f"{name}: {ordered[worst].path.name} lies {beside[worst]:.2f} mm beside the line of the other slices; "
            "resample it first"
        )
    stated = (numbers_of(header.dataset.get("PixelSpacing"), 2) for header in ordered)
    sizes = [size for size in stated if size is not None]
    if sizes and np.ptp(sizes, axis=0).max() > SAME_SIZE_MM:
        raise CaseError(f"{name}: its slices have pixels of several sizes (PixelSpacing); resample it first")


def _check_steps(name: str, ordered: list[Header], steps: npt.NDArray[np.float64]) -> None:
    usual = float(np.median(steps))
    between = [f"{a.path.name} and {b.path.name}" for a, b in itertools.pairwise(ordered)]
    least, most = int(np.argmin(steps)), int(np.argmax(steps))
    if steps[least] < 1e-3:
        twice = int((steps < 1e-3).sum())
        raise CaseError(
            f"{name}: {between[least]} lie at the same place ({twice} such pairs): duplicates, or several phases or "
            "echoes in one series; keep one of them in the folder"
        )
    if steps[most] > GAP * usual:
        raise CaseError(
            f"{name}: slices are missing between {between[most]}, {steps[most]:.2f} mm apart where {usual:.2f} are "
            "usual; export the series again"
        )
    if np.ptp(steps) > UNEVEN_MM + usual / 100:
        raise CaseError(
            f"{name}: slices are unevenly spaced, {steps[least]:.2f} mm ({between[least]}) to {steps[most]:.2f} mm; "
            "resample it first"
        )

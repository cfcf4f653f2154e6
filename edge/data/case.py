"""The challenge's case: what is read, what is written, and every check of a user's input."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.box_records import as_rows
from edge.data.boxes import check_boxes
from edge.data.folders import Types, files_in, files_within
from edge.data.geometry import Geometry
from edge.data.labels import number_by_box
from edge.data.modality import modality_of
from edge.data.names import address_of, is_folder, is_remote
from edge.data.npz import read_npz, write_npz
from edge.errors import CaseError
from edge.notes import Note

LISTED_TYPES = 4  # endings that a text names
FEW_GREYS = 16  # between darkest and brightest; so few hide what was in the fractions
NO_SPACING = "spacing must be 3 positive numbers (x, y, z) in mm and is left out; masks do not use it"

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Case:
    """One image or volume with its boxes, checked."""

    name: str  # file name without .npz, such as 3DBox_CT_0001
    image: npt.NDArray[np.uint8]  # (H, W, 3) image, or (D, H, W) volume
    boxes: npt.NDArray[np.float64]  # (N, 4) x_min y_min x_max y_max, or (N, 6) x y z min, x y z max; inclusive pixels
    spacing_mm: Spacing | None = None  # (z, y, x); None: not stated
    truth: npt.NDArray | None = None  # labels, (H, W) or (D, H, W); None: not known or not asked for
    notes: tuple[Note, ...] = ()  # what was assumed; `Segmenter.segment` warns of it
    geometry: Geometry | None = None  # of a scan: affine and orientation, the way back to its file; None: not known
    stated_modality: str | None = None  # by a header or a user, one of MODALITIES; None: what the name says
    label_names: tuple[str, ...] = ()  # of each box; empty: not known

    @property
    def is_volume(self) -> bool:
        return self.boxes.shape[1] == 6

    @property
    def modality(self) -> str:
        return self.stated_modality or modality_of(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label map: (H, W) or (D, H, W)."""
        return self.image.shape if self.is_volume else self.image.shape[:2]

    @property
    def slices(self) -> npt.NDArray[np.uint8]:
        """The volume (D, H, W), or an image as its one slice, (1, H, W, 3)."""
        return self.image if self.is_volume else self.image[None]

    @property
    def boxes_in_volume(self) -> npt.NDArray[np.float64]:
        """The boxes (N, 6) among the slices."""
        return self.boxes if self.is_volume else np.insert(self.boxes, [2, 4], 0, axis=1)

    @property
    def boxes_on_slice(self) -> npt.NDArray[np.float64]:
        """The boxes (N, 4) without z: in a volume, on their middle slices."""
        return self.boxes[:, [0, 1, 3, 4]] if self.is_volume else self.boxes


def find_cases(
    inputs: Path, types: Types = (".npz",), *, recursive: bool = False, leave_out: Path | None = None
) -> list[Path]:
    """The case files of a folder in name order, or the one file given.

    Args:
        types: ends of names that are looked for, in lower case.
        recursive: those of the folders within it, too.
        leave_out: a folder not to go into.

    Raises:
        CaseError: nothing there, not readable, or nothing of these types among it.
    """
    try:
        if not is_remote(inputs) and not inputs.exists():
            raise CaseError(f"{inputs}: no such file or folder")
        if not is_folder(inputs):
            return [inputs]
    except OSError as error:
        raise CaseError(f"{inputs}: cannot be read ({error.strerror or error})") from None
    found = files_in(inputs, types)
    if recursive:
        found = sorted([*found, *files_within(inputs, types, leave_out)])
    if not found:
        nested = None if recursive else next(files_within(inputs, types, leave_out), None)
        cure = "give its folder, or --recursive where a command has it"
        where = f"; there is {address_of(nested)}: {cure}" if nested else ""
        kinds = " or ".join(types[:LISTED_TYPES]) + (" or another" if len(types) > LISTED_TYPES else "")
        raise CaseError(f"{address_of(inputs)}: no {kinds} case in this folder{where}")
    return found


def read_case(path: Path, *, with_truth: bool = False) -> Case:
    """A checked case from a challenge `.npz`: keys `imgs`, `boxes`, optional `spacing` (file order x, y, z) and `gts`.

    Raises:
        CaseError: names the case, the key, what came, what was expected.
    """
    name = path.stem
    if path.suffix.lower() != ".npz":
        raise CaseError(f"{name}: {path.name} is not an .npz file; give one, or a folder of them")
    arrays = read_npz(path, ["imgs", "boxes"] + (["gts"] if with_truth else []), records=["boxes"])
    for key in ("imgs", "boxes"):
        if key not in arrays:
            raise CaseError(f"{name}: key {key!r} is missing; a case needs 'imgs' and 'boxes'")
    case = make_case(name, arrays["imgs"], arrays["boxes"], truth=arrays.get("gts"))
    spacing_mm, notes = _read_spacing(path)
    return replace(case, spacing_mm=spacing_mm, notes=(*case.notes, *notes))


def make_case(
    name: str,
    image: npt.NDArray,
    boxes: npt.ArrayLike,
    spacing_xyz_mm: npt.NDArray | None = None,
    truth: npt.NDArray | None = None,
    *,
    shaped: int | None = None,
) -> Case:
    """A checked case from arrays.

    Args:
        name: decides 2D or 3D by its prefix `2DBox_` or `3DBox_`; without one, the number of box columns does.
        image: (H, W, 3) or (H, W) for 2D, (D, H, W) or (D, H, W, 1) for 3D, values 0 to 255. Floats are rounded (the
            public program resizes them as they are; 0.995 of its pixels are ours); floats and booleans in 0 to 1 are
            stretched to 0 to 255 before, with a note.
        boxes: (N, 4) or (N, 6), any numeric type, pixels of `image`; see `edge.data.boxes`. Or records, such as a
            list of dicts; see `edge.data.box_records`.
        spacing_xyz_mm: voxel size in the challenge's file order (x, y, z). Masks do not use it: what is not three
            positive numbers is left out, with a note.
        truth: whole numbers of the image's spatial shape; label k belongs to box k, see `edge.data.labels`.
        shaped: 2 or 3 where the file's format says so, whatever the name; None: the name or the boxes do.

    Raises:
        CaseError: see `read_case`.
    """
    rows, record_notes = as_rows(name, boxes)
    is_volume = _is_volume(name, image, rows) if shaped is None else shaped == 3
    checked_image, image_notes = _check_image(name, image, is_volume)
    shape = checked_image.shape if is_volume else checked_image.shape[:2]
    checked_boxes, box_notes = check_boxes(name, rows, shape)
    spacing_mm, spacing_notes = (None, ()) if spacing_xyz_mm is None else _check_spacing(np.asarray(spacing_xyz_mm))
    if truth is not None:
        truth, _ = number_by_box(check_labels(name, "gts", truth, shape), len(checked_boxes))
    notes = (*image_notes, *record_notes, *box_notes, *spacing_notes)
    return Case(name, checked_image, checked_boxes, spacing_mm, truth, notes)


def write_case(path: Path, case: Case) -> None:
    """Write a case in the challenge's form; `gts` and `spacing` only where known."""
    boxes = case.boxes.astype(np.int64) if np.all(case.boxes == np.rint(case.boxes)) else case.boxes
    arrays = {"imgs": case.image, "boxes": boxes}
    if case.truth is not None:
        arrays["gts"] = case.truth
    if case.spacing_mm is not None:
        arrays["spacing"] = np.array(case.spacing_mm[::-1])
    write_npz(path, arrays)


def read_labels(path: Path, key: str) -> tuple[npt.NDArray, Spacing | None]:
    """A label map (`segs` or `gts`) and its spacing (z, y, x) in mm, if the file states one that can be used.

    Raises:
        CaseError: unreadable, key missing, or not a label map.
    """
    arrays = read_npz(path, [key])
    if key not in arrays:
        raise CaseError(f"{path.stem}: key {key!r} is missing")
    labels = check_labels(path.stem, key, arrays[key], arrays[key].shape)
    return labels, _read_spacing(path)[0]


def _read_spacing(path: Path) -> tuple[Spacing | None, tuple[Note, ...]]:
    """Spacing (z, y, x) of a file, or why it has none; nothing of it stands in the way of the rest."""
    try:
        spacing = read_npz(path, ["spacing"]).get("spacing")
    except CaseError as error:  # None is saved as a pickle
        return None, (Note(NO_SPACING, str(error).removeprefix(f"{path.stem}: ").partition(";")[0]),)
    return (None, ()) if spacing is None else _check_spacing(spacing)


def check_labels(name: str, key: str, labels: npt.NDArray, shape: tuple[int, ...]) -> npt.NDArray:
    """Labels as unsigned integers of `shape`.

    Raises:
        CaseError: another shape, not 2D or 3D, fractional or negative values.
    """
    if labels.ndim not in (2, 3) or labels.shape != shape:
        raise CaseError(f"{name}: {key} must have shape {shape}, got {labels.shape}")
    if labels.dtype.kind not in "uibf" or (labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels))):
        raise CaseError(f"{name}: {key} must hold whole numbers, got {labels.dtype}")
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.uint16).max):
        raise CaseError(f"{name}: {key} must hold labels 0 to 65535, got {labels.min()} to {labels.max()}")
    return labels if labels.dtype == np.uint8 else labels.astype(np.uint16)


def _is_volume(name: str, image: npt.NDArray, boxes: npt.NDArray) -> bool:
    if name.startswith("2DBox_"):
        return False
    if name.startswith("3DBox_"):
        return True
    if boxes.size:
        return boxes.shape[-1:] == (6,)
    return image.ndim == 3 and image.shape[-1] not in (1, 3, 4)


def _check_image(name: str, image: npt.NDArray, is_volume: bool) -> tuple[npt.NDArray[np.uint8], tuple[Note, ...]]:
    shape = image.shape
    if is_volume:
        if image.ndim == 4 and shape[-1] == 1:
            image = image[..., 0]
        if image.ndim != 3:
            raise CaseError(
                f"{name}: imgs must be (D, H, W) for a 3D case, got {shape}; a 2D case's name starts with 2DBox_"
            )
    else:
        if image.ndim == 3 and shape[-1] == 1:
            image = image[..., 0]
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=-1)
        if image.ndim != 3 or image.shape[-1] != 3:
            raise CaseError(
                f"{name}: imgs must be (H, W, 3) for a 2D case, got {shape}; a 3D case's name starts with 3DBox_"
            )
    if image.size == 0:
        raise CaseError(f"{name}: imgs is empty, shape {shape}")
    if image.dtype == np.uint8:
        return image, ()
    if image.dtype.kind not in "uibf":
        raise CaseError(f"{name}: imgs must be numeric, got {image.dtype}")
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 255):  # also when NaN
        raise CaseError(
            f"{name}: imgs must lie in 0 to 255, got {low} to {high}; window or scale the intensities first"
        )
    if image.dtype.kind in "ui":
        return image.astype(np.uint8), ()
    return _to_greys(image, float(low), float(high))


def _to_greys(image: npt.NDArray, low: float, high: float) -> tuple[npt.NDArray[np.uint8], tuple[Note, ...]]:
    """Fractions from `low` to `high` as whole greys, stretched where they end at 1, and what is to be told of it."""
    stretched, exact = 0 < high <= 1, True
    greys = np.empty(image.shape, np.uint8)
    for plane, fractions in zip(greys, image, strict=True):  # a float copy of a whole volume is not made
        plane[:] = np.rint(fractions * np.float32(255) if stretched else fractions)
        exact = exact and np.array_equal(plane, fractions)
    got = f"{image.dtype}, {low:g} to {high:g}"
    if stretched:
        return greys, (Note("imgs lies in 0 to 1 and is stretched to 0 to 255", got),)
    if not exact and low < high and np.ptp(greys) < FEW_GREYS:
        return greys, (Note("imgs is rounded to a few greys; scale it to 0 to 255 if that is not meant", got),)
    return greys, ()


def _check_spacing(spacing_xyz: npt.NDArray) -> tuple[Spacing | None, tuple[Note, ...]]:
    """Spacing in array order (z, y, x) from the file's (x, y, z), or why there is none."""
    got = f"{spacing_xyz.dtype} of shape {spacing_xyz.shape}"
    if spacing_xyz.dtype.kind in "uif" and spacing_xyz.size == 3:
        values = spacing_xyz.astype(np.float64).ravel()
        if np.all(np.isfinite(values)) and np.all(values > 0):
            x, y, z = values.tolist()
            return (z, y, x), ()
        got = f"got {' '.join(f'{value:g}' for value in values)}"
    return None, (Note(NO_SPACING, got),)

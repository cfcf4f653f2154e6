"""The boxes of a case: from the command line, a file of boxes, a label map, the case's own file, or beside it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.box_files import BoxList, read_box_file
from edge.data.box_json import may_hold_boxes
from edge.data.box_names import UNITS
from edge.data.boxes import check_boxes
from edge.data.case import Case, make_case
from edge.data.datasets import dataset_truth
from edge.data.extent import box_of, extent_of
from edge.data.formats.registry import kind_of
from edge.data.geometry import Geometry
from edge.data.labels import numbers_in
from edge.data.names import BOX_FILES, LABEL_MAPS, TRUTH, address_of, case_name, is_remote
from edge.data.objects import masks_of_case, names_of_labels
from edge.data.outputs import DICOM_ONLY, ENDINGS
from edge.data.recist import boxes_of_lines
from edge.errors import CaseError, RunError
from edge.notes import Note

AS_LINES = "x1,y1,x2,y2 are read as the ends of a measured line (RECIST); corners are x_min,y_min,x_max,y_max"
OWN_BOXES = "--box-units and --box-format are of other files; the boxes of an .npz are voxels and corners"
OF_DATASET = "boxes are those around the labels of its data set"

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prompting:
    """What a user says about boxes; at most one of the first three."""

    box: str | None = None  # one for every case, such as 10,20,30,40
    boxes: Path | None = None  # a file of boxes, see `edge.data.box_files`
    boxes_from: Path | None = None  # a label map, or a folder with one of each case's name
    units: str | None = None  # one of `edge.data.box_files.UNITS`; None: what a file says, else voxels
    box_format: str | None = None  # xyxy or xywh, of a file

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.box, self.boxes, self.boxes_from)) > 1:
            raise RunError("give one of --box, --boxes and --boxes-from")
        if self.box is not None and self.box_format:
            raise RunError("--box-format is of files of boxes; --box holds corners")
        for path in (self.boxes, self.boxes_from):
            if path is not None and is_remote(path):
                raise RunError(f"{address_of(path)}: copy it to a disk, or lay files of boxes beside the cases")
            if path is not None and not path.exists():
                raise RunError(f"{path}: no such file or folder")

    @property
    def is_given(self) -> bool:
        """Whether boxes come from elsewhere than the case and what lies beside it."""
        return any(given is not None for given in (self.box, self.boxes, self.boxes_from))


def prompted(case: Case, path: Path, prompting: Prompting | None = None) -> Case:
    """A case with its boxes, in the volume's indices.

    Those of an `.npz` are in it; of another case in `<name>.csv` or `<name>.json` beside it, or those around its labels
    where it is of a data set that has these, unless `prompting` names others.

    Raises:
        CaseError: there are none, or they do not fit.
    """
    chosen = prompting or Prompting()
    if chosen.boxes_from is not None:
        rows, labels = _boxes_of_map(case, path, _map_for(path, chosen.boxes_from))
        return _checked(case, rows, labels)
    if chosen.box is not None:
        found = _one_box(case, chosen.box)
    elif chosen.boxes is not None:
        found = read_box_file(path, chosen.boxes, _axes(case), chosen.box_format, chosen.units)
    elif kind_of(path) == "npz":
        given = chosen.units or chosen.box_format
        return replace(case, notes=(*case.notes, Note(OWN_BOXES))) if given else case
    else:
        file = box_file_beside(path)
        if not file.exists() and (truth := dataset_truth(path)):
            rows, labels = _boxes_of_map(case, path, truth)
            return _checked(replace(case, notes=(*case.notes, Note(OF_DATASET, truth.name))), rows, labels)
        found = read_box_file(path, file, _axes(case), chosen.box_format, chosen.units)
    if found.lines is not None and not case.is_volume and np.isnan(found.lines[:, 2:]).all():
        case = replace(case, notes=(*case.notes, Note(AS_LINES)))
    if chosen.units and found.units and chosen.units != found.units:
        raise CaseError(f"{case.name}: its file of boxes says {found.units}, and --box-units {chosen.units}")
    rows, notes = _placed(case, found, chosen.units or found.units or UNITS[0])
    return _checked(case, rows, found.labels, notes)


def box_file_beside(path: Path) -> Path:
    """The file of boxes of a case, `<name>.csv` where there is neither."""
    table, text = (path.parent / f"{case_name(path)}{ending}" for ending in BOX_FILES)
    return text if not table.exists() and text.is_file() and may_hold_boxes(path, text) else table


def box_source(path: Path, prompting: Prompting) -> Path | None:
    """The file that a case's boxes are read from, as `prompted` does; None: they are in it, or on the command line.

    Raises:
        CaseError: of a folder of label maps, none is the case's.
    """
    if prompting.boxes_from is not None:
        return _map_for(path, prompting.boxes_from)
    if prompting.boxes is not None:
        return prompting.boxes
    beside = box_file_beside(path)
    return beside if prompting.box is None and kind_of(path) != "npz" and beside.is_file() else None


def boxes_of_labels(labels: npt.NDArray) -> tuple[Rows, list[int]]:
    """Tight boxes, (N, 4) or (N, 6), of the numbers in a label map (H, W) or (D, H, W), and these numbers, ascending.

    In 3D, x and y are those of the object's middle slice, or of all its slices where that one lacks it.
    """
    rows, numbers = _boxes((number, labels == number) for number in numbers_in(labels).tolist())
    return rows.reshape(len(numbers), 2 * labels.ndim), numbers


def _boxes(masks: Iterable[tuple[int, npt.NDArray[np.bool_]]]) -> tuple[Rows, list[int]]:
    found = [(number, _box(mask)) for number, mask in masks]
    return np.array([row for _, row in found], np.float64), [number for number, _ in found]


def _box(mask: npt.NDArray[np.bool_]) -> list[float]:
    if mask.ndim == 2:
        return box_of(mask).tolist()
    slices = extent_of(mask)[0]
    middle = mask[(slices.start + slices.stop - 1) // 2]
    low_x, low_y, high_x, high_y = box_of(middle if middle.any() else np.asarray(np.any(mask, axis=0))).tolist()
    return [low_x, low_y, slices.start, high_x, high_y, slices.stop - 1]


def _boxes_of_map(case: Case, path: Path, file: Path) -> tuple[Rows, tuple[str, ...]]:
    rows, numbers = _boxes(masks_of_case(case, path, file))
    if not numbers:
        raise CaseError(f"{case.name}: {file.name} holds no object, only background")
    names = names_of_labels(file)
    return rows, tuple(names.get(number) or str(number) for number in numbers)


def _map_for(path: Path, given: Path) -> Path:
    if not given.is_dir():
        if _is_image(given, path):
            raise CaseError(f"{case_name(path)}: --boxes-from names the image itself; give its label map")
        return given
    stem, endings = case_name(path), (".npz", ENDINGS["png"], *LABEL_MAPS, *(ENDINGS[one] for one in DICOM_ONLY))
    for file in (given / f"{stem}{end}{ending}" for end in (TRUTH, "") for ending in endings):
        if file.is_file() and not _is_image(file, path):
            return file
    raise CaseError(f"{stem}: no label map of its name in {given}, such as {stem}{TRUTH}.nii.gz; the image is none")


def _is_image(file: Path, path: Path) -> bool:
    """Whether a file of labels is the case itself, which only an `.npz` may be."""
    return kind_of(path) != "npz" and file.exists() and path.exists() and file.samefile(path)


def _one_box(case: Case, text: str) -> BoxList:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (4, 6):
        raise RunError(f"--box must be x0,y0,x1,y1 or x0,y0,x1,y1,z0,z1, got {text!r}")
    if len(numbers) != 2 * _axes(case):
        needed = "x0,y0,x1,y1,z0,z1 of a volume" if case.is_volume else "x0,y0,x1,y1 of an image"
        raise CaseError(f"{case.name}: --box must be {needed}, got {text}")
    order = [0, 1, 4, 2, 3, 5] if case.is_volume else [0, 1, 2, 3]
    box = np.array([[numbers[place] for place in order]])
    if (box[:, : _axes(case)] > box[:, _axes(case) :]).any():
        needed = "x0,y0,x1,y1,z0,z1" if case.is_volume else "x0,y0,x1,y1"
        raise CaseError(f"{case.name}: --box must be {needed}, each 0 at most its 1, got {text}")
    return BoxList(box)


def _placed(case: Case, found: BoxList, units: str) -> tuple[Rows, tuple[Note, ...] | None]:
    """Boxes in voxels of the file, or in mm, as voxels of the volume, and doubts about them; None: not looked for yet.

    Raises:
        CaseError: they are not what is expected, in the numbers that were given.
    """
    rows, geometry = found.rows, case.geometry
    if units != UNITS[0] and (geometry is None or not case.is_volume):
        raise CaseError(f"{case.name}: states no place in mm; give boxes in voxels")
    if found.lines is not None:
        ends = found.lines
        if geometry is not None and case.is_volume:
            in_voxels = units == UNITS[0]
            ends = geometry.volume_from_file(ends) if in_voxels else geometry.volume_from_mm(ends, units)
        spacing_mm = case.spacing_mm or (1.0, 1.0, 1.0)
        return boxes_of_lines(case.name, ends, spacing_mm[-_axes(case) :], case.shape), None
    if geometry is None or not case.is_volume or rows.shape[1:] != (6,) or not np.isfinite(rows).all():
        return rows, None
    notes: tuple[Note, ...] | None = None
    if units == UNITS[0]:
        within, notes = check_boxes(case.name, _on_slices(rows, geometry), geometry.file_shape[::-1])
        last = np.array(geometry.file_shape) - 1
        ends = geometry.volume_from_file(np.minimum(within.reshape(-1, 2, 3), last))
    else:
        corners = rows.reshape(-1, 2, 3)
        if (corners[:, 0] > corners[:, 1]).any():
            raise CaseError(f"{case.name}: a box has a minimum above its maximum; expected x_min y_min z_min x_max ...")
        picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, 8).T
        eight = np.stack([corners[:, pick, [0, 1, 2]] for pick in picks], axis=1)  # (N, 8, 3)
        ends = geometry.volume_from_mm(eight, units)
    placed = np.round(np.stack([ends.min(axis=1), ends.max(axis=1)], axis=1), 6)
    placed[..., 2] = np.rint(placed[..., 2])
    return placed.reshape(-1, 6), notes


def _on_slices(rows: Rows, geometry: Geometry) -> Rows:
    """Boxes (N, 6) in voxels of the file, where they end within half a slice of the first or the last on that slice."""
    within, along = rows.copy(), geometry.axes[0]
    ends, last = within[:, [along, along + 3]], geometry.file_shape[along] - 1
    near = np.abs(ends - np.clip(ends, 0, last)) < 0.5
    within[:, [along, along + 3]] = np.where(near, np.clip(ends, 0, last), ends)
    return within


def _checked(case: Case, rows: Rows, labels: tuple[str, ...], notes: tuple[Note, ...] | None = None) -> Case:
    checked = make_case(case.name, case.image, rows, shaped=_axes(case))
    doubts = checked.notes if notes is None else notes
    return replace(case, boxes=checked.boxes, label_names=labels, notes=(*case.notes, *doubts))


def _axes(case: Case) -> int:
    return 3 if case.is_volume else 2

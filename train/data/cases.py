"""Training data as it lies in folders: challenge cases (`.npz` with `gts`), pictures with a label map beside them."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import Case, make_case, read_case
from edge.data.datasets import channel_number, channels_of, dataset_images, dataset_truth, is_dataset
from edge.data.folders import files_within
from edge.data.formats.registry import is_truth, kind_of, read_with_truth
from edge.data.labels import renumber
from edge.data.modality import modality_of
from edge.data.names import LABEL_MAPS, PICTURES, TRUTH, case_name
from edge.data.npz import read_npz
from edge.data.prompting import boxes_of_labels
from edge.data.scan import Reading
from edge.errors import CaseError, CaseWarning
from edge.prompts.slice_ranges import SliceRanges
from edge.prompts.tracking import track_boxes

# label, x_min, y_min, x_max, y_max (inclusive px), area in px: one row per object
Objects = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Slice:
    """One image, or one slice of a volume, that holds at least one object."""

    case: str  # name of the case it is from
    index: int  # of the slice, 0 for an image
    image: npt.NDArray[np.uint8]  # (H, W, 3) or (H, W)
    labels: npt.NDArray  # (H, W), 0 is background
    prompts: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)  # label -> box (4,), see `volume_prompts`

    @property
    def modality(self) -> str:
        return modality_of(self.case)


def find_sources(folders: Iterable[Path]) -> list[Path]:
    """The labelled cases of folders, in name order: every `.npz`, every picture or scan with `<name>_gt.*` beside it.

    Of a data set of nnU-Net or BIDS every image that has labels, each channel as a case of its own.

    Raises:
        CaseError: a folder is not there, or nothing labelled lies in any of them.
    """
    sources = []
    for folder in folders:
        if not folder.is_dir():
            raise CaseError(f"{folder}: no such folder of training data")
        if is_dataset(folder):
            images = [image for image in dataset_images(folder) if dataset_truth(image)]
            sources += [file for image in images for file in channels_of(image) or [image]]
            continue
        names = {path.name for path in folder.iterdir()}
        if nested := next(files_within(folder, (".npz", *(f"{TRUTH}{ending}" for ending in LABEL_MAPS))), None):
            what = f"{folder}: its subfolders are passed over, such as that of {nested}; give them with --data, too"
            warnings.warn(what, CaseWarning, stacklevel=2)
        sources += sorted(
            folder / name
            for name in names
            if name[0] != "." and (name.lower().endswith(".npz") or _is_labelled(folder / name, names))
        )
    if not sources:
        where = ", ".join(map(str, folders))
        raise CaseError(f"{where}: no .npz case, and no picture or scan with its truth, <name>{TRUTH}.*, beside it")
    return sources


def distinct_names(sources: Sequence[Path]) -> list[str]:
    """The cases' names; with the folder, or where that is alike too the whole path, of those that share one."""
    names = [case_name(source) for source in sources]
    for longer in (lambda source: f"{source.parent.name}/{case_name(source)}", str):
        shared = {name for name, number in Counter(names).items() if number > 1}
        names = [longer(source) if name in shared else name for name, source in zip(names, sources, strict=True)]
    return names


def read_slices(source: Path, limit: int | None = None) -> Iterator[Slice]:
    """The slices of a case that hold an object.

    Args:
        limit: at most this many slices of a volume, evenly spread; None: all.

    Raises:
        CaseError: the case cannot be read or does not fit.
    """
    case = _read(source)
    truth = truth_of(case)
    if not case.is_volume:
        yield Slice(case.name, 0, _without_repeated_channels(case.image), truth)
        return
    held = np.flatnonzero(truth.reshape(len(truth), -1).any(axis=1))
    if limit is not None and len(held) > limit:
        held = held[np.linspace(0, len(held) - 1, limit).round().astype(int)]
    boxes_on = volume_prompts(case.image, truth)
    for z in held.tolist():
        if case.image[z].min() < case.image[z].max():
            yield Slice(case.name, z, case.image[z], truth[z], boxes_on(z))


def volume_prompts(
    image: npt.NDArray[np.uint8], truth: npt.NDArray
) -> Callable[[int], dict[int, npt.NDArray[np.float64]]]:
    """What `--method tracked` prompts slice z of labels (D, H, W) with: label -> box (x_min, y_min, x_max, y_max).

    Each label's extent on the middle slice of its range, tracked; none for a label that its middle slice lacks.
    """
    extents: dict[int, dict[int, npt.NDArray[np.int64]]] = {}  # label -> slice -> extent
    for z, labels in enumerate(truth):
        for label, *extent in find_objects(labels)[:, :5].tolist():
            extents.setdefault(label, {})[z] = np.array(extent)
    boxes = {}
    for label, slices in extents.items():
        first, last = min(slices), max(slices)
        middle = slices.get((first + last) // 2)
        if middle is not None:
            boxes[label] = np.array([*middle[:2], first, *middle[2:], last], dtype=np.float64)
    stacked = np.array(list(boxes.values())).reshape(-1, 6)
    ranges = SliceRanges.from_boxes(stacked)
    tracked = track_boxes(image, stacked[:, [0, 1, 3, 4]], ranges)

    def on(z: int) -> dict[int, npt.NDArray[np.float64]]:
        prompts = zip(boxes, tracked[z], ranges.first, ranges.last, strict=True)
        return {label: box for label, box, first, last in prompts if first <= z <= last}

    return on


def read_labelled(source: Path) -> Case:
    """A case with its truth; the boxes of an `.npz` as they are there, of a picture its objects' extents.

    Numbers that do not occur in the truth are no objects: see `edge.data.labels`.

    Raises:
        CaseError: the case cannot be read or does not fit, or has no truth.
    """
    case = _with_warnings(_read(source))
    if has_boxes(source):
        return case
    truth = renumber(truth_of(case))
    return replace(case, truth=truth, boxes=case.boxes if case.is_volume else find_objects(truth)[:, 1:5].astype(float))


def read_boxed(source: Path) -> Case:
    """A case with its truth and boxes; of a volume whose file says none, those around its labels.

    Raises:
        CaseError: see `read_labelled`; or its file says that it has no box.
    """
    case = read_labelled(source)
    if len(case.boxes):
        return case
    if has_boxes(source):
        raise CaseError(f"{case.name}: boxes holds no box")
    return replace(case, boxes=boxes_of_labels(truth_of(case))[0])  # labels are numbered as these are


def _read(source: Path) -> Case:
    return read_case(source, with_truth=True) if has_boxes(source) else read_drawn(source)


def has_boxes(source: Path) -> bool:
    """Whether a case's file says what its boxes are, if only that it has none."""
    return source.suffix.lower() == ".npz" and "boxes" in read_npz(source, ["boxes"], records=["boxes"])


def read_drawn(source: Path) -> Case:
    """A case without boxes, its truth in the numbers it was drawn with: in label maps these may be classes.

    Raises:
        CaseError: the case cannot be read or does not fit, or has no truth.
    """
    if kind_of(source) != "npz":
        return read_with_truth(source, Reading(volume=channel_number(source)))
    arrays = read_npz(source, ["imgs", "gts"])
    for key in ("imgs", "gts"):
        if key not in arrays:
            raise CaseError(f"{source.stem}: key {key!r} is missing; training needs 'imgs' and 'gts'")
    return make_case(source.stem, arrays["imgs"], np.zeros((0, 4)), truth=arrays["gts"])


def _with_warnings(case: Case) -> Case:
    """The case, after warning of what was assumed about it; each kind once, as Python does with equal warnings."""
    for note in case.notes:
        warnings.warn(f"training data: {note.what}", CaseWarning, stacklevel=2)
    return replace(case, notes=())


def truth_of(case: Case) -> npt.NDArray:
    """The case's labels.

    Raises:
        CaseError: it has none, or none but background.
    """
    if case.truth is None:
        raise CaseError(f"{case.name}: key 'gts' is missing; training needs the truth")
    if not case.truth.any():
        raise CaseError(f"{case.name}: its truth holds no object")
    return case.truth


def find_objects(labels: npt.NDArray) -> Objects:
    """The objects (K, 6) of a label map in label order; see `Objects`."""
    rows, columns = np.nonzero(labels)
    found = labels[rows, columns].astype(np.int64)
    order = np.argsort(found, kind="stable")
    found, rows, columns = found[order], rows[order], columns[order]
    starts = np.flatnonzero(np.diff(found, prepend=0))
    if starts.size == 0:
        return np.zeros((0, 6), dtype=np.int64)
    least, most = np.minimum.reduceat, np.maximum.reduceat
    corners = (least(columns, starts), least(rows, starts), most(columns, starts), most(rows, starts))
    return np.stack([found[starts], *corners, np.diff(starts, append=len(found))], axis=1)


def _is_labelled(path: Path, names: set[str]) -> bool:
    """An image whose truth lies beside it, among `names`, or where its data set has it; of a picture a picture."""
    if is_truth(path):
        return False
    endings = [ending for ending in LABEL_MAPS if ending in PICTURES or path.suffix.lower() not in PICTURES]
    beside = any(f"{case_name(path)}{TRUTH}{ending}" in names for ending in endings)
    return (beside or dataset_truth(path) is not None) and kind_of(path) is not None


def _without_repeated_channels(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W) where the three channels are the same: a third of the cache, and greys stay greys when augmented."""
    first = image[..., 0]
    grey = np.array_equal(first, image[..., 1]) and np.array_equal(first, image[..., 2])
    return np.ascontiguousarray(first) if grey else image

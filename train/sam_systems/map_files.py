"""Images with a label map each, as they lie in folders; the label map made into what is to be learned.

Layouts: NuInsSeg (one folder per organ with `tissue images`, `label masks modify` and `vague areas`), a folder with
`images` and `labels` (or `masks`) of the same file names, and everything that `train.data.cases.find_sources` finds
flat.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.data.label_picture import read_label_picture
from edge.data.labels import some
from edge.data.modality import dataset_in_name
from edge.data.names import PICTURES
from edge.data.picture import decode_picture, read_rgb
from edge.errors import CaseError, RunError
from edge.scoring.instances import instances_from_mask
from train.data.cases import find_sources, read_drawn, truth_of
from train.sam_systems.augment import Picture

TISSUE, MODIFIED, PLAIN, VAGUE = "tissue images", "label masks modify", "label masks", "vague areas"
LABEL_FOLDERS = ("labels", "masks")
LABEL_TYPES = (".tif", ".tiff", ".png")
MAX_LABEL = 2**24  # what a float picture of labels holds exactly


@dataclass(frozen=True)
class MapSource:
    """An image with its label map, not read yet."""

    name: str
    group: str  # organ, or data set
    image: Path
    labels: Path | None  # None: in the case file that `image` is, or beside it
    ambiguous: Path | None = None  # mask of what nobody could label


def find_maps(folders: Iterable[Path]) -> list[MapSource]:
    """The labelled images of folders, in name order.

    Raises:
        CaseError: a folder is not there or holds none, or two images have one name.
    """
    found: list[MapSource] = []
    for folder in folders:
        if not folder.is_dir():
            raise CaseError(f"{folder}: no such folder of training data")
        organs = [organ for organ in sorted(folder.iterdir()) if (organ / TISSUE).is_dir()]
        if (folder / TISSUE).is_dir():
            organs = [folder]
        labels = next((folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()), None)
        if organs:
            found += [source for organ in organs for source in _organ(organ)]
        elif labels is not None and (folder / "images").is_dir():
            found += [
                MapSource(path.stem, dataset_in_name(path.stem), path, label)
                for path in _pictures(folder / "images")
                if (label := _labels_of(path.stem, labels)) is not None
            ]
        else:
            flat = [path for path in find_sources([folder]) if not path.name.startswith("3DBox_")]
            found += [MapSource(path.stem, dataset_in_name(path.stem), path, None) for path in flat]
    if not found:
        raise CaseError(f"{', '.join(map(str, folders))}: no image with a label map")
    names = [source.name for source in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CaseError(f"{twice[0]}: {names.count(twice[0])} images have this name; rename or leave one out")
    return found


def choose_groups(sources: Sequence[MapSource], only: Sequence[str], leave_out: Sequence[str]) -> list[MapSource]:
    """The sources of the groups that are wanted.

    Raises:
        RunError: a name that no source's group has.
    """
    present = {source.group for source in sources}
    for key, names in (("only", only), ("leave_out", leave_out)):
        if unknown := sorted(set(names) - present):
            raise RunError(f"{key}: no image of {', '.join(unknown)}; there are {', '.join(sorted(present))}")
    wanted = (set(only) or present) - set(leave_out)
    return [source for source in sources if source.group in wanted]


def with_objects(sources: Sequence[MapSource], target: str) -> tuple[list[MapSource], list[str]]:
    """The sources whose label map holds something of the target, and a line for each that is broken or empty."""
    kept, left_out = [], []
    for source in sources:
        try:
            labels = read_map(source).labels
            if instances(labels, target).any():
                kept.append(source)
            else:
                numbers = np.setdiff1d(labels, [0])
                held = f"only {some(numbers)} where target={target}" if len(numbers) else "nothing to learn"
                left_out.append(f"{source.name}: its label map holds {held}")
        except CaseError as error:
            left_out.append(str(error))
    return kept, left_out


def read_map(source: MapSource) -> Picture:
    """The image, its labels, and where they count.

    Raises:
        CaseError: a file cannot be read, or image and labels are not of one size.
    """
    if source.labels is None:
        case = read_drawn(source.image)
        if case.is_volume:
            raise CaseError(f"{source.name}: is a volume; only images have label maps here")
        image, labels = case.image, truth_of(case).astype(np.int32)
    else:
        image = read_rgb(source.image)
        labels = _read_labels(source.name, source.labels)
    counted = np.ones(labels.shape, np.bool_)
    if source.ambiguous is not None:
        counted = decode_picture(source.ambiguous, cv2.IMREAD_GRAYSCALE) == 0
    if not image.shape[:2] == labels.shape == counted.shape:
        shapes = f"{image.shape[:2]}, {labels.shape} and {counted.shape}"
        raise CaseError(f"{source.name}: image, labels and ambiguous areas must be of one size, got {shapes}")
    return Picture(image, labels, counted)


def instances(labels: npt.NDArray[np.int32], target: str) -> npt.NDArray[np.int32]:
    """The objects to learn: the labels themselves, or the connected parts of the one label that `target` numbers."""
    return instances_from_mask(labels == int(target)) if target.isdigit() else labels


def classes(labels: npt.NDArray[np.int32], target: str, channels: int) -> npt.NDArray[np.int64]:
    """What each pixel shall answer: the channel of its label (`multi_all`, the last takes the rest), else 0 or 1."""
    if target == "multi_all":
        return np.minimum(labels, channels - 1).astype(np.int64)
    return (instances(labels, target) > 0).astype(np.int64)


def sources_hash(files: Iterable[Path], facts: object) -> str:
    """SHA-256 of the files' names, sizes and dates, and of the facts beside them."""
    status = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([status, facts]).encode()).hexdigest()


def _organ(organ: Path) -> list[MapSource]:
    folder = organ / MODIFIED if (organ / MODIFIED).is_dir() else organ / PLAIN
    vague = {path.stem.removesuffix("_vague"): path for path in sorted((organ / VAGUE).glob("mask binary*/*.png"))}
    return [
        MapSource(path.stem, organ.name, path, labels, vague.get(path.stem))
        for path in _pictures(organ / TISSUE)
        if (labels := _labels_of(path.stem, folder)) is not None
    ]


def _pictures(folder: Path) -> list[Path]:
    types = (*PICTURES, ".tif", ".tiff")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in types and path.name[0] != ".")


def _labels_of(stem: str, folder: Path) -> Path | None:
    return next((path for kind in LABEL_TYPES if (path := folder / f"{stem}{kind}").is_file()), None)


def _read_labels(name: str, path: Path) -> npt.NDArray[np.int32]:
    labels = read_label_picture(path)
    if not np.isfinite(labels).all() or labels.min() < 0 or labels.max() > MAX_LABEL or (labels % 1).any():
        raise CaseError(f"{name}: {path.name} must hold whole numbers from 0 to {MAX_LABEL}")
    return labels.astype(np.int32)

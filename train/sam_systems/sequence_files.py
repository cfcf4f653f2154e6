"""MR subjects of several sequences and a segmentation (BraTS): found, cut into transverse slices, prepared once.

Files are named `<subject>-<sequence>.nii.gz` or `<subject>_<sequence>.nii.gz`, in folders or flat; the truth's sequence
is `seg`. Any number of sequences will do, and subjects need not have the same.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.extent import extent_of
from edge.data.files import whole_file
from edge.data.npz import MAX_ARRAY_BYTES, read_npz, write_npz
from edge.errors import CaseError, RunError
from train.sam_systems.map_files import sources_hash

NAME = re.compile(r"(?P<subject>.+)[-_](?P<sequence>[A-Za-z0-9]+)\.nii(\.gz)?")
TRUTH = "seg"
FORMAT = 1
INDEX = "slices.json"

Window = tuple[int, int, int, int]  # first row, first column, rows, columns


@dataclass(frozen=True)
class Subject:
    """One subject's files."""

    name: str
    sequences: dict[str, Path]  # by name, sorted
    truth: Path


@dataclass(frozen=True)
class TumourSlice:
    """One prepared transverse slice that holds tumour."""

    subject: str
    index: int  # from the feet, in the volume
    area: int  # of the tumour, px
    brain: Window  # of the subject: where any sequence is not background, over all its slices
    shape: tuple[int, int]
    path: Path  # npz with `images` (sequences, H, W) float16 and `labels` (H, W) uint8


def find_subjects(folders: Iterable[Path]) -> list[Subject]:
    """The subjects below folders, in name order.

    Raises:
        CaseError: a folder is not there, no subject with a segmentation and a sequence is in any, or two are called
            alike.
    """
    files: dict[str, dict[str, Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise CaseError(f"{folder}: no such folder of training data")
        for path in sorted(folder.rglob("*.nii*")):
            if (found := NAME.fullmatch(path.name)) and path.name[0] != ".":
                parts, sequence = files.setdefault(found["subject"], {}), found["sequence"].lower()
                if (other := parts.setdefault(sequence, path)) != path:
                    raise CaseError(f"{found['subject']}: {other} and {path} are both its {sequence}; rename a subject")
    subjects = [
        Subject(name, {key: path for key, path in sorted(parts.items()) if key != TRUTH}, parts[TRUTH])
        for name, parts in sorted(files.items())
        if TRUTH in parts and len(parts) > 1
    ]
    if not subjects:
        raise CaseError(f"{', '.join(map(str, folders))}: no <subject>-seg.nii.gz with a sequence beside it")
    return subjects


def prepare_slices(
    subjects: Sequence[Subject], parent: Path, say: Callable[[str], None] = lambda _: None
) -> list[TumourSlice]:
    """The tumour slices of subjects, each subject's made now unless they are there.

    Args:
        parent: where prepared subjects lie, a folder each, named after what went in.

    Raises:
        CaseError: a file cannot be read or does not fit the others.
        RunError: the folder cannot be written.
    """
    slices = []
    for number, subject in enumerate(subjects):
        digest = sources_hash([*subject.sequences.values(), subject.truth], [FORMAT, subject.name])
        folder = parent / f"sequences-{digest[:12]}"
        if not (folder / INDEX).exists():
            say(f"preparing {subject.name}, {number + 1} of {len(subjects)}")
            _prepare(subject, folder)
        entries = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        slices += [
            TumourSlice(**{**entry, "brain": tuple(entry["brain"]), "shape": tuple(entry["shape"])}, path=folder / name)
            for name, entry in entries.items()
        ]
    return slices


def choose_slices(slices: Sequence[TumourSlice], policy: str) -> list[list[TumourSlice]]:
    """What an epoch draws from, one list per sample: for `random` a subject's slices, else a single slice each.

    `max` takes each subject's slice of largest tumour area (the lowest where several are), `every-second` every second
    tumour slice, `all` every one.
    """
    by_subject: dict[str, list[TumourSlice]] = {}
    for part in slices:
        by_subject.setdefault(part.subject, []).append(part)
    if policy == "random":
        return list(by_subject.values())
    if policy == "max":
        return [[max(parts, key=lambda part: (part.area, -part.index))] for parts in by_subject.values()]
    step = 2 if policy == "every-second" else 1
    return [[part] for parts in by_subject.values() for part in parts[::step]]


def common_size(slices: Iterable[TumourSlice]) -> tuple[int, int]:
    """Rows and columns of the smallest box that holds every subject's brain."""
    windows = [part.brain for part in slices]
    return max(window[2] for window in windows), max(window[3] for window in windows)


def read_slice(part: TumourSlice, size: tuple[int, int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Sequences (S, h, w) and tumour (h, w), 0 or 1, in a window of `size` around the middle of the subject's brain.

    Where the slice is smaller than the window it is kept whole.
    """
    arrays = read_npz(part.path, ["images", "labels"])
    if set(arrays) != {"images", "labels"}:
        raise RunError(f"{part.path}: a file of the prepared data is damaged; delete its folder, it is made again")
    cut = []
    for first, extent, wanted, length in zip(part.brain[:2], part.brain[2:], size, part.shape, strict=True):
        start = min(max(0, first + (extent - wanted) // 2), max(0, length - wanted))
        cut.append(slice(start, start + wanted))
    rows, columns = cut
    images, labels = arrays["images"][:, rows, columns], arrays["labels"][rows, columns]
    return np.ascontiguousarray(images, np.float32), (labels > 0).astype(np.uint8)


def _prepare(subject: Subject, folder: Path) -> None:
    volumes = [_read_volume(subject.name, path) for path in subject.sequences.values()]
    truth = _read_volume(subject.name, subject.truth)
    if len({volume.shape for volume in [*volumes, truth]}) > 1:
        shapes = ", ".join(str(volume.shape) for volume in [*volumes, truth])
        raise CaseError(f"{subject.name}: sequences and seg must be on one grid, got {shapes}")
    brain = _extent(np.any([(volume != volume[0, 0, 0]).any(axis=0) for volume in volumes], axis=0))
    scales = [max(float(np.abs(volume).max()), 1e-8) for volume in volumes]  # float16 ends at 65504
    index = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for z in np.flatnonzero((truth > 0).any(axis=(1, 2))).tolist():
            images = np.stack([volume[z] / scale for volume, scale in zip(volumes, scales, strict=True)])
            write_npz(
                folder / f"{z:04d}.npz",
                {"images": images.astype(np.float16), "labels": (truth[z] > 0).astype(np.uint8)},
            )
            area = int(np.count_nonzero(truth[z] > 0))
            index[f"{z:04d}.npz"] = {
                "subject": subject.name, "index": z, "area": area, "brain": brain, "shape": truth.shape[1:],
            }  # fmt: skip
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror or error})") from None
    with whole_file(folder / INDEX) as file:
        file.write(json.dumps(index).encode())


def _read_volume(subject: str, path: Path) -> npt.NDArray[np.float32]:
    """(D, H, W) from the feet up, rows from front to back, columns from right to left, as radiologists look at it."""
    import nibabel

    try:
        image: Any = nibabel.load(path)  # which of its image classes decides the file
        shape = image.shape
        if len(shape) != 3 or int(np.prod(shape)) * 4 > MAX_ARRAY_BYTES:
            raise CaseError(f"{subject}: {path.name} must be a volume of three axes, got shape {shape}")
        turned = nibabel.as_closest_canonical(image)
        volume = np.asarray(turned.dataobj, dtype=np.float32)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise CaseError(f"{subject}: {path.name} cannot be read as NIfTI ({error})") from None
    if not np.isfinite(volume).all():
        raise CaseError(f"{subject}: {path.name} holds numbers that are not finite")
    return np.ascontiguousarray(volume.transpose(2, 1, 0)[:, ::-1, ::-1])


def _extent(mask: npt.NDArray[np.bool_]) -> list[int]:
    if not mask.any():
        return [0, 0, *mask.shape]
    rows, columns = extent_of(mask)
    return [rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start]

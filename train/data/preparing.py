"""Folders of labelled cases become prepared data: a folder named after what went into it, whole or not at all."""

import hashlib
import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.data.datasets import dataset_modality
from edge.data.files import partial_path, remove_partial_files
from edge.data.formats.finding import files_of
from edge.data.formats.registry import kind_of, plane_of, read_label_map
from edge.data.names import case_name, is_channel
from edge.errors import CaseError, RunError
from edge.scoring.evaluate import prediction_file
from edge.system.cores import available_cores
from train.data.cases import (
    distinct_names,
    find_objects,
    find_sources,
    read_labelled,
    truth_of,
    volume_prompts,
)
from train.data.prepared import (
    FORMAT,
    INDEX,
    LABELS,
    OBJECTS,
    PIXELS,
    PREDICTED,
    TRACKED,
    Prepared,
    is_prepared,
    open_prepared,
)

MIN_AREA_PX = 6  # of an object on its largest slice; smaller ones have no shape to learn
LONGEST_PX = 512  # images with a longer side are reduced to it; volumes never are


@dataclass(frozen=True)
class _Packed:
    """One case, ready to be appended."""

    name: str
    pixels: npt.NDArray[np.uint8]  # (D, H, W, C)
    labels: npt.NDArray[np.uint16]  # (D, H, W)
    objects: npt.NDArray[np.int32]  # (K, 7): label, z_min, y_min, x_min, z_max, y_max, x_max
    tracked: list[npt.NDArray[np.float32]]  # of each object, (z_max - z_min + 1, 4)
    scale: float
    predicted: npt.NDArray[np.uint16] | None = None  # (D, H, W), of a volume that a model's labels were given for


def prepare(
    folders: Sequence[Path],
    parent: Path,
    predicted: Path | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Prepared:
    """The prepared data of these folders of labelled cases, made now if it is not there yet.

    Args:
        parent: where prepared data lies; this becomes a folder of it.
        predicted: folder of the label maps that a model found in the volumes, by `samedge predict --method propagated`
            from their boxes; of some of them, or None.
        progress: called with cases done and cases in all.

    Raises:
        CaseError: no usable case in the folders; a label map in `predicted` that does not fit its volume.
        RunError: the folder cannot be written; `predicted` holds no label map of any case, one of several cases, or
            none that agrees with the truth anywhere.
    """
    sources = find_sources(folders)
    if predicted:
        _check_predicted(sources, predicted)
    content_hash = _content_hash(sources, predicted)
    folder = parent / content_hash[:12]
    if not is_prepared(folder):
        remove_partial_files(parent)
        half = partial_path(folder)
        try:
            half.mkdir(parents=True)
            _write(sources, half, predicted, content_hash, progress)
            half.rename(folder)
        except OSError as error:
            if not is_prepared(folder):  # by another run in the meantime
                raise RunError(f"{folder}: prepared data cannot be written ({error.strerror or error})") from None
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return open_prepared(folder)


def _content_hash(sources: Sequence[Path], predicted: Path | None) -> str:
    facts: list[Any] = [FORMAT, LONGEST_PX]
    found = filter(None, (_predicted_file(source, predicted) for source in sources))
    for path in chain(chain.from_iterable(map(files_of, sources)), found):
        status = path.stat()
        facts.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    facts += map(dataset_modality, sources)  # which decides how their intensities are scaled
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_predicted(sources: Sequence[Path], predicted: Path) -> None:
    """Raises: RunError: see `prepare`."""
    images = {source.parent / case_name(source) if is_channel(source) else source: source for source in sources}
    volumes = [one for one in images.values() if kind_of(one) != "picture" and not one.name.startswith("2D")]
    found = Counter(filter(None, (_predicted_file(source, predicted) for source in volumes)))
    if not found:
        raise RunError(f"{predicted}: no label map of any volume of the data; predict these with --method propagated")
    file, count = found.most_common(1)[0]
    if count > 1:
        raise RunError(f"{file}: {count} cases of the data are called so; give them names of their own")


def _predicted_file(source: Path, predicted: Path | None) -> Path | None:
    """Where a model's label map of a case lies, if anywhere."""
    path = predicted and prediction_file(predicted / case_name(source))
    return path if path and path.is_file() else None


def _write(
    sources: Sequence[Path],
    folder: Path,
    predicted: Path | None,
    content_hash: str,
    progress: Callable[[int, int], None],
) -> None:
    cases: list[list[Any]] = []
    rows: list[npt.NDArray[np.int32]] = []
    tracked: list[npt.NDArray[np.float32]] = []
    broken: list[str] = []
    boxes, with_predicted, names = 0, 0, distinct_names(sources)
    with (folder / PIXELS).open("wb") as pixels, (folder / LABELS).open("wb") as labels, ExitStack() as stack:
        own = predicted and stack.enter_context((folder / PREDICTED).open("wb"))
        for done, (source, called, packed) in enumerate(
            zip(sources, names, _pack_all(sources, predicted), strict=True)
        ):
            progress(done + 1, len(sources))
            if isinstance(packed, str):
                broken.append(called + packed.removeprefix(case_name(source)))
                continue
            places = (pixels.tell(), labels.tell() // 2)
            cases.append([packed.name, packed.labels.shape, packed.pixels.shape[-1], *places, packed.scale])
            pixels.write(packed.pixels.tobytes())
            labels.write(packed.labels.tobytes())
            if own and packed.predicted is not None:
                own.seek(2 * places[1])
                own.write(packed.predicted.tobytes())
                with_predicted += 1
            for row, track in zip(packed.objects, packed.tracked, strict=True):
                rows.append(np.array([len(cases) - 1, *row, boxes], np.int32))
                tracked.append(track)
                boxes += len(track)
        if own:
            own.truncate(labels.tell())  # zeros, which take no place, where nothing was predicted
    if predicted and not with_predicted:
        raise RunError(f"{predicted}: agrees with no truth anywhere; label k of both must be one object")
    if not rows:
        raise CaseError(f"no usable case; {broken[0] if broken else 'no object'}")
    np.save(folder / OBJECTS, np.array(rows, np.int32))
    np.save(folder / TRACKED, np.concatenate(tracked).astype(np.float32))
    facts = {"content_hash": content_hash, "predicted": with_predicted, "broken": broken, "cases": cases}
    index = {"format": FORMAT, **facts}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _pack_all(sources: Sequence[Path], predicted: Path | None) -> Iterator[_Packed | str]:
    """Each source packed, in order, by as many processes as there are cores."""
    context = multiprocessing.get_context("forkserver")
    try:
        with ProcessPoolExecutor(available_cores(), context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            yield from pool.map(partial(_pack, predicted=predicted), sources, chunksize=4)
    except BrokenProcessPool:
        raise RunError(
            "the processes that prepare data ended early: short of memory, or started by a script that trains without "
            "an `if __name__ == '__main__':` around it"
        ) from None


def _pack(source: Path, predicted: Path | None) -> _Packed | str:
    """A case as it is kept, or what is wrong with it.

    Raises:
        CaseError: the label map in `predicted` cannot be read or does not fit.
    """
    try:
        case = read_labelled(source)
        truth = truth_of(case)
    except CaseError as error:
        return str(error)
    if case.image.min() == case.image.max():
        return f"{case.name}: the image is constant"
    if not case.is_volume:
        return _pack_image(case.name, case.image, truth)
    packed, file = _pack_volume(case.name, case.image, truth), _predicted_file(source, predicted)
    if file is None or isinstance(packed, str):
        return packed
    found = read_label_map(file, plane=plane_of(case.geometry)).labels
    if found.shape != truth.shape:
        raise CaseError(f"{case.name}: {file} has shape {found.shape}, the volume {truth.shape}; predict it again")
    agrees = ((found == truth) & (truth > 0)).any()  # or the model missed it all
    return replace(packed, predicted=found.astype(np.uint16)) if agrees else packed


def _pack_image(name: str, image: npt.NDArray[np.uint8], truth: npt.NDArray) -> _Packed | str:
    """An image (H, W, 3), reduced to LONGEST_PX, with its objects; their boxes are their extents."""
    scale = min(1.0, LONGEST_PX / max(truth.shape))
    if scale < 1:
        height, width = (max(1, int(length * scale + 0.5)) for length in truth.shape)
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        truth = cv2.resize(truth.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST)
    found = find_objects(truth)
    found = found[found[:, 5] >= MIN_AREA_PX]
    if not len(found):
        return f"{name}: every object is smaller than {MIN_AREA_PX} px"
    label, x_min, y_min, x_max, y_max, _ = found.T
    slice_0 = np.zeros(len(found), np.int64)
    objects = np.stack([label, slice_0, y_min, x_min, slice_0, y_max, x_max], axis=1).astype(np.int32)
    boxes = [row[None, 1:5].astype(np.float32) for row in found]
    grey = bool((image == image[..., :1]).all())
    pixels = image[None, ..., :1] if grey else image[None]
    return _Packed(name, pixels, truth[None].astype(np.uint16), objects, boxes, scale)


def _pack_volume(name: str, image: npt.NDArray[np.uint8], truth: npt.NDArray) -> _Packed | str:
    """A volume (D, H, W) as it is, with its objects and the box that the runtime tracks for each on every slice."""
    extents: dict[int, dict[int, npt.NDArray[np.int64]]] = {}  # label -> slice -> extent and area
    for z, labels in enumerate(truth):
        for row in find_objects(labels):
            extents.setdefault(int(row[0]), {})[z] = row[1:6]
    large = {label: rows for label, rows in extents.items() if max(row[4] for row in rows.values()) >= MIN_AREA_PX}
    if not large:
        return f"{name}: every object is smaller than {MIN_AREA_PX} px"
    boxes_on = volume_prompts(image, truth)
    objects, tracked = [], []
    for label, slices in large.items():
        first, last, every = min(slices), max(slices), np.array(list(slices.values()))
        low, high = every[:, :2].min(axis=0), every[:, 2:4].max(axis=0)
        objects.append([label, first, low[1], low[0], last, high[1], high[0]])
        whole = np.array([*low, *high])  # where the middle slice lacks the label, nothing is tracked
        track = [boxes_on(z).get(label, slices[z][:4] if z in slices else whole) for z in range(first, last + 1)]
        tracked.append(np.array(track, np.float32))
    return _Packed(name, image[..., None], truth.astype(np.uint16), np.array(objects, np.int32), tracked, 1.0)

"""Folders of labelled cases become prepared data: a folder named after what went into it, whole or not at all."""

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.data.files import partial_path
from edge.data.formats.finding import files_of
from edge.data.names import case_name
from edge.errors import CaseError, RunError
from edge.system.cores import available_cores
from train.data.cases import (
    distinct_names,
    find_objects,
    find_sources,
    read_labelled,
    truth_of,
    volume_prompts,
)
from train.data.prepared import FORMAT, INDEX, LABELS, OBJECTS, PIXELS, TRACKED, Prepared, is_prepared, open_prepared

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


def prepare(
    folders: Sequence[Path], parent: Path, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Prepared:
    """The prepared data of these folders of labelled cases, made now if it is not there yet.

    Args:
        parent: where prepared data lies; this becomes a folder of it.
        progress: called with cases done and cases in all.

    Raises:
        CaseError: no usable case in the folders.
        RunError: the folder cannot be written.
    """
    sources = find_sources(folders)
    content_hash = _content_hash(sources)
    folder = parent / content_hash[:12]
    if not is_prepared(folder):
        partial = partial_path(folder)
        try:
            partial.mkdir(parents=True)
            _write(sources, partial, content_hash, progress)
            partial.rename(folder)
        except OSError as error:
            if not is_prepared(folder):  # by another run in the meantime
                raise RunError(f"{folder}: prepared data cannot be written ({error.strerror or error})") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return open_prepared(folder)


def _content_hash(sources: Sequence[Path]) -> str:
    facts: list[Any] = [FORMAT, LONGEST_PX]
    for path in chain.from_iterable(map(files_of, sources)):
        status = path.stat()
        facts.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _write(sources: Sequence[Path], folder: Path, content_hash: str, progress: Callable[[int, int], None]) -> None:
    cases: list[list[Any]] = []
    rows: list[npt.NDArray[np.int32]] = []
    tracked: list[npt.NDArray[np.float32]] = []
    broken: list[str] = []
    boxes, names = 0, distinct_names(sources)
    with (folder / PIXELS).open("wb") as pixels, (folder / LABELS).open("wb") as labels:
        for done, (source, called, packed) in enumerate(zip(sources, names, _pack_all(sources), strict=True)):
            progress(done + 1, len(sources))
            if isinstance(packed, str):
                broken.append(called + packed.removeprefix(case_name(source)))
                continue
            places = (pixels.tell(), labels.tell() // 2)
            cases.append([packed.name, packed.labels.shape, packed.pixels.shape[-1], *places, packed.scale])
            pixels.write(packed.pixels.tobytes())
            labels.write(packed.labels.tobytes())
            for row, track in zip(packed.objects, packed.tracked, strict=True):
                rows.append(np.array([len(cases) - 1, *row, boxes], np.int32))
                tracked.append(track)
                boxes += len(track)
    if not rows:
        raise CaseError(f"no usable case; {broken[0] if broken else 'no object'}")
    np.save(folder / OBJECTS, np.array(rows, np.int32))
    np.save(folder / TRACKED, np.concatenate(tracked).astype(np.float32))
    index = {"format": FORMAT, "content_hash": content_hash, "broken": broken, "cases": cases}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _pack_all(sources: Sequence[Path]) -> Iterator[_Packed | str]:
    """Each source packed, in order, by as many processes as there are cores."""
    context = multiprocessing.get_context("forkserver")
    try:
        with ProcessPoolExecutor(available_cores(), context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            yield from pool.map(_pack, sources, chunksize=4)
    except BrokenProcessPool:
        raise RunError(
            "the processes that prepare data ended early: short of memory, or started by a script that trains without "
            "an `if __name__ == '__main__':` around it"
        ) from None


def _pack(source: Path) -> _Packed | str:
    """A case as it is kept, or what is wrong with it."""
    try:
        case = read_labelled(source)
        truth = truth_of(case)
    except CaseError as error:
        return str(error)
    if case.image.min() == case.image.max():
        return f"{case.name}: the image is constant"
    return (_pack_volume if case.is_volume else _pack_image)(case.name, case.image, truth)


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

"""Prepared training data: every labelled slice, small, compressed, in a few files that are read at random.

A cache is a folder named after what went into it. It is written shard by shard, a shard's `.json` last and whole, so an
interrupted preparation goes on where it stopped and a half-written shard is never read.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import CaseError, RunError
from train.data.cases import Slice, dataset_of, find_objects, find_sources, read_slices

FORMAT = 1
SOURCES_PER_SHARD = 64
JPEG_QUALITY = 95  # of colour images; grey ones and label maps are PNG, so exact
MIN_AREA_PX = 6  # of an object in the cached slice; smaller ones have no shape to learn


@dataclass(frozen=True)
class CacheOptions:
    """What the cache holds; another choice is another cache."""

    side_px: int = 256  # longest side; smaller slices stay as they are
    slices_per_volume: int = 24  # evenly spread over the labelled ones


@dataclass(frozen=True)
class Entry:
    """Where a slice lies in the cache and what is on it."""

    case: str
    index: int  # slice within its volume, 0 for an image
    shape: tuple[int, int]  # of the cached slice, px
    scale: float  # cached px per original px
    shard: str
    image: tuple[int, int]  # first byte, bytes
    labels: tuple[int, int]  # first byte, bytes
    objects: list[list[int]]  # rows of `train.data.cases.Objects`, in cached px


@dataclass(frozen=True)
class Cache:
    """A prepared cache, opened."""

    folder: Path
    entries: list[Entry]
    broken: list[str] = field(default_factory=list)  # one line per case that was left out
    content_hash: str = ""  # of what went in: names, sizes, dates, options

    def read(self, position: int) -> Slice:
        """The slice at a position of `entries`."""
        entry = self.entries[position]
        with (self.folder / f"{entry.shard}.bin").open("rb") as file:
            image = _unpack(file.fileno(), entry.image)
            labels = _unpack(file.fileno(), entry.labels)
        if image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return Slice(entry.case, entry.index, image, labels)

    def split(self, share: float) -> tuple["Cache", list[str]]:
        """This cache without a share of its cases, and their names; a case's name decides its side."""
        held = {entry.case for entry in self.entries if zlib.crc32(entry.case.encode()) < share * 2**32}
        kept = [entry for entry in self.entries if entry.case not in held]
        return replace(self, entries=kept), sorted(held)


def prepare_cache(
    folders: Sequence[Path],
    parent: Path,
    options: CacheOptions | None = None,
    *,
    leave_out: Iterable[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Cache:
    """The cache of these folders, made now as far as it is not there yet.

    Args:
        parent: where caches lie; this one becomes a folder of it.
        leave_out: data sets (third word of a case's name) that are not taken.
        progress: called with shards done and shards in all.

    Raises:
        CaseError: no usable data in the folders.
        RunError: the cache cannot be written.
    """
    options = options or CacheOptions()
    dropped = set(leave_out)
    sources = [source for source in find_sources(folders) if dataset_of(source.stem) not in dropped]
    content_hash = _content_hash(sources, options)
    folder = parent / content_hash[:12]
    groups = [sources[start : start + SOURCES_PER_SHARD] for start in range(0, len(sources), SOURCES_PER_SHARD)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and resizing leave the interpreter lock
            shards = []
            for number, group in enumerate(groups):
                shards.append(_shard(pool, folder, f"shard-{number:05d}", group, options))
                progress(number + 1, len(groups))
    except OSError as error:
        raise RunError(f"{folder}: the cache cannot be written ({error.strerror or error})") from None
    entries = [Entry(**entry) for shard in shards for entry in shard["entries"]]
    broken = [line for shard in shards for line in shard["broken"]]
    if not entries:
        raise CaseError(
            f"{', '.join(map(str, folders))}: no usable case; {broken[0] if broken else 'all were left out'}"
        )
    return Cache(folder, entries, broken, content_hash)


def _content_hash(sources: Sequence[Path], options: CacheOptions) -> str:
    facts: list[Any] = [FORMAT, asdict(options)]
    for source in sources:
        status = source.stat()
        facts.append([str(source.resolve()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _shard(
    pool: ThreadPoolExecutor, folder: Path, name: str, sources: Sequence[Path], options: CacheOptions
) -> dict[str, Any]:
    index = folder / f"{name}.json"
    if index.exists():
        return json.loads(index.read_text(encoding="utf-8"))
    entries: list[dict[str, Any]] = []
    broken: list[str] = []
    partial = folder / f".{name}.{os.getpid()}.partial"
    with partial.open("wb") as file:
        for packed, error in pool.map(lambda source: _pack_source(source, options), sources):
            if error is not None:
                broken.append(error)
            for entry, image, labels in packed:
                place = file.tell()
                file.write(image)
                file.write(labels)
                spans = {"image": (place, len(image)), "labels": (place + len(image), len(labels))}
                entries.append({**entry, "shard": name, **spans})
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / f"{name}.bin")
    shard = {"entries": entries, "broken": broken}
    partial.write_text(json.dumps(shard), encoding="utf-8")
    partial.replace(index)
    return json.loads(index.read_text(encoding="utf-8"))


def _pack_source(source: Path, options: CacheOptions) -> tuple[list[tuple[dict[str, Any], bytes, bytes]], str | None]:
    try:
        slices = read_slices(source, options.slices_per_volume)
        return [packed for part in slices if (packed := _pack(part, options.side_px)) is not None], None
    except CaseError as error:
        return [], str(error)


def _pack(part: Slice, side_px: int) -> tuple[dict[str, Any], bytes, bytes] | None:
    scale = min(1.0, side_px / max(part.labels.shape))
    image: npt.NDArray = part.image
    labels = part.labels
    if scale < 1:
        height, width = (max(1, int(length * scale + 0.5)) for length in labels.shape)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    objects = find_objects(labels)
    objects = objects[objects[:, 5] >= MIN_AREA_PX]
    if not len(objects) or image.min() == image.max():
        return None
    shape = tuple(labels.shape)
    entry = {"case": part.case, "index": part.index, "shape": shape, "scale": scale, "objects": objects.tolist()}
    return entry, _compress(image), _compress(labels)


def _compress(array: npt.NDArray) -> bytes:
    if array.ndim == 3:
        picture = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return cv2.imencode(".png", array)[1].tobytes()


def _unpack(descriptor: int, span: tuple[int, int]) -> npt.NDArray:
    packed = os.pread(descriptor, span[1], span[0])
    decoded = cv2.imdecode(np.frombuffer(packed, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise RunError("a file of the prepared data is damaged; delete the cache folder, it is made again")
    return decoded

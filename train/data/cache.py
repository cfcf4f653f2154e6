"""Prepared training data: every labelled slice, small, compressed, in a few files that are read at random.

A cache is a folder named after what went into it. It is written shard by shard, a shard's `.json` last and whole, so an
interrupted preparation goes on where it stopped and a half-written shard is never read. `cache.json` comes last of all:
a folder that has it needs its sources no more, and can be carried to the machine that trains.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.cores import available_cores
from edge.errors import CaseError, RunError
from edge.npz import whole_file, write_whole
from edge.partial import remove_partial_files
from train.data.cases import Slice, dataset_of, distinct_names, find_objects, find_sources, read_slices

FORMAT = 7
INDEX = "cache.json"
SOURCES_PER_SHARD = 64
JPEG_QUALITY = 95  # of colour images, and of grey ones that need not be exact; label maps are PNG
MIN_AREA_PX = 6  # of an object in the cached slice; smaller ones have no shape to learn


@dataclass(frozen=True)
class CacheOptions:
    """What the cache holds; another choice is another cache."""

    side_px: int = 256  # longest side; smaller slices stay as they are
    slices_per_volume: int = 24  # evenly spread over the labelled ones
    exact: bool = True  # grey slices as PNG; else as JPEG, 0.6 of its size


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
    prompts: list[list[float]]  # of each object: its extent, in a volume its followed box (`volume_prompts`), cached px
    source: int = 0  # which of the sources it is from, in the order of `find_sources`: several may have one name


@dataclass(frozen=True)
class Cache:
    """A prepared cache, opened."""

    folder: Path
    entries: list[Entry]
    broken: list[str] = field(default_factory=list)  # one line per case that was left out
    content_hash: str = ""  # of what went in: names, sizes, dates, options
    options: CacheOptions = CacheOptions()

    def read(self, position: int) -> Slice:
        """The slice at a position of `entries`."""
        entry = self.entries[position]
        with (self.folder / f"{entry.shard}.bin").open("rb") as file:
            image = _unpack(file.fileno(), entry.image)
            labels = _unpack(file.fileno(), entry.labels)
        if image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return Slice(entry.case, entry.index, image, labels)

    def without(self, datasets: Container[str]) -> "Cache":
        """This cache without the cases of some data sets."""
        return replace(self, entries=[entry for entry in self.entries if dataset_of(entry.case) not in datasets])

    def split(self, share: float) -> tuple["Cache", list[str]]:
        """This cache without a share of its cases, and their names; a case's name decides its side."""
        held = {entry.case for entry in self.entries if zlib.crc32(os.fsencode(entry.case)) < share * 2**32}
        kept = [entry for entry in self.entries if entry.case not in held]
        return replace(self, entries=kept), sorted(held)


def prepare_cache(
    folders: Sequence[Path],
    parent: Path,
    options: CacheOptions | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Cache:
    """The cache of these folders, made now as far as it is not there yet.

    Args:
        parent: where caches lie; this one becomes a folder of it.
        progress: called with shards done and shards in all.

    Raises:
        CaseError: no usable data in the folders.
        RunError: the cache cannot be written.
    """
    options = options or CacheOptions()
    sources = find_sources(folders)
    content_hash = _content_hash(sources, options)
    folder = parent / content_hash[:12]
    if is_cache(folder):
        return open_cache(folder)
    told_apart = list(zip(range(len(sources)), distinct_names(sources), sources, strict=True))
    groups = [told_apart[start : start + SOURCES_PER_SHARD] for start in range(0, len(sources), SOURCES_PER_SHARD)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder)
        with ThreadPoolExecutor(available_cores()) as pool:  # decoding and resizing leave the interpreter lock
            shards = []
            for number, group in enumerate(groups):
                shards.append(_shard(pool, folder, _shard_name(number), group, options))
                progress(number + 1, len(groups))
        if not any(shard["entries"] for shard in shards):
            broken = [line for shard in shards for line in shard["broken"]]
            raise CaseError(f"{', '.join(map(str, folders))}: no usable case; {broken[0] if broken else 'no object'}")
        index = {"format": FORMAT, "options": asdict(options), "content_hash": content_hash, "shards": len(shards)}
        write_whole(folder / INDEX, json.dumps(index).encode())
    except OSError as error:
        raise RunError(f"{folder}: the cache cannot be written ({error.strerror or error})") from None
    return open_cache(folder)


def is_cache(folder: Path) -> bool:
    """Whether a folder holds a whole cache."""
    return (folder / INDEX).is_file()


def open_cache(folder: Path) -> Cache:
    """A whole cache, wherever it lies; what it was made from is not looked for.

    Raises:
        RunError: it cannot be read, or another version made it.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise RunError(f"{folder}: prepared by another version of samedge; prepare the data again")
        names = [_shard_name(number) for number in range(index["shards"])]
        shards = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names}
        entries = [Entry(**entry, shard=name) for name, shard in shards.items() for entry in shard["entries"]]
        broken = [line for shard in shards.values() for line in shard["broken"]]
        return Cache(folder, entries, broken, index["content_hash"], CacheOptions(**index["options"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}: prepared data that cannot be read ({error}); prepare it again") from None


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}"


def _content_hash(sources: Sequence[Path], options: CacheOptions) -> str:
    facts: list[Any] = [FORMAT, asdict(options)]
    for source in sources:
        status = source.stat()
        facts.append([str(source.resolve()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _shard(
    pool: ThreadPoolExecutor, folder: Path, name: str, sources: Sequence[tuple[int, str, Path]], options: CacheOptions
) -> dict[str, Any]:
    index = folder / f"{name}.json"
    if index.exists():
        return json.loads(index.read_text(encoding="utf-8"))
    entries: list[dict[str, Any]] = []
    broken: list[str] = []
    with whole_file(folder / f"{name}.bin") as file:
        packs = pool.map(lambda source: _pack_source(source, options), [source for _, _, source in sources])
        for (number, called, source), (packed, error) in zip(sources, packs, strict=True):
            if error is not None:
                broken.append(called + error.removeprefix(source.stem))
            for entry, image, labels in packed:
                place = file.tell()
                file.write(image)
                file.write(labels)
                spans = {"image": (place, len(image)), "labels": (place + len(image), len(labels))}
                entries.append({**entry, "source": number, **spans})
    shard = {"entries": entries, "broken": broken}
    write_whole(index, json.dumps(shard).encode())
    return shard


def _pack_source(source: Path, options: CacheOptions) -> tuple[list[tuple[dict[str, Any], bytes, bytes]], str | None]:
    try:
        slices = read_slices(source, options.slices_per_volume)
        return [packed for part in slices if (packed := _pack(part, options)) is not None], None
    except CaseError as error:
        return [], str(error)


def _pack(part: Slice, options: CacheOptions) -> tuple[dict[str, Any], bytes, bytes] | None:
    scale = min(1.0, options.side_px / max(part.labels.shape))
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
    inclusive = np.array([0, 0, 1, 1])
    shrunk = {label: (box + inclusive) * scale - inclusive for label, box in part.prompts.items()}
    prompts = [shrunk.get(row[0], row[1:5]) for row in objects]
    entry = {
        "case": part.case, "index": part.index, "shape": tuple(labels.shape), "scale": scale,
        "objects": objects.tolist(), "prompts": np.round(prompts, 2).tolist(),
    }  # fmt: skip
    return entry, _compress(image, options.exact), _compress(labels)


def _compress(array: npt.NDArray, exact: bool = True) -> bytes:
    if array.ndim == 2 and exact:
        return cv2.imencode(".png", array)[1].tobytes()
    picture = cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if array.ndim == 3 else array
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _unpack(descriptor: int, span: tuple[int, int]) -> npt.NDArray:
    packed = os.pread(descriptor, span[1], span[0])
    decoded = cv2.imdecode(np.frombuffer(packed, dtype=np.uint8), cv2.IMREAD_UNCHANGED) if packed else None
    if decoded is None:
        raise RunError("a file of the prepared data is damaged; delete the cache folder, it is made again")
    return decoded

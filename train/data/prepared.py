"""Prepared training data: pixels and labels as numbers in two files that every process maps, and a table of objects.

A folder of it needs its sources no more, and can be carried to the machine that trains, or put into an object store:
of what lies there, each sample's slices are read alone, so that the whole need not fit on a disk.
"""

import io
import json
import math
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.modality import dataset_in_name
from edge.data.names import address_of, is_remote
from edge.data.remote import bytes_of, size_of
from edge.errors import RunError
from train.data.folds import is_held_out

FORMAT = 8
INDEX, PIXELS, LABELS, OBJECTS, TRACKED = "index.json", "pixels.u8", "labels.u16", "objects.npy", "tracked.npy"
PREDICTED = "predicted.u16"  # only where a model's own label maps were given


@dataclass(frozen=True)
class CaseEntry:
    """Where a case lies in the files."""

    name: str
    shape: tuple[int, int, int]  # (D, H, W), D is 1 for an image
    channels: int  # 3 for a colour image, else 1
    pixels: int  # first byte in PIXELS
    labels: int  # first number in LABELS and PREDICTED
    scale: float  # px here per px of the original


class CaseTable:
    """Entries of cases as columns: 100 bytes a case, where objects of Python take 300 and forked workers copy them."""

    def __init__(self, entries: Iterable[CaseEntry]) -> None:
        names: list[bytes] = []
        numbers: list[tuple[int, ...]] = []
        scales: list[float] = []
        for entry in entries:
            names.append(entry.name.encode("utf-8", "surrogatepass"))  # of a file whose name is not UTF-8
            numbers.append((*entry.shape, entry.channels, entry.pixels, entry.labels))
            scales.append(entry.scale)
        self._names = b"".join(names)
        self._ends = np.cumsum([0, *map(len, names)])
        self._numbers = np.array(numbers, np.int64).reshape(-1, 6)
        self._scales = np.array(scales, np.float64)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, case: int) -> CaseEntry:
        if not 0 <= case < len(self):
            raise IndexError(f"case {case} of {len(self)}")
        name = self._names[self._ends[case] : self._ends[case + 1]].decode("utf-8", "surrogatepass")
        depth, height, width, channels, pixels, labels = self._numbers[case].tolist()
        return CaseEntry(name, (depth, height, width), channels, pixels, labels, float(self._scales[case]))

    def __iter__(self) -> Iterator[CaseEntry]:
        return map(self.__getitem__, range(len(self)))

    @property
    def depths(self) -> npt.NDArray[np.int64]:
        """Slices (N,) of each case."""
        return self._numbers[:, 0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CaseTable) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Prepared:
    """Prepared data, opened; pickles as its folder's name and tables, so that workers map the files themselves."""

    folder: Path
    cases: CaseTable
    objects: npt.NDArray[np.int32]  # (N, 9): case, label, z_min, y_min, x_min, z_max, y_max, x_max, row in `tracked`
    tracked: npt.NDArray[np.float32]  # (M, 4): x_min, y_min, x_max, y_max of each object on each slice of its range
    broken: list[str] = field(default_factory=list)  # one line per case that was left out
    content_hash: str = ""
    with_predicted: int = 0  # volumes whose labels as a model found them are there, too
    _mapped: dict[str, npt.NDArray[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        tables = (self.folder, self.cases, self.objects, self.tracked, self.broken)
        return Prepared, (*tables, self.content_hash, self.with_predicted)

    def volume(self, case: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        """Pixels (D, H, W, C) and labels (D, H, W) of a case.

        Raises:
            CaseError: they lie in an object store that cannot be read.
        """
        return self._slices(case, 0, self.cases[case].shape[0])

    def slice(self, case: int, z: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        """Pixels (H, W, C) and labels (H, W) of one slice of a case; raises as `volume` does."""
        pixels, labels = self._slices(case, z, 1)
        return pixels[0], labels[0]

    def predicted(self, case: int) -> npt.NDArray[np.uint16] | None:
        """The labels (D, H, W) that a model found, 0 where it was not asked; None without such; raises as `volume`."""
        entry = self.cases[case]
        return self._numbers(PREDICTED, np.uint16, entry.labels, entry.shape) if self.with_predicted else None

    def _slices(self, case: int, first: int, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        entry = self.cases[case]
        _, height, width = entry.shape
        before, shape = first * height * width, (count, height, width)
        return (
            self._numbers(PIXELS, np.uint8, entry.pixels + before * entry.channels, (*shape, entry.channels)),
            self._numbers(LABELS, np.uint16, entry.labels + before, shape),
        )

    def _numbers(self, name: str, kind: type[np.generic], first: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Those of a file from the `first` on: mapped, or fetched from a store."""
        path, end = self.folder / name, first + math.prod(shape)
        if is_remote(path):
            size = np.dtype(kind).itemsize
            return np.frombuffer(bytes_of(path, first * size, end * size), kind).reshape(shape)
        if name not in self._mapped:
            self._mapped[name] = np.memmap(path, kind, "r")
        return self._mapped[name][first:end].reshape(shape)

    @property
    def used(self) -> list[CaseEntry]:
        """The cases that have objects: all, unless some were left out."""
        return [self.cases[case] for case in np.unique(self.objects[:, 0]).tolist()]

    def without(self, datasets: Container[str]) -> "Prepared":
        """The same without the objects of some data sets."""
        return self._keeping(lambda name: dataset_in_name(name) not in datasets)

    def split(self, share: float) -> tuple["Prepared", list[str]]:
        """The same without a share of its cases, and their names, see `is_held_out`."""
        held = {entry.name for entry in self.used if is_held_out(entry.name, share)}
        return self._keeping(lambda name: name not in held), sorted(held)

    def _keeping(self, wanted: Callable[[str], bool]) -> "Prepared":
        kept = np.array([wanted(entry.name) for entry in self.cases], np.bool_)
        return replace(self, objects=self.objects[kept[self.objects[:, 0]]])


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds prepared data, as any does that is asked for in an object store."""
    return is_remote(folder) or (folder / INDEX).is_file()


def open_prepared(folder: Path) -> Prepared:
    """Prepared data, wherever it lies: on a disk, or in an object store (`Path("s3://bucket/folder")`).

    Raises:
        CaseError: the store cannot be read, or has no such folder.
        RunError: it cannot be read, or another version made it.
    """
    where = address_of(folder)
    try:
        index = json.loads(_content(folder / INDEX))
        if index["format"] != FORMAT:
            raise RunError(f"{where}: prepared by another version of samedge; prepare the data again")
        cases = CaseTable(CaseEntry(name, tuple(shape), *rest) for name, shape, *rest in index.pop("cases"))
        objects, tracked = (
            np.load(io.BytesIO(_content(folder / name)), allow_pickle=False) for name in (OBJECTS, TRACKED)
        )
        with_predicted = int(index["predicted"])
        _check_sizes(folder, cases, with_predicted > 0)
        return Prepared(folder, cases, objects, tracked, index["broken"], index["content_hash"], with_predicted)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{where}: prepared data that cannot be read ({error}); prepare it again") from None


def _check_sizes(folder: Path, cases: CaseTable, has_predicted: bool) -> None:
    """Raises: ValueError: a file that is not as long as its cases."""
    voxels = [math.prod(entry.shape) for entry in cases]
    pixels = sum(count * entry.channels for count, entry in zip(voxels, cases, strict=True))
    sizes = {PIXELS: pixels, LABELS: 2 * sum(voxels)} | ({PREDICTED: 2 * sum(voxels)} if has_predicted else {})
    for name, expected in sizes.items():
        if (found := size_of(folder / name)) != expected:
            raise ValueError(f"{name} has {found} of {expected} bytes")


def _content(path: Path) -> bytes:
    return bytes_of(path) if is_remote(path) else path.read_bytes()

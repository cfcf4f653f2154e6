"""Folds of a cross-validation: drawn once from a seed, written as CSV lists."""

import csv
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.data.files import make_folder
from edge.data.table import parse_table
from edge.errors import RunError


@dataclass(frozen=True)
class Fold:
    """Names of images or subjects."""

    training: frozenset[str]
    validation: frozenset[str]


def is_held_out(name: str, share: float) -> bool:
    """Whether a name is of the share that validates; the name alone decides, so that new data moves nothing."""
    return zlib.crc32(os.fsencode(name)) < share * 2**32


def make_folds(names: Sequence[str], groups: Sequence[str], count: int, seed: int, *, stratify: bool) -> list[Fold]:
    """Every name validates in exactly one of `count` folds and trains in the others.

    Args:
        groups: of each name; with `stratify` each group is dealt evenly, else only the whole is.

    Raises:
        RunError: fewer than 2 folds, or fewer names than folds.
    """
    if not 2 <= count <= len(names):
        raise RunError(f"folds must be at least 2 and at most the {len(names)} images or subjects, got {count}")
    order = np.random.default_rng(seed).permutation(len(names))
    if stratify:
        order = np.array(sorted(order, key=lambda position: groups[position]))  # stable: shuffled within each group
    everyone = frozenset(names)
    folds = []
    for fold in range(count):
        held = frozenset(names[position] for position in order[fold::count])
        folds.append(Fold(everyone - held, held))
    return folds


def write_fold(folder: Path, number: int, fold: Fold, groups: dict[str, str]) -> None:
    """Write `train_fold_<number>.csv` and `val_fold_<number>.csv`: name and group of each image or subject."""
    make_folder(folder)
    for part, names in (("train", fold.training), ("val", fold.validation)):
        path = folder / f"{part}_fold_{number}.csv"
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # as files are named
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["name", "group"])
            writer.writerows([name, groups[name]] for name in sorted(names))


def read_fold(folder: Path, number: int) -> Fold:
    """The fold that `write_fold` wrote.

    Raises:
        RunError: a list is missing or damaged.
    """
    parts = []
    for part in ("train", "val"):
        path = folder / f"{part}_fold_{number}.csv"
        try:
            (_, titles), *rows = parse_table(path.read_bytes()).rows
            column = titles.index("name")
            parts.append(frozenset(fields[column] for _, fields in rows))
        except (OSError, ValueError, IndexError) as error:
            raise RunError(f"{path}: not a list of a fold ({error})") from None
    return Fold(*parts)

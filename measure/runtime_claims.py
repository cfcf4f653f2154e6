"""What the runtime's ways do for the model that ships: precision, sizes of views, loose boxes, merging."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from edge.bench.noise import move_sides, side_shifts
from edge.data.case import Case, find_cases, read_case
from edge.data.modality import modality_of
from edge.scoring.score import mean_dice
from edge.segmenter import Segmenter
from edge.system.cores import available_cores
from edge.system.home import engine_cache
from train.data.cases import truth_of

NOISE = (5, 10, 20)  # % of a box's extent by which each side moves at most
SIZES = (56, 112, 224)  # px of views
MOST_BOXES = 40  # of images whose boxes are moved, or segmented one by one
INT8, F32, LAST = "INT8", "f32", "the last box wins"

Scores = dict[str, float]  # case -> DSC


def measured(validation: Path) -> dict[str, Scores]:
    """DSC of every case by each way; as many cases side by side as there are cores."""
    ways: dict[str, Scores] = {}
    spawn = get_context("spawn")
    with ProcessPoolExecutor(available_cores(), spawn, initializer=_load) as pool:
        for name, scores in pool.map(_measure, find_cases(validation)):
            print(name, file=sys.stderr)
            for way, dsc in scores.items():
                ways.setdefault(way, {})[name] = dsc
    return ways


_segmenters: dict[str, Segmenter] = {}  # of this process, by precision


def _load() -> None:
    for precision in ("int8", "f32"):
        _segmenters[precision] = Segmenter(precision=precision, threads=1, cache=engine_cache())


def _measure(path: Path) -> tuple[str, dict[str, float]]:
    """A case's name, and its DSC by each way that is meant for such a case."""
    int8, f32 = _segmenters["int8"], _segmenters["f32"]
    case = read_case(path, with_truth=True)
    truth, found = truth_of(case), dict[str, float]()

    def score(way: str, segment: Callable[[Case], np.ndarray]) -> None:
        found[way] = round(mean_dice(truth, segment(case)), 5)

    score(INT8, lambda given: int8.segment(given).labels)
    score(F32, lambda given: f32.segment(given).labels)
    if len(case.boxes) > MOST_BOXES:
        return case.name, found
    for percent in NOISE:
        score(noisy(percent), partial(_moved_labels, int8, percent))
    if case.is_volume:
        return case.name, found
    for size in SIZES:
        with _only_views_of(int8, size):
            score(only(size), lambda given: int8.segment(given).labels)
    if len(case.boxes) > 1:
        score(LAST, lambda given: _last_wins(given, int8))
    return case.name, found


def noisy(percent: int) -> str:
    """The way's name."""
    return f"sides off by up to {percent} %"


def only(size: int) -> str:
    """The way's name."""
    return f"views of {size} px only"


def runtime_pairs(ways: dict[str, Scores]) -> list[tuple[str, str, str, list[Scores], list[Scores]]]:
    """One way, another, the cases that are meant, and the DSC of both."""
    ships = "as it ships"
    few = f"images of at most {MOST_BOXES} boxes"
    images, volumes = (
        {way: {name: dsc for name, dsc in scores.items() if name.startswith(begins)} for way, scores in ways.items()}
        for begins in ("2DBox", "3DBox")
    )
    pairs = [("INT8", "f32", "val, volumes whole", ways, INT8, F32)]
    for modality in sorted({modality_of(name) for name in ways[INT8]}):
        alike = {way: {k: dsc for k, dsc in ways[way].items() if modality_of(k) == modality} for way in (INT8, F32)}
        pairs.append(("INT8", "f32", modality, alike, INT8, F32))
    for cases, on in ((few, images), ("volumes", volumes)):
        pairs += [(noisy(percent), "boxes as given", cases, on, noisy(percent), INT8) for percent in NOISE]
    pairs += [(ships, only(size), few, images, INT8, only(size)) for size in SIZES]
    pairs += [("the likelier box wins (ships)", LAST, f"images of 2 to {MOST_BOXES} boxes", images, INT8, LAST)]
    return [(one, other, cases, [on[mine]], [on[theirs]]) for one, other, cases, on, mine, theirs in pairs]


def _moved_labels(segmenter: Segmenter, percent: int, case: Case) -> np.ndarray:
    """Labels of a case whose boxes' sides are moved."""
    boxes = move_sides(case.boxes, side_shifts(case.name, len(case.boxes), percent), case.shape)
    return segmenter.segment(replace(case, boxes=boxes)).labels


@contextmanager
def _only_views_of(segmenter: Segmenter, size: int) -> Iterator[None]:
    description = segmenter.engine.description
    segmenter.engine.description = replace(description, views={**(description.views or {}), "sizes": (size,)})
    yield
    segmenter.engine.description = description


def _last_wins(case: Case, segmenter: Segmenter) -> np.ndarray:
    """Each box by itself, one mask over the other as the public program does."""
    labels = np.zeros(case.shape, np.uint16)
    for row in range(len(case.boxes)):
        alone = segmenter.segment(replace(case, boxes=case.boxes[row : row + 1], notes=())).labels
        labels[alone > 0] = row + 1
    return labels

"""What INT8 costs in DSC: both engines on the same held-out slices, through edge's own pipeline and scorer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.data.case import Case, make_case
from edge.engines.runtime import Engine, load_engine
from edge.pipeline import segment
from edge.scoring.score import mean_dice, mean_without_nan
from train.data.cases import Slice, find_objects, read_slices, truth_of

MODALITY_FACTOR = 3  # a single modality may lose this many times what the mean may
MAX_OBJECTS = 8  # of a slice; the largest count
MIN_AREA_PX = 16


@dataclass(frozen=True)
class Drop:
    """Mean DSC of one modality, or of all modalities alike, in float32 and in INT8; 0 to 1."""

    modality: str
    slices: int
    f32: float
    int8: float

    @property
    def points(self) -> float:
        """What INT8 loses, in DSC points of 100."""
        return 100 * (self.f32 - self.int8)


def measure_drop(folder: Path, sources: Iterable[Path], backend: str) -> list[Drop]:
    """The drop of a model folder's INT8 graphs, per modality, the mean over modalities last.

    Args:
        sources: labelled cases; one slice of each is segmented, in each of its largest objects' boxes.

    Raises:
        CaseError: a case cannot be read.
        ModelError: the folder has no INT8 graphs for the backend.
    """
    engines = [load_engine(folder, backend=backend, precision=precision) for precision in ("f32", "int8")]
    scores = _scores(engines, sources)
    rows = [
        Drop(modality, len(pairs), *(mean_without_nan(list(column)) for column in zip(*pairs, strict=True)))
        for modality, pairs in sorted(scores.items())
    ]
    mean = (mean_without_nan([row.f32 for row in rows]), mean_without_nan([row.int8 for row in rows]))
    return [*rows, Drop("mean", sum(row.slices for row in rows), *mean)]


def mean_dsc(engines: Sequence[Engine], sources: Iterable[Path]) -> list[float]:
    """Each engine's DSC, mean over modalities, 0 to 1, on the slices that `measure_drop` takes of `sources`."""
    scores = _scores(engines, sources).values()
    modalities = [[mean_without_nan(list(column)) for column in zip(*rows, strict=True)] for rows in scores]
    return [mean_without_nan(list(column)) for column in zip(*modalities, strict=True)]


def within_floor(rows: list[Drop], max_points: float) -> bool:
    """Whether the mean loses at most `max_points`, and no modality more than MODALITY_FACTOR times that."""
    *modalities, mean = rows
    return mean.points <= max_points and all(row.points <= MODALITY_FACTOR * max_points for row in modalities)


def drop_table(rows: list[Drop]) -> list[list[str]]:
    """Texts: header, then a row per modality and the mean; DSC in points of 100."""
    numbers = [
        [row.modality, str(row.slices), *(f"{x:.2f}" for x in (100 * row.f32, 100 * row.int8, row.points))]
        for row in rows
    ]
    return [["modality", "slices", "dsc f32", "int8", "drop"], *numbers]


def _scores(engines: Sequence[Engine], sources: Iterable[Path]) -> dict[str, list[list[float]]]:
    """Modality -> for each of its slices the DSC of each engine."""
    scores: dict[str, list[list[float]]] = {}
    for case in _cases(sources):
        scores.setdefault(case.modality, []).append([_dice(case, engine) for engine in engines])
    return scores


def _cases(sources: Iterable[Path]) -> Iterator[Case]:
    for source in sources:
        for piece in read_slices(source, 1):
            case = _case(piece)
            if case is not None:
                yield case


def _case(piece: Slice) -> Case | None:
    """A 2D case of a slice's largest objects, numbered anew; None where all are specks."""
    objects = find_objects(piece.labels)
    objects = objects[objects[:, 5] >= MIN_AREA_PX]
    objects = objects[np.argsort(-objects[:, 5], kind="stable")][:MAX_OBJECTS]
    if not len(objects):
        return None
    truth = np.zeros(piece.labels.shape, np.uint8)
    for label, row in enumerate(objects, start=1):
        truth[piece.labels == row[0]] = label
    return make_case(f"2DBox_{piece.modality}_{piece.case}", piece.image, objects[:, 1:5], truth=truth)


def _dice(case: Case, engine: Engine) -> float:
    return mean_dice(truth_of(case), segment(case, engine).labels)

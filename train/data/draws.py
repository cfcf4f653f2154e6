"""Which object comes next: a modality by its share, a data set, a case of it, an object of that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.data.case import dataset_of, modality_of
from train.data.prepared import Prepared
from train.data.sampler import modality_shares

LEAST_DEPTH = 3  # slices of a volume that can be walked through

Rows = list[int]  # of a case's objects, in `Prepared.objects`


class ObjectDraws:
    """Draws a modality by its share, a data set by the square root of its cases, then a case and an object evenly."""

    def __init__(self, data: Prepared, policy: str, table: dict[str, float]) -> None:
        """Args: policy, table: as `modality_shares` takes them."""
        cases = _cases_by_set(data)
        self.counts = {modality: sum(map(len, sets.values())) for modality, sets in cases.items()}
        self.shares = modality_shares(self.counts, policy, table)
        self._any = _Modalities.of(self.shares, cases)
        self._volumes = _Modalities.of(self.shares, _only_volumes(data, cases))

    @property
    def has_volumes(self) -> bool:
        """Whether there is a volume to walk through."""
        return bool(self._volumes.sets)

    def draw(self, chance: np.random.Generator, *, volumes: bool = False) -> int:
        """A row of the objects.

        Args:
            volumes: of a volume; the shares of modalities that have none go to the rest.
        """
        return (self._volumes if volumes else self._any).draw(chance)


def _cases_by_set(data: Prepared) -> dict[str, dict[str, list[Rows]]]:
    """Modality -> data set -> cases, each as the rows of its objects; modalities in the order of their names."""
    rows_of: dict[int, Rows] = {}
    for row, case in enumerate(data.objects[:, 0].tolist()):
        rows_of.setdefault(case, []).append(row)
    cases: dict[str, dict[str, list[Rows]]] = {}
    for case, rows in rows_of.items():
        name = data.cases[case].name
        cases.setdefault(modality_of(name), {}).setdefault(dataset_of(name), []).append(rows)
    return dict(sorted(cases.items()))


def _only_volumes(data: Prepared, cases: dict[str, dict[str, list[Rows]]]) -> dict[str, dict[str, list[Rows]]]:
    def is_deep(rows: Rows) -> bool:
        return data.cases[data.objects[rows[0], 0]].shape[0] >= LEAST_DEPTH

    deep = {
        modality: {name: kept for name, members in sets.items() if (kept := list(filter(is_deep, members)))}
        for modality, sets in cases.items()
    }
    return {modality: sets for modality, sets in deep.items() if sets}


@dataclass(frozen=True)
class _Sets:
    """The data sets of a modality."""

    bounds: npt.NDArray[np.float64]  # of the draw's fractions, ascending to 1
    cases: list[list[Rows]]  # of each data set

    @classmethod
    def of(cls, cases: list[list[Rows]]) -> "_Sets":
        return cls(_bounds([len(members) ** 0.5 for members in cases]), cases)

    def draw(self, chance: np.random.Generator) -> int:
        cases = self.cases[_pick(self.bounds, chance)]
        rows = cases[int(chance.integers(len(cases)))]
        return rows[int(chance.integers(len(rows)))]


@dataclass(frozen=True)
class _Modalities:
    """Those with a share."""

    bounds: npt.NDArray[np.float64]
    sets: list[_Sets]  # of each modality

    @classmethod
    def of(cls, shares: dict[str, float], cases: dict[str, dict[str, list[Rows]]]) -> "_Modalities":
        drawn = [modality for modality in cases if shares[modality] > 0]
        return cls(_bounds([shares[m] for m in drawn]), [_Sets.of(list(cases[m].values())) for m in drawn])

    def draw(self, chance: np.random.Generator) -> int:
        return self.sets[_pick(self.bounds, chance)].draw(chance)


def _bounds(weights: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.cumsum(weights) / np.sum(weights)


def _pick(bounds: npt.NDArray[np.float64], chance: np.random.Generator) -> int:
    return min(int(np.searchsorted(bounds, chance.random(), side="right")), len(bounds) - 1)

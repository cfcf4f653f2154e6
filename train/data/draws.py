"""Which object comes next: a modality by its share, a data set, a case of it, an object of that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.data.modality import dataset_in_name, modality_of
from train.data.prepared import Prepared
from train.data.sampler import modality_shares

LEAST_DEPTH = 3  # slices of a volume that can be walked through

Places = npt.NDArray[np.int32]


class ObjectDraws:
    """Draws a modality by its share, a data set by the square root of its cases, then a case and an object evenly.

    In arrays, 20 bytes a case, and in a time that does not depend on how many there are.
    """

    def __init__(self, data: Prepared, policy: str, table: dict[str, float]) -> None:
        """Args: policy, table: as `modality_shares` takes them."""
        rows = _CaseRows.of(data)
        cases = _cases_by_set(data, rows)
        self.counts = {modality: sum(map(len, sets.values())) for modality, sets in cases.items()}
        self.shares = modality_shares(self.counts, policy, table)
        self._any = _Modalities.of(self.shares, cases, rows)
        self._volumes = _Modalities.of(self.shares, _only_volumes(data, cases, rows), rows)

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


@dataclass(frozen=True)
class _CaseRows:
    """Rows of `Prepared.objects` by case."""

    cases: Places  # that have objects, ascending
    rows: Places  # of all of them, those of a case side by side
    bounds: npt.NDArray[np.int64]  # where in `rows` those of the first case begin, of the second, ...; and the end

    @classmethod
    def of(cls, data: Prepared) -> "_CaseRows":
        rows = np.argsort(data.objects[:, 0], kind="stable")
        cases, first = np.unique(data.objects[rows, 0], return_index=True)
        return cls(cases.astype(np.int32), rows.astype(np.int32), np.append(first, len(rows)))

    def draw(self, place: int, chance: np.random.Generator) -> int:
        """A row of the case at `place` of `cases`."""
        first, end = self.bounds[place], self.bounds[place + 1]
        return int(self.rows[first + int(chance.integers(end - first))])


def _cases_by_set(data: Prepared, rows: _CaseRows) -> dict[str, dict[str, Places]]:
    """Modality -> data set -> places of its cases in `rows.cases`; modalities in the order of their names."""
    places: dict[str, dict[str, list[int]]] = {}
    for place, case in enumerate(rows.cases.tolist()):
        name = data.cases[case].name
        places.setdefault(modality_of(name), {}).setdefault(dataset_in_name(name), []).append(place)
    return {
        modality: {name: np.array(members, np.int32) for name, members in sets.items()}
        for modality, sets in sorted(places.items())
    }


def _only_volumes(data: Prepared, cases: dict[str, dict[str, Places]], rows: _CaseRows) -> dict[str, dict[str, Places]]:
    is_deep = data.cases.depths[rows.cases] >= LEAST_DEPTH
    deep = {
        modality: {name: kept for name, members in sets.items() if (kept := members[is_deep[members]]).size}
        for modality, sets in cases.items()
    }
    return {modality: sets for modality, sets in deep.items() if sets}


@dataclass(frozen=True)
class _Sets:
    """The data sets of a modality."""

    bounds: npt.NDArray[np.float64]  # of the draw's fractions, ascending to 1
    cases: list[Places]  # of each data set, in `rows.cases`
    rows: _CaseRows

    @classmethod
    def of(cls, cases: list[Places], rows: _CaseRows) -> "_Sets":
        return cls(_bounds([len(members) ** 0.5 for members in cases]), cases, rows)

    def draw(self, chance: np.random.Generator) -> int:
        cases = self.cases[_pick(self.bounds, chance)]
        return self.rows.draw(int(cases[int(chance.integers(len(cases)))]), chance)


@dataclass(frozen=True)
class _Modalities:
    """Those with a share."""

    bounds: npt.NDArray[np.float64]
    sets: list[_Sets]  # of each modality

    @classmethod
    def of(cls, shares: dict[str, float], cases: dict[str, dict[str, Places]], rows: _CaseRows) -> "_Modalities":
        drawn = [modality for modality in cases if shares[modality] > 0]
        return cls(_bounds([shares[m] for m in drawn]), [_Sets.of(list(cases[m].values()), rows) for m in drawn])

    def draw(self, chance: np.random.Generator) -> int:
        return self.sets[_pick(self.bounds, chance)].draw(chance)


def _bounds(weights: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.cumsum(weights) / np.sum(weights)


def _pick(bounds: npt.NDArray[np.float64], chance: np.random.Generator) -> int:
    return min(int(np.searchsorted(bounds, chance.random(), side="right")), len(bounds) - 1)

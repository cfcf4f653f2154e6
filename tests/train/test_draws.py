"""Objects are drawn by modality, data set, case and object; those of walks are of volumes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from train.data.draws import ObjectDraws
from train.data.prepared import CaseEntry, CaseTable, Prepared

ELEVEN = {"CT": 5, "MR": 200, "PET": 3, "US": 40, "X-Ray": 10, "OCT": 1, "Fundus": 2, "Endoscopy": 9, "Dermoscopy": 8}
ELEVEN |= {"Mammography": 4, "Microscopy": 100}
TABLE = {"CT": 0.40, "MR": 0.10, "others": 0.50}


def data_of(cases: list[tuple[str, int, int]]) -> Prepared:
    """Cases by name, slices and objects."""
    entries = CaseTable(CaseEntry(name, (depth, 4, 4), 1, 0, 0, 1.0) for name, depth, _ in cases)
    rows = [[case, k + 1, *[0] * 7] for case, (_, _, objects) in enumerate(cases) for k in range(objects)]
    return Prepared(Path(), entries, np.array(rows, np.int32), np.zeros((0, 4), np.float32))


def images(cases: dict[str, int]) -> Prepared:
    return data_of([(f"2DBox_{modality}_Set_{k}", 1, 1) for modality, count in cases.items() for k in range(count)])


def drawn(draws: ObjectDraws, count: int, *, volumes: bool = False) -> list[int]:
    chance = np.random.default_rng(0)
    return [draws.draw(chance, volumes=volumes) for _ in range(count)]


@pytest.mark.parametrize(
    ("missing", "expected"), [(None, TABLE), ("MR", {"CT": 4 / 9}), ("CT", {"MR": 1 / 6}), ("PET", TABLE)]
)
def test_60_000_draws_have_the_tables_shares_within_half_a_point(missing: str | None, expected: dict) -> None:
    """By hand: without MR CT has 0.4 / 0.9; without CT MR has 0.1 / 0.6; without PET eight others share their 0.5."""
    present = {modality: cases for modality, cases in ELEVEN.items() if modality != missing}
    data = images(present)
    draws = ObjectDraws(data, "balanced", TABLE)
    found = Counter(data.cases[data.objects[row, 0]].name.split("_")[1] for row in drawn(draws, 60_000))
    others = [modality for modality in present if modality not in ("CT", "MR")]
    each = (1 - sum(expected.get(modality, 0) for modality in ("CT", "MR"))) / len(others)
    for modality in present:
        assert abs(found[modality] / 60_000 - expected.get(modality, each)) < 0.005, modality
    assert draws.counts == dict(sorted(present.items()))


def test_data_sets_are_drawn_by_the_square_root_of_their_cases() -> None:
    """Of one modality, 1 case and 9 cases: a quarter and three quarters."""
    data = data_of([("2DBox_CT_Small_0", 1, 1), *[(f"2DBox_CT_Large_{k}", 1, 1) for k in range(9)]])
    found = Counter(drawn(ObjectDraws(data, "uniform", {}), 8000))
    assert found[0] / 8000 == pytest.approx(0.25, abs=0.02)
    assert all(found[row] / 8000 == pytest.approx(0.75 / 9, abs=0.01) for row in range(1, 10))


def test_cases_are_drawn_evenly_and_every_object_of_them() -> None:
    """A case of three objects counts as much as one of one."""
    data = data_of([("2DBox_CT_A_0", 1, 3), ("2DBox_CT_A_1", 1, 1)])
    found = Counter(drawn(ObjectDraws(data, "uniform", {}), 6000))
    assert [found[row] / 6000 for row in range(4)] == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2], abs=0.02)


def test_walks_are_drawn_from_volumes_by_the_shares_of_their_modalities() -> None:
    """CT 0.4 and MR 0.1 have volumes of three slices: four to one; an image and two slices are none."""
    cases = [("3DBox_CT_A_0", 3, 1), ("3DBox_MR_A_0", 9, 1), ("2DBox_US_A_0", 1, 1), ("3DBox_PET_A_0", 2, 1)]
    draws = ObjectDraws(data_of(cases), "balanced", TABLE)
    found = Counter(drawn(draws, 4000, volumes=True))
    assert draws.has_volumes and set(found) == {0, 1} and found[0] / 4000 == pytest.approx(0.8, abs=0.02)
    assert not ObjectDraws(data_of(cases[2:]), "balanced", TABLE).has_volumes
    assert not ObjectDraws(data_of(cases[1:3]), "balanced", {"US": 1.0}).has_volumes  # MR has no share


def test_objects_that_were_left_out_are_not_drawn() -> None:
    """Nor their cases counted."""
    data = data_of([("2DBox_CT_A_0", 1, 1), ("2DBox_CT_B_0", 1, 2)]).without(["A"])
    draws = ObjectDraws(data, "uniform", {})
    assert draws.counts == {"CT": 1} and {data.objects[row, 0] for row in drawn(draws, 50)} == {1}

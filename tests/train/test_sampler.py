"""What is drawn follows the shares, and depends on seed, epoch and position alone."""

from collections import Counter

import pytest

from edge.errors import RunError
from train.data.cache import Entry
from train.data.sampler import Batches, Draws, modality_shares

ELEVEN = {"CT": 5, "MR": 200, "PET": 3, "US": 40, "X-Ray": 10, "OCT": 1, "Fundus": 2, "Endoscopy": 9, "Dermoscopy": 8}
ELEVEN |= {"Mammography": 4, "Microscopy": 100}
TABLE = {"CT": 0.40, "MR": 0.10, "others": 0.50}


def entries_of(cases: dict[str, int], slices: int = 1, objects: int = 1) -> tuple[list[Entry], list[str]]:
    rows = [[k, 0, 0, 1, 1, 4] for k in range(1, objects + 1)]
    entries, modalities = [], []
    for modality, count in cases.items():
        for number in range(count):
            for index in range(slices):
                case = f"2DBox_{modality}_{number}"
                entries.append(Entry(case, index, (2, 2), 1.0, "shard-00000", (0, 0), (0, 0), rows, []))
                modalities.append(modality)
    return entries, modalities


def test_100_000_draws_have_the_papers_shares_within_half_a_point() -> None:
    """CT 0.40, MR 0.10, the nine others 0.50 / 9 each."""
    entries, modalities = entries_of(ELEVEN)
    draws = Draws(entries, modalities, "balanced", TABLE, seed=1)
    found = Counter(modalities[draws.draw(0, position).entry] for position in range(100_000))
    for modality in ELEVEN:
        expected = TABLE.get(modality, 0.5 / 9)
        assert abs(found[modality] / 100_000 - expected) < 0.005, modality


@pytest.mark.parametrize(("missing", "expected"), [("MR", {"CT": 4 / 9}), ("CT", {"MR": 1 / 6}), ("PET", TABLE)])
def test_100_000_draws_without_a_modality_have_its_share_in_the_rest(missing: str, expected: dict[str, float]) -> None:
    """By hand: without MR CT has 0.4 / 0.9; without CT MR has 0.1 / 0.6; without PET eight others share their 0.5."""
    present = {modality: cases for modality, cases in ELEVEN.items() if modality != missing}
    entries, modalities = entries_of(present)
    draws = Draws(entries, modalities, "balanced", TABLE, seed=1)
    found = Counter(modalities[draws.draw(0, position).entry] for position in range(100_000))
    others = [modality for modality in present if modality not in ("CT", "MR")]
    each = (1 - sum(expected.get(modality, 0) for modality in ("CT", "MR"))) / len(others)
    for modality in present:
        assert abs(found[modality] / 100_000 - expected.get(modality, each)) < 0.005, modality


def test_what_is_missing_gives_its_share_to_the_rest_in_proportion() -> None:
    """Without MR: CT 0.4 / 0.9, the two others share 0.5 / 0.9. Without others: CT 0.8, MR 0.2."""
    shares = modality_shares({"CT": 1, "US": 1, "PET": 1}, "balanced", TABLE)
    assert shares == pytest.approx({"CT": 4 / 9, "US": 2.5 / 9, "PET": 2.5 / 9})
    assert modality_shares({"CT": 1, "MR": 9}, "balanced", TABLE) == pytest.approx({"CT": 0.8, "MR": 0.2})


def test_proportional_and_uniform_are_what_they_say() -> None:
    """The two sides of the ablation."""
    assert modality_shares({"CT": 1, "MR": 3}, "proportional", TABLE) == {"CT": 0.25, "MR": 0.75}
    assert modality_shares({"CT": 1, "MR": 3}, "uniform", TABLE) == {"CT": 0.5, "MR": 0.5}


@pytest.mark.parametrize(("policy", "table"), [("fair", TABLE), ("balanced", {"PET": 1.0}), ("balanced", {"CT": -1.0})])
def test_a_table_that_gives_nothing_is_an_error(policy: str, table: dict[str, float]) -> None:
    """And so is a policy nobody knows."""
    with pytest.raises(RunError):
        modality_shares({"CT": 1, "MR": 3}, policy, table)


def test_cases_are_drawn_evenly_whatever_their_number_of_slices() -> None:
    """A volume of 30 slices counts as much as an image."""
    many, one = entries_of({"CT": 1}, slices=30), entries_of({"MR": 1})
    entries = [*many[0], *[Entry(**{**vars(entry), "case": "2DBox_CT_other"}) for entry in one[0]]]
    draws = Draws(entries, ["CT"] * 31, "uniform", {}, seed=0)
    other = sum(draws.draw(0, position).entry == 30 for position in range(4000))
    assert 0.46 < other / 4000 < 0.54


def test_every_object_of_a_slice_is_drawn() -> None:
    """Three objects, about a third each."""
    entries, modalities = entries_of({"CT": 1}, objects=3)
    draws = Draws(entries, modalities, "uniform", {}, seed=0)
    found = Counter(draws.draw(0, position).object for position in range(3000))
    assert set(found) == {0, 1, 2} and min(found.values()) > 850


def test_a_draw_depends_on_seed_epoch_and_position_only() -> None:
    """The same from another instance and in another order; different in another epoch."""
    entries, modalities = entries_of(ELEVEN)
    forward = Draws(entries, modalities, "balanced", TABLE, seed=3)
    backward = Draws(entries, modalities, "balanced", TABLE, seed=3)
    expected = [forward.draw(2, position) for position in range(50)]
    assert [backward.draw(2, position) for position in reversed(range(50))][::-1] == expected
    assert [forward.draw(3, position).entry for position in range(50)] != [draw.entry for draw in expected]


def test_processes_share_the_batches_that_one_process_would_take() -> None:
    """Two processes with batch 3 see what one sees with batch 6, batch by batch."""
    one = list(Batches(draws=26, batch=6))
    first, second = (list(Batches(draws=26, batch=3, rank=rank, processes=2)) for rank in (0, 1))
    assert one == [a + b for a, b in zip(first, second, strict=True)]
    assert one[-1] == list(range(18, 24)) and len(Batches(draws=26, batch=6)) == 4


def test_a_resumed_epoch_goes_on_with_the_next_batch() -> None:
    """From batch 2 on, nothing twice and nothing left out."""
    assert list(Batches(draws=20, batch=4, start=2)) == list(Batches(draws=20, batch=4))[2:]

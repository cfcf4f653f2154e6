"""Shares, layouts and batches are functions of what is given to them alone."""

import pytest

from edge.errors import RunError
from train.data.sampler import Batches, Layout, Place, modality_shares

TABLE = {"CT": 0.40, "MR": 0.10, "others": 0.50}


def test_what_is_missing_gives_its_share_to_the_rest_in_proportion() -> None:
    """Without MR: CT 0.4 / 0.9, the two others share 0.5 / 0.9. Without others: CT 0.8, MR 0.2."""
    shares = modality_shares({"CT": 1, "US": 1, "PET": 1}, "balanced", TABLE)
    assert shares == pytest.approx({"CT": 4 / 9, "US": 2.5 / 9, "PET": 2.5 / 9})
    assert modality_shares({"CT": 1, "MR": 9}, "balanced", TABLE) == pytest.approx({"CT": 0.8, "MR": 0.2})


def test_proportional_and_uniform_are_what_they_say() -> None:
    """By the cases, and the same for each."""
    assert modality_shares({"CT": 1, "MR": 3}, "proportional", TABLE) == {"CT": 0.25, "MR": 0.75}
    assert modality_shares({"CT": 1, "MR": 3}, "uniform", TABLE) == {"CT": 0.5, "MR": 0.5}


@pytest.mark.parametrize(("policy", "table"), [("fair", TABLE), ("balanced", {"PET": 1.0}), ("balanced", {"CT": -1.0})])
def test_a_table_that_gives_nothing_is_an_error(policy: str, table: dict[str, float]) -> None:
    """And so is a policy nobody knows."""
    with pytest.raises(RunError):
        modality_shares({"CT": 1, "MR": 3}, policy, table)


def test_a_layout_says_what_each_place_of_a_batch_holds() -> None:
    """Views first, then walks, in the order of the tables."""
    layout = Layout.of({"56": 2, "224": 1}, {"56": 1})
    assert layout.places == [Place(56, False), Place(56, False), Place(224, False), Place(56, True)]
    assert layout.groups == [(Place(56, False), 2), (Place(224, False), 1), (Place(56, True), 1)]


@pytest.mark.parametrize(
    ("views", "walks", "message"),
    [
        ({"100": 1}, {}, "views: sizes are 56, 112, 224 px, got 100"),
        ({"56": 1}, {"a": 1}, "walks: sizes are 56, 112, 224 px, got a"),
        ({"56": 0}, {}, "views: counts must be whole numbers from 1 on, got 0"),
        ({"56": 1.5}, {}, "views: counts must be whole numbers from 1 on, got 1.5"),
        ({"56": True}, {}, "views: counts must be whole numbers from 1 on, got True"),
        ({}, {}, "both are empty"),
    ],
)
def test_a_layout_of_no_use_is_one_line(views: dict, walks: dict, message: str) -> None:
    """The key, what came, what was expected."""
    with pytest.raises(RunError, match=message):
        Layout.of(views, walks)


def test_processes_share_the_batches_that_one_process_would_take() -> None:
    """Two processes with batch 3 see what one sees with batch 6, batch by batch."""
    one = list(Batches(draws=26, batch=6))
    first, second = (list(Batches(draws=26, batch=3, rank=rank, processes=2)) for rank in (0, 1))
    assert one == [a + b for a, b in zip(first, second, strict=True)]
    assert one[-1] == list(range(18, 24)) and len(Batches(draws=26, batch=6)) == 4


def test_a_resumed_epoch_goes_on_with_the_next_batch() -> None:
    """From batch 2 on, nothing twice and nothing left out."""
    assert list(Batches(draws=20, batch=4, start=2)) == list(Batches(draws=20, batch=4))[2:]

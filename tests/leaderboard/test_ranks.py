"""Ranks worked out by hand."""

import numpy as np
import pytest

from edge.challenge.leaderboard.ranks import rank_cases, standings

TEAMS = ["exact", "fast", "crashing", "slow"]
# Three cases. `crashing` has no output on the last; `exact` and `slow` have the same masks.
DSC = [[0.90, 0.80, 0.70], [0.85, 0.80, 0.60], [0.90, 0.70, 0.00], [0.90, 0.80, 0.70]]
NSD = [[0.95, 0.85, 0.75], [0.90, 0.80, 0.70], [0.95, 0.80, 0.00], [0.95, 0.85, 0.75]]
TIME = [[2.0, 2.0, 5.0], [1.0, 1.0, 3.0], [2.0, 1.5, 0.5], [9.0, 9.0, 9.0]]
VALID = [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]]


def table() -> dict[str, np.ndarray]:
    return {"dsc": np.array(DSC), "nsd_official": np.array(NSD), "time_s": np.array(TIME)}


def test_ranks_of_one_metric_with_ties_and_a_missing_output() -> None:
    """Case 1: three share places 1 to 3 (rank 2), one is 4th. Case 3: two share 1 and 2, then 3rd; missing is last."""
    ranks = rank_cases(np.array(DSC), np.array(VALID, bool), smaller_is_better=False)
    assert ranks.tolist() == [[2, 2, 1.5], [4, 2, 3], [2, 4, 4], [2, 2, 1.5]]


def test_two_missing_outputs_share_the_last_places() -> None:
    """Of four teams, two without an output have (3 + 4) / 2, however good their numbers look."""
    ranks = rank_cases(
        np.array([[0.1], [0.9], [0.9], [0.2]]), np.array([[1], [0], [0], [1]], bool), smaller_is_better=False
    )
    assert ranks[:, 0].tolist() == [2, 3.5, 3.5, 1]


def test_a_quick_crash_wins_no_time() -> None:
    """`crashing` took 0.5 s on case 3 and wrote nothing: last in time."""
    ranks = rank_cases(np.array(TIME), np.array(VALID, bool), smaller_is_better=True)
    assert ranks.tolist() == [[2.5, 3, 2], [1, 1, 1], [2.5, 2, 4], [4, 4, 3]]


def test_the_standing_is_the_mean_over_cases_and_metrics() -> None:
    """DSC ranks as above; NSD ranks: exact 2 1.5 1.5, fast 4 3.5 3, crashing 2 3.5 4, slow 2 1.5 1.5; time as above.

    exact    (2 + 2 + 1.5 + 2 + 1.5 + 1.5 + 2.5 + 3 + 2) / 9 = 18 / 9
    fast     (4 + 2 + 3 + 4 + 3.5 + 3 + 1 + 1 + 1) / 9       = 22.5 / 9
    crashing (2 + 4 + 4 + 2 + 3.5 + 4 + 2.5 + 2 + 4) / 9     = 28 / 9
    slow     (2 + 2 + 1.5 + 2 + 1.5 + 1.5 + 4 + 4 + 3) / 9   = 21.5 / 9
    """
    found = standings(TEAMS, table(), np.array(VALID, bool))
    assert [standing.team for standing in found] == ["exact", "slow", "fast", "crashing"]
    assert [standing.rank for standing in found] == [1, 2, 3, 4]
    assert [standing.mean_rank for standing in found] == pytest.approx([18 / 9, 21.5 / 9, 22.5 / 9, 28 / 9])
    assert found[0].metric_ranks == pytest.approx({"dsc": 5.5 / 3, "nsd_official": 5 / 3, "time_s": 7.5 / 3})


def test_teams_alike_share_their_rank() -> None:
    """Twice the same numbers: 1.5 each."""
    metrics = {name: np.array(values)[[0, 0]] for name, values in table().items()}
    found = standings(["b", "a"], metrics, np.ones((2, 3), bool))
    assert [(standing.team, standing.rank) for standing in found] == [("a", 1.5), ("b", 1.5)]


def test_a_case_without_a_meaning_for_a_metric_is_left_out_of_it() -> None:
    """A valid output with a NaN: no team is ranked there; the others' ranks stand."""
    ranks = rank_cases(np.array([[np.nan, 0.5], [0.7, 0.6]]), np.ones((2, 2), bool), smaller_is_better=False)
    assert np.isnan(ranks[:, 0]).all()
    assert ranks[:, 1].tolist() == [2, 1]


def test_the_bootstrap_knows_what_is_certain_and_what_is_not() -> None:
    """One team best on every case is first in every draw; two that win one case of two each are first in about half:
    both cases from one (1/4), from the other (1/4), or one of each (1/2: shared, 1.5 each)."""
    values = np.array([[0.9, 0.9], [0.8, 0.5], [0.5, 0.8]])
    best, second, third = standings(["a", "b", "c"], {"dsc": values}, np.ones((3, 2), bool), draws=4000)
    assert best.rank_interval == (1, 1) and best.rank_share == (1, 0, 0)
    assert (second.rank, third.rank) == (2.5, 2.5)
    assert second.rank_interval == (2, 3)
    assert second.rank_share[1:] == pytest.approx((0.75, 0.25), abs=0.03)  # a shared 2.5 counts as place 2


def test_the_bootstrap_repeats_itself() -> None:
    """The same seed, the same intervals; another seed, other draws."""
    first, again, other = (standings(TEAMS, table(), np.array(VALID, bool), seed=seed, draws=50) for seed in (1, 1, 2))
    assert first == again
    assert [s.rank_share for s in first] != [s.rank_share for s in other]

"""What a second worker of a cluster brings, measured small."""

from pathlib import Path

import pytest

from docs import tables
from edge.errors import ModelError
from edge.system.machine import describe_machine
from measure.cluster import pairs, speedup

pytest.importorskip("distributed")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Dask's own, in this process
def test_pairs_are_measured_and_a_failure_is_told(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One and two workers do the same cases; where there is no model no number is made."""
    (pair,) = pairs(tiny_model, cases=2, rounds=1)
    assert set(pair) == {"1_s", "2_s"} and min(pair.values()) > 0
    monkeypatch.setattr("measure.cluster.WORKERS", (1,))
    with pytest.raises(ModelError, match="not a model folder"):
        list(pairs(tmp_path, cases=1, rounds=1))


def test_the_table_has_the_median_of_the_pairs() -> None:
    """Of ratios 1.5, 3 and 4, and not that of the medians, 9 / 4."""
    found = [{"1_s": 6.0, "2_s": 4.0}, {"1_s": 9.0, "2_s": 3.0}, {"1_s": 20.0, "2_s": 5.0}]
    assert speedup(found) == [1.5, 3.0, 4.0]
    report = {"machine": describe_machine(), "engines": [], "cases_each": 32, "pairs": found}
    lines = tables.cluster({"cluster": report})
    assert lines[2:4] == ["| 1 | 9.00 | 3.56 |", "| 2 | 4.00 | 8.00 |"]
    assert lines[-1].startswith("3.00 times as fast, 1.50 to 4.00 in 3 pairs; ")

"""How much callers of one Segmenter get done together."""

from pathlib import Path

import numpy as np
import pytest

from edge import RunError, Segmenter, make_case
from measure.callers import cases_per_s, throughput

CASES = [make_case(f"2DBox_US_{at}", np.full((32, 32), 9, np.uint8), np.array([[at, 2, 9, 9]])) for at in (1, 2)]


def test_callers_that_share_a_segmenter_and_callers_that_do_not_are_measured(tiny_model: Path) -> None:
    """In cases per second, by name."""
    shared, own = (Segmenter(tiny_model, threads=1) for _ in range(2))
    rates = throughput({"one": [shared], "two": [shared] * 2, "own": [shared, own]}, CASES, rounds=1)
    assert list(rates) == ["one", "two", "own"] and min(rates.values()) > 0


def test_other_labels_than_alone_are_an_error(tiny_model: Path) -> None:
    """No rate is stated of wrong masks."""
    segmenter = Segmenter(tiny_model, threads=1)
    alone = [segmenter.segment(case).labels for case in CASES]
    with pytest.raises(RunError, match="2DBox_US_2: other labels with 2 callers at once than alone"):
        cases_per_s([segmenter] * 2, CASES, [alone[0], 1 - alone[1]])

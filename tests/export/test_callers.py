"""How much callers of one Segmenter get done together."""

from pathlib import Path

import numpy as np
import pytest

from edge import RunError, Segmenter, make_case
from export.callers import CALLERS, cases_per_s, throughput

CASES = [make_case(f"2DBox_US_{at}", np.full((32, 32), 9, np.uint8), np.array([[at, 2, 9, 9]])) for at in (1, 2)]


def test_every_number_of_callers_is_measured(tiny_model: Path) -> None:
    """In cases per second."""
    rates = throughput(Segmenter(tiny_model, threads=1), CASES, rounds=1)
    assert tuple(rates) == CALLERS and min(rates.values()) > 0


def test_other_labels_than_alone_are_an_error(tiny_model: Path) -> None:
    """No rate is stated of wrong masks."""
    segmenter = Segmenter(tiny_model, threads=1)
    alone = [segmenter.segment(case).labels for case in CASES]
    with pytest.raises(RunError, match="2DBox_US_2: other labels with 2 callers at once than alone"):
        cases_per_s(segmenter, CASES, 2, [alone[0], 1 - alone[1]])

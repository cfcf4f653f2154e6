"""Training on many cases: what an index takes, and that a case comes back from it as it was."""

from pathlib import Path

import pytest

from export.checks.training_size import make_set, measure
from train.data.prepared import CaseEntry, CaseTable, open_prepared

ENTRIES = [
    CaseEntry("2DBox_US_A_1", (1, 200, 512), 3, 0, 0, 0.5),
    CaseEntry("Größe\udcff", (7, 3, 2), 1, 2**40, 2**39, 1 / 3),
    CaseEntry("", (1, 1, 1), 1, 5, 6, 1.0),
]


def test_an_index_takes_less_than_300_bytes_an_image() -> None:
    """With the tables of draws, in memory and as it is sent to a worker; no more of more images."""
    small, large = measure(2_000), measure(8_000)
    assert max(small["bytes_each"], large["bytes_each"]) < 300
    assert max(small["sent_bytes_each"], large["sent_bytes_each"]) < 300


def test_entries_come_back_as_they_were() -> None:
    """Names of any file, places beyond 4 GiB, fractions; and equal tables are equal."""
    table = CaseTable(ENTRIES)
    assert list(table) == ENTRIES and len(table) == 3 and table.depths.tolist() == [1, 7, 1]
    assert table == CaseTable(ENTRIES) and table != CaseTable(ENTRIES[:2])
    assert len(CaseTable([])) == 0
    for beyond in (3, -1):
        with pytest.raises(IndexError):
            table[beyond]


def test_the_set_that_is_made_up_can_be_opened(tmp_path: Path) -> None:
    """As one that was prepared: pixels and labels of each case are there."""
    make_set(tmp_path, 30)
    data = open_prepared(tmp_path)
    assert len(data.cases) == len(data.objects) == 30
    assert data.pixels(29).shape == (1, 8, 8, 1) and data.labels(29).shape == (1, 8, 8)

"""Training on many cases: what an index takes, and that a case comes back from it as it was."""

from pathlib import Path

import numpy as np
import pytest

from edge.data.case import make_case, write_case
from measure import loading
from measure.training_size import make_set, measure
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
    assert [part.shape for part in data.volume(29)] == [(1, 8, 8, 1), (1, 8, 8)]


def test_the_rate_of_loading_is_of_each_kind_of_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ball in a volume: a view and a walk, batched, by the process itself and by workers."""
    monkeypatch.setattr(loading, "TIMED_S", 0.0)
    for title in loading.KINDS.keys() - {"view of 112 px", "walk in views of 56 px"}:
        monkeypatch.delitem(loading.KINDS, title)
    ball = np.square(np.mgrid[:12, :64, :64] - np.array([6, 30, 34])[:, None, None, None]).sum(axis=0) < 300
    case = make_case("3DBox_CT_A_1", np.where(ball, 200, 40).astype(np.uint8), np.zeros((0, 6)), truth=ball)
    (tmp_path / "data").mkdir()
    write_case(tmp_path / "data" / f"{case.name}.npz", case)
    kinds = loading.measure(tmp_path / "data", tmp_path / "cache")
    assert [kind["kind"] for kind in kinds] == list(loading.KINDS)
    assert all(rate > 0 for kind in kinds for rate in kind["samples_per_s"])
    table = loading.loading_table({"workers": loading.WORKERS, "kinds": kinds})
    assert table[0] == ["sample", "samples/s, no workers", "samples/s by 2 workers"] and len(table) == 3

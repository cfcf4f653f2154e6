"""What containers get done; run in real ones by tests/image/test_quota_image.py."""

import pytest

from docs import tables
from edge.errors import RunError
from edge.system.machine import describe_machine
from measure.quota import Setup, quota_table, rate, rows_of, setups


def test_every_kind_is_measured_by_itself_and_with_each_number_of_threads() -> None:
    """On two cores: quotas below two, then one to four containers."""
    found = list(setups(2))
    assert found[:4] == [Setup(1, 0.5, None), Setup(1, 0.5, 1), Setup(1, 0.5, 2), Setup(1, 1.0, None)]
    assert [setup.containers for setup in found if setup.cpus is None and setup.threads is None] == [1, 2, 3, 4]
    assert {setup.cpus for setup in setups(1)} == {0.5, None}


def test_the_table_compares_with_the_best_number_of_threads() -> None:
    """0.9 of it, for a quota; and its row on the page."""
    rates = {Setup(1, 0.5, None): 1.8, Setup(1, 0.5, 1): 2.0, Setup(1, 0.5, 2): 1.0, Setup(2, None, None): 3.0}
    report = {"machine": describe_machine(), "rows": rows_of({**rates, Setup(2, None, 1): 3.0, Setup(2, None, 2): 2.5})}
    assert quota_table(report)[1:] == [
        ["--cpus 0.5", "1.80", "2.00", "1.00", "0.90"],
        ["2 containers", "3.00", "3.00", "2.50", "1.00"],
    ]
    assert "| --cpus 0.5 | 1.80 | 2.00 | 1.00 | 0.90 |" in tables.TABLES["quota"].write({"quota": report})


def test_a_case_that_fails_has_no_rate() -> None:
    assert rate([{"error": None, "total_s": 0.5}, {"error": None, "total_s": 1.5}]) == 1.0
    with pytest.raises(RunError, match="2DBox_US_1: no boxes"):
        rate([{"error": "2DBox_US_1: no boxes", "total_s": None}])

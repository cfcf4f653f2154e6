"""What the stability score says of the truth, by hand."""

import pytest

from edge.errors import RunError
from measure.stability import Box, caught, rows_of, stability_table, unsure_table


def test_scores_beside_the_truth_by_hand() -> None:
    """Ranks go together but for one pair of four; a band's mean IoU, and how many boxes it has."""
    found = [(0.5, 0.3), (0.85, 0.6), (0.96, 0.9), (0.99, 0.7)]
    rows = rows_of([Box("images", *pair) for pair in found])
    assert [row["kind"] for row in rows] == ["images"]
    assert rows[0]["spearman"] == pytest.approx(0.8) and rows[0]["mean_difference"] == pytest.approx(0.2)
    assert stability_table({"rows": rows})[1] == [
        "images",
        "4",
        "0.80",
        "0.20",
        "0.30 (1)",
        "",
        "0.60 (1)",
        "",
        "0.80 (2)",
    ]
    with pytest.raises(RunError, match="no box with a truth"):
        rows_of([])


def test_what_a_threshold_catches_by_hand() -> None:
    """Two bad masks, at 0.65 and 0.78; three good ones, at 0.72, 0.88 and 0.95. An IoU of 7 / 13 is a DSC of 0.7."""
    pairs = [(0.65, 0.2), (0.78, 0.53), (0.72, 0.54), (0.88, 0.8), (0.95, 0.9)]
    rows = caught([Box("images", *pair) for pair in pairs])
    assert [(row["threshold"], row["sensitivity"], row["false_alarms"]) for row in rows] == [
        (0.7, 0.5, 0.0),
        (0.75, 0.5, pytest.approx(1 / 3)),
        (0.8, 1.0, pytest.approx(1 / 3)),
        (0.85, 1.0, pytest.approx(1 / 3)),
        (0.9, 1.0, pytest.approx(2 / 3)),
    ]
    assert unsure_table({"thresholds": rows})[1:3] == [["0.70", "50 %", "0 %"], ["0.75", "50 %", "33 %"]]
    assert [row["sensitivity"] for row in caught([Box("images", 0.5, 0.9)])] == [None] * 5

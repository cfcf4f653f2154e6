"""The table of where a start goes."""

from pathlib import Path

from export.checks.startup import FLOOR, measure

CASE = Path(__file__).parents[2] / "cases" / "2DBox_US_phantom.npz"


def test_the_steps_of_a_start_are_timed_in_order() -> None:
    """Each takes some time, Python comes first, and the command as a whole stands beside them."""
    seconds = measure(CASE, rounds=1)
    names = list(seconds)
    assert names[0] == "python" and names[-2:] == [f"python -c '{FLOOR}'", "samedge predict, whole"]
    assert names.index("import numpy") < names.index("case: read") < names.index("first box decoded")
    assert all(value > 0 for value in seconds.values())

"""The table of where a start goes."""

from pathlib import Path

from export.checks.startup import FLOOR, measure

CASE = Path(__file__).parents[2] / "cases" / "2DBox_US_phantom.npz"


def test_the_steps_of_a_start_are_timed_in_order() -> None:
    """Each takes time and memory, Python comes first, and the command as a whole stands beside them."""
    costs = measure(CASE, rounds=1)
    names = list(costs)
    assert names[0] == "python" and names[-2:] == [f"python -c '{FLOOR}'", "samedge predict, whole"]
    assert names.index("import numpy") < names.index("case: read") < names.index("first box decoded")
    assert all(cost.wall_s > 0 and cost.peak_mib > 5 for cost in costs.values())
    whole = costs[names[-1]]
    assert whole.cpu_s > costs[names[-2]].cpu_s > costs["import openvino"].cpu_s > 0

"""The table of where a start goes."""

import sys
from pathlib import Path
from typing import Any

import pytest

from edge.challenge.submission.trial import Trial
from measure.startup import (
    FLOOR,
    cost_of,
    measure,
    measure_containers,
    measure_pairs,
    pairs_text,
    startup_table,
)  # fmt: skip

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


def test_another_checkout_runs_its_own_code(tmp_path: Path) -> None:
    """One whose command only sleeps; as long as that takes, this one is compared with it."""
    package = tmp_path / "edge"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import time; time.sleep(0.2)")
    ((own, its),) = measure_pairs(CASE, tmp_path, rounds=1)
    assert own.cpu_s > 0.2 > its.cpu_s and its.wall_s > 0.2


def test_processes_keep_compiled_code_as_installed_packages_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment forbids it, every start would compile the command's modules again."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    cost_of([sys.executable, "-c", "import sys; sys.exit(sys.dont_write_bytecode)"])


def test_containers_of_two_images_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the engine, which `make image-test` has: the first of each is not counted, a failure ends it."""
    ran: list[str] = []

    def try_case(_client: Any, image: str, *_rest: Any, score: bool) -> tuple[Trial, None]:
        ran.append(image)
        return Trial("2DBox_US_phantom", "US", "cold", "exit code 1" if image == "bad" else None, len(ran) / 2), None

    monkeypatch.setattr("edge.challenge.submission.engine.connect", lambda: None)
    monkeypatch.setattr("edge.challenge.submission.trial.try_case", try_case)
    assert measure_containers(CASE, ["new", "old"], rounds=2) == [[1.5, 2.0], [2.5, 3.0]]
    assert ran == ["new", "old"] * 3
    with pytest.raises(SystemExit, match="bad: exit code 1"):
        measure_containers(CASE, ["new", "bad"])


def test_the_pairs_are_told_as_ratios() -> None:
    """The median of ratios, not the ratio of medians: 1, 2 and 4 times as fast."""
    pairs = [[{"wall_s": own}, {"wall_s": its}] for own, its in ((1.0, 1.0), (0.5, 1.0), (0.25, 1.0))]
    report: dict[str, Any] = {"pairs": pairs, "against": "f553692", "containers": [], "images": None}
    assert pairs_text(report) == "0.500 s of 1.000 s as of f553692, in 3 pairs 2.00 times as fast, 1.00 to 4.00"
    report |= {"containers": [[2.0, 3.0]], "images": ["samedge", "samedge:before"]}
    assert pairs_text(report).endswith(
        "; containers: 2.000 s of 3.000 s as of samedge:before, in 1 pairs 1.50 times as fast, 1.50 to 1.50"
    )
    assert pairs_text(report | {"pairs": [], "containers": []}) == ""


def test_the_table_has_a_row_for_each_step() -> None:
    """In the order they were done."""
    steps = [{"name": "python", "wall_s": 0.0125, "cpu_s": 0.01, "peak_mib": 9.6}]
    assert startup_table({"steps": steps}) == [["step", "s", "CPU s", "peak MiB"], ["python", "0.013", "0.010", "10"]]

"""The table of how time and memory grow."""

from dataclasses import replace
from pathlib import Path

import pytest

from docs import plots, tables
from edge.errors import RunError
from edge.segmenter import Segmenter
from edge.system.machine import describe_machine
from measure.growth import AXES, POINTS, many_cases, measure

SMALL = {"slices": (4, 8), "boxes": (1, 3), "megapixels": (64, 128), "boxes in a whole frame": (1, 2)}


@pytest.fixture(scope="module")
def segmenter(tiny_model: Path) -> Segmenter:
    return Segmenter(tiny_model, threads=1)


def test_every_axis_grows_in_one_thing(segmenter: Segmenter) -> None:
    """Shapes and boxes are those asked for; each is measured; the page's table has a row for each."""
    axes = [replace(axis, values=SMALL[axis.name]) for axis in AXES]
    found = list(measure(axes, segmenter, rounds=1))
    assert [case["shape"][:1] for case in found[:2]] == [(4,), (8,)]
    assert [case["boxes"] for case in found if case["axis"].startswith("boxes")] == [1, 3, 1, 2]
    assert [case["shape"] for case in found if case["axis"] == "megapixels"] == [(64, 64), (128, 128)]
    assert [case["configuration"].split()[-1] for case in found[-2:]] == ["baseline"] * 2
    assert all(case["cpu_s"] > 0 and case["peak_mib"] > 50 for case in found)
    report = {"machine": describe_machine(), "engines": [], "per_process": False, "cases": found}
    assert len([line for line in tables.growth({"growth": report}) if line.startswith("| ")]) == 2 + len(found)


def test_many_cases_leave_a_curve(segmenter: Segmenter) -> None:
    """Of memory and time, to the last case; outputs do not pile up."""
    curve = many_cases(2 * POINTS, segmenter)
    assert [point["cases"] for point in curve] == list(range(2, 2 * POINTS + 1, 2))
    assert curve[-1]["s"] > curve[0]["s"] > 0 and curve[-1]["resident_mib"] < curve[4]["resident_mib"] + 50


def test_a_case_that_fails_is_told(segmenter: Segmenter) -> None:
    """Not measured as if it were quick: a phantom without room for its objects."""
    with pytest.raises(RunError, match="no room for 5 objects"):
        list(measure([replace(AXES[1], values=(5,), shape=(6, 6))], segmenter, rounds=1))


def test_the_plot_draws_every_axis_and_the_curve(tmp_path: Path) -> None:
    """Each point where it was measured; the same bytes twice."""
    cases = [{"axis": axis.name, "at": at, "cpu_s": at / 10, "peak_mib": 200 + at} for axis in AXES for at in (1, 10)]
    curve = [{"cases": 5, "resident_mib": 200.0, "s": 1.0}, {"cases": 10, "resident_mib": 210.0, "s": 3.0}]
    assert plots.growth_lines({"cases": cases}, "boxes", "cpu_s") == ([1, 10], [0.1, 1.0])
    assert plots.process_lines(curve) == ([5, 10], [200.0, 210.0], [200.0, 400.0])
    for name in ("one.svg", "two.svg"):
        plots.draw_growth({"cases": cases, "process": curve}, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.svg").read_text().count("boxes in a whole frame") == 1

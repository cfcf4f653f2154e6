"""CSV and JSON that every reader takes, whatever files are called."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from edge.data.table import format_table, parse_table, printable
from edge.reports.report import write_json
from tests.conftest import Samedge

CASE = Path(__file__).parents[2] / "cases" / "2DBox_US_phantom.npz"
NAME = os.fsdecode(b"2DBox_US_caf\xe9, 1")  # as unpacked from a ZIP that Windows made
SHOWN = r"2DBox_US_caf\udce9, 1"


def test_what_is_written_is_read_back() -> None:
    """Separators, quotes and line ends within a field."""
    rows = [["a,b", 'c"d'], ["e\nf", ""]]
    table = parse_table(format_table(rows))
    assert [row for _, row in table.rows] == rows
    assert [line for line, _ in table.rows] == [1, 3]


def test_a_name_that_is_no_text_is_written_with_backslashes_and_read_as_it_is_on_disk() -> None:
    """Ours for any reader; a stranger's table for the names of files."""
    assert format_table([[NAME]]) == b'"2DBox_US_caf\\udce9, 1"\n'
    assert printable(NAME) == SHOWN
    ((_, fields),) = parse_table(os.fsencode(NAME) + b"\n").rows
    assert ", ".join(fields) == NAME


@pytest.mark.parametrize(("text", "number"), [("1,5", 1.5), ("1.5", 1.5), ("-2", -2.0), ("1,234", 1.234)])
def test_commas_stand_for_points_where_they_do_not_separate(text: str, number: float) -> None:
    """With semicolons."""
    assert parse_table(b"a;b").number(text) == number


def test_two_commas_are_no_number() -> None:
    """Nor a comma and a point, nor a comma where commas separate."""
    for content, text in ((b"a;b", "1,234,5"), (b"a;b", "1.234,5"), (b"a,b", "1,5")):
        with pytest.raises(ValueError):
            parse_table(content).number(text)


def test_json_holds_no_half_characters(tmp_path: Path) -> None:
    """A lone surrogate, which strict readers refuse, in keys and values."""
    write_json(tmp_path / "a.json", {NAME: [NAME, {"x": (NAME,)}]})
    assert json.loads((tmp_path / "a.json").read_text()) == {SHOWN: [SHOWN, {"x": [SHOWN]}]}


def test_every_command_writes_its_tables_for_names_that_are_no_text(tmp_path: Path, samedge: Samedge) -> None:
    """predict --report, evaluate, bench, leaderboard: exit code 0, all cases in CSV, JSON and HTML."""
    (tmp_path / "in").mkdir()
    for name in (NAME, "2DBox_US_z"):
        shutil.copy(CASE, tmp_path / "in" / f"{name}.npz")
    names = ("in", "teams/a", "a.csv", "a.json", "r.json", "b.csv", "b.json", "board")
    places = {name: tmp_path / name for name in names}
    inputs, outputs = places["in"], places["teams/a"]
    outputs.parent.mkdir()
    for arguments in (
        ("predict", inputs, outputs, "-q", "--report", places["r.json"]),
        ("evaluate", outputs, inputs, "--csv", places["a.csv"], "--json", places["a.json"]),
        ("bench", inputs, "-q", "--csv", places["b.csv"], "--json", places["b.json"]),
        ("leaderboard", outputs.parent, "--cases", inputs, "--truth", inputs, "--out", places["board"], "-q"),
    ):
        run = samedge(*arguments)
        assert run.returncode == 0, run.stderr
    for name, column in (("a.csv", f"{SHOWN}.npz"), ("b.csv", SHOWN)):
        with places[name].open(newline="", encoding="utf-8") as file:
            assert [row["case"] for row in csv.DictReader(file)] == [column, column.replace(SHOWN, "2DBox_US_z")]
    board = places["board"] / "leaderboard"
    for file in (places["a.json"], places["b.json"], places["r.json"], board.with_suffix(".json")):
        assert SHOWN in json.dumps(json.loads(file.read_text())).replace(r"\\", "\\")
    assert SHOWN in board.with_suffix(".html").read_text()

"""The ablations compare what they say, on the cases they say, and go on where they were stopped."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edge.case import make_case
from edge.errors import RunError
from edge.runtime import load_engine
from train.ablation import (
    Row,
    Settings,
    compare_merging,
    merged_ways,
    run_ablation,
    sampling_rows,
    small_modalities,
    table,
)
from train.train_cli import app
from train.validate import CaseRow, Validation, summarize


def write_discs(folder: Path, names: list[str]) -> None:
    """Pictures of a bright disc on noise."""
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8)
        labels = np.zeros((64, 64), dtype=np.uint8)
        cv2.circle(labels, (30, 34), 12, 1, -1)
        image[labels == 1] += 150
        cv2.imwrite(str(folder / f"{name}.png"), image)
        cv2.imwrite(str(folder / f"{name}_gt.png"), labels)


def test_the_ways_of_merging_differ_where_boxes_overlap_and_nowhere_else(tiny_model: Path) -> None:
    """A model that fills boxes, by hand: 1 is a 40 px square, 2 overlaps its right side, 3 is nested in it.

    Equal logits: argmax keeps the first; last-box-wins the last; as shipped the nested one.
    """
    boxes = np.array([[10, 10, 49, 49], [40, 10, 79, 49], [15, 15, 24, 24]], dtype=float)
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    ways = merged_ways(make_case("2DBox_Microscopy_1", image, boxes), load_engine(tiny_model))
    places = {"first alone": (12, 12), "first and second": (45, 45), "nested": (20, 20), "second alone": (30, 70)}
    found = {rule: [int(labels[place]) for place in places.values()] for rule, labels in ways.items()}
    assert found == {"argmax": [1, 1, 1, 2], "last box wins": [1, 2, 3, 2], "as shipped": [1, 1, 3, 2]}


def test_modalities_with_less_than_half_an_even_share_are_small(tmp_path: Path) -> None:
    """10 cases of 3 modalities: an even share is 3.3, half of it 1.7; only MR's single case is below."""
    write_discs(
        tmp_path / "train", [f"2DBox_{m}_A_{n}" for m, count in (("CT", 7), ("US", 2), ("MR", 1)) for n in range(count)]
    )
    assert small_modalities(tmp_path / "train") == ["MR"]


def test_a_mean_over_modalities_counts_each_once() -> None:
    """CT 0.2 and 0.4, MR 0.9, OCT 0.5: all (0.3 + 0.9 + 0.5) / 3, the small two 0.7."""
    scores = [("CT", 0.2), ("CT", 0.4), ("MR", 0.9), ("OCT", 0.5)]
    found: Validation = summarize([CaseRow(str(n), group, {"dice": dsc}) for n, (group, dsc) in enumerate(scores)])
    rows = sampling_rows("balanced", found, ["MR", "OCT"])
    assert [(row.group, row.cases, round(row.dsc, 4)) for row in rows] == [
        ("all", 4, 0.5667),
        ("MR + OCT", 2, 0.7),
        ("CT", 2, 0.3),
        ("MR", 1, 0.9),
        ("OCT", 1, 0.5),
    ]


def test_merging_is_compared_on_one_modality_and_kept_by_case(tmp_path: Path, tiny_model: Path) -> None:
    """Two of the three cases are Microscopy; a filled box around a disc of radius 12, 25 px wide: 0.82 each way."""
    write_discs(tmp_path / "val", ["2DBox_Microscopy_A_1", "2DBox_Microscopy_A_2", "2DBox_US_A_1"])
    (tmp_path / "out").mkdir()
    rows = compare_merging(Settings(tmp_path, tmp_path / "out", model=tiny_model), lambda _: None)
    assert [(row.variant, row.group, row.cases) for row in rows] == [
        (rule, "Microscopy", 2) for rule in ("argmax", "last box wins", "as shipped")
    ]
    assert all(0.75 < row.dsc < 0.9 for row in rows)
    assert len((tmp_path / "out" / "merge-argmax.csv").read_text().splitlines()) == 3


def in_this_process(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
    """`samedge train` without the start of a process, which takes longer than these trainings."""
    assert command[:4] == [sys.executable, "-m", "edge", "train"]
    return subprocess.CompletedProcess(command, CliRunner().invoke(app, command[4:]).exit_code)


def test_lora_is_compared_with_a_base_that_never_saw_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real trainings of one step; a second call trains and validates nothing again; other settings are refused."""
    monkeypatch.setattr(subprocess, "run", in_this_process)
    monkeypatch.setenv("SAMEDGE_HOME", str(tmp_path / "home"))
    write_discs(tmp_path / "train", ["2DBox_US_Seen_1", "2DBox_CT_Seen_2", "2DBox_US_USGRA_1"])
    write_discs(tmp_path / "val", ["2DBox_US_USGRA_9", "2DBox_US_Seen_9"])
    settings = Settings(
        tmp_path, tmp_path / "out", ellipse_steps=1, base_steps=1, lora_steps=1, overrides=("compile=false", "batch=1")
    )
    rows = run_ablation(settings, ["lora"], lambda _: None)
    assert [(row.variant, row.group, row.cases) for row in rows] == [("base", "USGRA", 1), ("base + LoRA", "USGRA", 1)]
    plans = {name: json.loads((tmp_path / "out" / name / "run.json").read_text())["plan"] for name in ("base", "lora")}
    assert plans["base"]["cases"] == {"CT": 1, "US": 1} and plans["lora"]["cases"] == {"US": 1}
    assert (tmp_path / "out" / "ablation.csv").read_text().splitlines()[0] == "part,variant,group,cases,dsc"
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.pth")}
    assert run_ablation(settings, ["lora"], lambda _: None) == rows
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.pth")}
    with pytest.raises(RunError, match="began with other settings"):
        run_ablation(Settings(tmp_path, tmp_path / "out", lora_steps=2), ["lora"], lambda _: None)


def test_a_training_that_fails_ends_the_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name and exit code, those of /bin/false."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match="base: training ended with exit code 1"):
        run_ablation(Settings(tmp_path, tmp_path / "out"), ["lora"], lambda _: None)


def test_the_table_has_a_header_and_four_decimals() -> None:
    """As the CSV has it."""
    assert table([Row("merge", "argmax", "Microscopy", 32, 0.81239)])[1] == [
        "merge",
        "argmax",
        "Microscopy",
        "32",
        "0.8124",
    ]

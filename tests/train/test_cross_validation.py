"""Cross-validation and search: runs of tiny networks on drawn nuclei, reports, resuming after a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.errors import RunError
from train.data.folds import Fold, write_fold
from train.networks.adapter import load_merged
from train.networks.checkpoint import read_checkpoint
from train.recipe import load_recipe, to_toml
from train.records.start import HOW, check_base, check_recipe
from train.sam_systems.cross_validation import _folds, cross_validate, read_report, table
from train.sam_systems.search import combinations, search_recipe, split_grid

ROOT = Path(__file__).parents[2]
TINY = [
    "image_size=64", "encoder_blocks=1", "lora_blocks=[0]", "mask_px=32", "batch=2", "workers=0", "precision=32-true",
    "warmup_steps=0", "equalise=0", "colour_jitter=0", "rotation_rad=0", "resized_crop=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tissues with three dark nuclei each, from two organs."""
    root = tmp_path_factory.mktemp("nuinsseg")
    for number in range(6):
        rng = np.random.default_rng(number)
        image = rng.integers(190, 230, (64, 64, 3), dtype=np.uint8)
        labels = np.zeros((64, 64), np.uint16)
        for label, (x, y) in enumerate(((14, 14), (46, 18), (30, 46))):
            dx, dy = rng.integers(-5, 6, 2)
            cv2.circle(labels, (int(x + dx), int(y + dy)), 10, label + 1, -1)
        image[labels > 0] = (110, 40, 90)
        organ = root / ("human liver", "mouse fat")[number % 2]
        for folder, name, array in (("tissue images", "png", image), ("label masks modify", "tif", labels)):
            (organ / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(organ / folder / f"{organ.name}_{number}.{name}"), array)
    return root


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_folds_learn_and_report(tmp_path: Path, data: Path) -> None:
    """Dice rises from its start by 0.2; tables per fold and organ; a second call finds all done, and needs --resume."""
    overrides = [*TINY, "max_steps=24", "validate_every=12", "validate_at_start=true", "lr=2e-3", "stratify=true"]
    settings: dict[str, Any] = {"folds": 2, "overrides": overrides, "accelerator": "cpu"}
    report = cross_validate("nuinsseg-sam-vit-b", [data], tmp_path / "run", **settings)
    for number in range(2):
        curve = [r for r in rows_of(tmp_path / "run" / f"fold-{number}" / "validations.csv") if r["modality"] == "mean"]
        assert [row["step"] for row in curve] == ["0", "12", "24"]
        assert max(float(row["dsc"]) for row in curve) > float(curve[0]["dsc"]) + 0.2
        best = rows_of(tmp_path / "run" / f"fold-{number}" / "best_cases.csv")
        assert len(best) == 3 and report.folds[number]["dice"] == pytest.approx(
            np.mean([float(row["dice"]) for row in best])
        )
    folds = rows_of(tmp_path / "run" / "folds.csv")
    assert [row["fold"] for row in folds] == ["0", "1", "mean", "spread", "paper"]
    assert float(folds[2]["dice"]) == pytest.approx((float(folds[0]["dice"]) + float(folds[1]["dice"])) / 2, abs=1e-4)
    assert (folds[4]["dice"], folds[4]["aji"], folds[4]["pq"], folds[4]["iou"]) == ("0.8911", "0.6971", "0.6715", "")
    assert [row["group"] for row in rows_of(tmp_path / "run" / "groups.csv")] == ["human liver", "mouse fat"]
    assert all((tmp_path / "run" / name).stat().st_size > 1000 for name in ("folds.png", "folds_curves.png"))
    with pytest.raises(RunError, match="holds folds already"):
        cross_validate("nuinsseg-sam-vit-b", [data], tmp_path / "run", **settings)
    lines: list[str] = []
    again = cross_validate("nuinsseg-sam-vit-b", [data], tmp_path / "run", resume=True, say=lines.append, **settings)
    assert table(again) == table(report) and lines == ["fold 0: done before", "fold 1: done before"]
    fold = tmp_path / "run" / "fold-0"
    merged = load_merged(fold / "base.pth", fold / "adapter")
    assert merged["mask_decoder.mask_tokens.weight"].shape == (3, 256) and set(merged) == set(
        read_checkpoint(fold / "base.pth")
    )


def test_the_report_is_the_mean_of_what_the_folds_wrote(tmp_path: Path) -> None:
    """By hand: folds of Dice 0.5 and 0.8, organs of 0.4 and 0.8; the spread is 0.15; an empty score is passed over."""
    for number, lines in enumerate((["x,liver,0.4,", "y,fat,0.6,0.2"], ["z,fat,0.8,0.6"])):
        (tmp_path / f"fold-{number}").mkdir()
        (tmp_path / f"fold-{number}" / "best_cases.csv").write_text("case,group,dice,pq\n" + "\n".join(lines) + "\n")
    report = read_report(tmp_path, 2, {"dice": 0.7})
    assert report.folds == [{"dice": pytest.approx(0.5), "pq": pytest.approx(0.2)}, {"dice": 0.8, "pq": 0.6}]
    assert report.groups == {"fat": {"dice": pytest.approx(0.7), "pq": 0.4}, "liver": {"dice": 0.4, "pq": pytest.approx(
        float("nan"), nan_ok=True)}}  # fmt: skip
    assert table(report)[3:] == [["mean", "0.6500", "0.4000"], ["spread", "0.1500", "0.2000"], ["paper", "0.7000", ""]]


TOY_SEARCH = """
import os, signal, sys
from pathlib import Path
from train.sam_systems.search import search

def toy(values, folder):
    with Path("asked").open("a") as file:
        print(values["lora_rank"], values["lr"], file=file, flush=True)
    if "kill" in sys.argv and values == {"lora_rank": 8, "lr": 1e-4}:
        (folder / ".result.json.1.partial").write_text("[0.")  # as one killed in writing
        os.kill(os.getpid(), signal.SIGKILL)
    return 1 - abs(values["lora_rank"] - 8) / 100 - abs(values["lr"] - 3e-4) * 100, 0.01

search({"lora_rank": [4, 8], "lr": [1e-4, 3e-4, 1e-3]}, Path("out"), toy, lambda _: None)
"""


def test_a_search_goes_on_after_a_kill_and_its_table_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy objective, best at rank 8 and lr 0.0003; the process is killed in the fourth of six trials."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", TOY_SEARCH, "kill"], cwd=tmp_path, env=environment)
    assert killed.returncode == -signal.SIGKILL
    first = (tmp_path / "asked").read_text().splitlines()
    assert first == ["4 0.0001", "4 0.0003", "4 0.001", "8 0.0001"]
    assert [row["dice"] for row in rows_of(tmp_path / "out" / "search.csv")] == ["0.9600", "0.9400", "0.8900"]
    (tmp_path / "asked").unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["search"])
    exec(TOY_SEARCH, {})  # the same, to its end
    assert (tmp_path / "asked").read_text().splitlines() == ["8 0.0001", "8 0.0003", "8 0.001"]
    found = [",".join(row.values()) for row in rows_of(tmp_path / "out" / "search.csv")]
    assert found == [
        "8,0.0003,1.0000,0.0100",
        "8,0.0001,0.9800,0.0100",
        "4,0.0003,0.9600,0.0100",
        "4,0.0001,0.9400,0.0100",
        "8,0.001,0.9300,0.0100",
        "4,0.001,0.8900,0.0100",
    ]
    assert (tmp_path / "out" / "search.png").stat().st_size > 1000
    assert json.loads((tmp_path / "out" / "lora_rank=8,lr=0.0003" / "result.json").read_text()) == [1.0, 0.01]


def test_a_grid_is_the_lists_where_a_recipe_holds_one_value() -> None:
    """The paper's grid has 36 combinations; lists of blocks are values; nothing to search is an error."""
    given = ["lora_rank=[2,4,8,16]", "lora_alpha=[2,4,8]", "lr=[1e-4,3e-4,1e-3]", "lora_blocks=[0,1]", "batch=2"]
    grid, fixed = split_grid(given)
    assert len(combinations(grid)) == 36 and fixed == ["lora_blocks=[0,1]", "batch=2"]
    with pytest.raises(RunError, match="at least one key="):
        split_grid(["batch=2"])


def test_trials_of_other_overrides_are_not_taken_for_these(tmp_path: Path) -> None:
    """What does not change the scores may differ; the key that does is named, before anything runs."""
    fold = tmp_path / "out" / "lr=0.001" / "fold-0"
    fold.mkdir(parents=True)
    (fold / "recipe.toml").write_text(to_toml(load_recipe("nuinsseg-mobilesam", ["lr=1e-3", "max_steps=7", "batch=3"])))
    given = {"folds": 2, "overrides": ["lr=[1e-3]", "max_steps=7", "batch=4", "workers=2"]}
    with pytest.raises(RunError, match="the run began with batch=3, not 4"):
        search_recipe("nuinsseg-mobilesam", [tmp_path], tmp_path / "out", **given)
    (fold / "done").write_bytes(b"")
    with pytest.raises(RunError, match="the run began with max_steps=7, not 8"):
        check_recipe(fold, load_recipe("nuinsseg-mobilesam", ["lr=1e-3", "max_steps=8", "batch=3"]), HOW)
    check_recipe(fold, load_recipe("nuinsseg-mobilesam", ["lr=1e-3", "max_steps=7", "batch=3", "workers=2"]), HOW)


def test_folds_of_other_data_are_not_taken_for_these(tmp_path: Path, data: Path) -> None:
    """Neither in a run of folds that goes on nor in a search: the image that is new is named."""
    names = {path.stem for path in data.glob("*/tissue images/*.png")}
    fold = Fold(frozenset(sorted(names)[:3]), frozenset(sorted(names)[3:-1]))
    given: dict[str, Any] = {"folds": 1, "overrides": [*TINY, "lr=[1e-3]"]}
    for out in (tmp_path / "run", tmp_path / "search" / "lr=0.001"):
        write_fold(out, 0, fold, dict.fromkeys(names, "organ"))
    with pytest.raises(RunError, match=f"drawn of other data \\({max(names)}\\)"):
        cross_validate("nuinsseg-sam-vit-b", [data], tmp_path / "run", folds=1, overrides=TINY, resume=True)
    done = tmp_path / "search" / "lr=0.001" / "fold-0"
    done.mkdir()
    (done / "recipe.toml").write_text(to_toml(load_recipe("nuinsseg-sam-vit-b", [*TINY, "lr=1e-3"])))
    with pytest.raises(RunError, match=f"drawn of other data \\({max(names)}\\)"):
        search_recipe("nuinsseg-sam-vit-b", [data], tmp_path / "search", **given)


def test_folds_of_another_number_or_base_are_not_taken_for_these(tmp_path: Path, data: Path) -> None:
    """Lists of finished folds are not drawn anew over these; a trial that was stopped before its recipe goes on."""
    names = {path.stem for path in data.glob("*/tissue images/*.png")}
    overrides = [*TINY, "lr=1e-3"]
    for out in (tmp_path / "run", tmp_path / "search" / "lr=0.001"):
        for number in range(2):
            fold = Fold(frozenset(sorted(names)[number::2]), frozenset(names - set(sorted(names)[number::2])))
            write_fold(out, number, fold, dict.fromkeys(names, "organ"))
            (out / f"fold-{number}").mkdir()
        (out / "fold-0" / "recipe.toml").write_text(to_toml(load_recipe("nuinsseg-sam-vit-b", overrides)))
        (out / "fold-0" / "run.json").write_text('{"base_file_sha256": "0123"}')
        (out / "fold-0" / "done").write_bytes(b"")
    before = (tmp_path / "run" / "val_fold_0.csv").read_bytes()
    for folds in (1, 3):
        told = f"holds 2 folds, not {folds}; go on with --folds 2"
        with pytest.raises(RunError, match=told):
            cross_validate(
                "nuinsseg-sam-vit-b", [data], tmp_path / "run", folds=folds, overrides=overrides, resume=True
            )
        with pytest.raises(RunError, match="the run began with other base"):
            search_recipe("nuinsseg-sam-vit-b", [data], tmp_path / "search", folds=2, overrides=[*TINY, "lr=[1e-3]"])
        (tmp_path / "search" / "lr=0.001" / "fold-0" / "run.json").rename(tmp_path / "run.json")
        with pytest.raises(RunError, match=told):
            search_recipe(
                "nuinsseg-sam-vit-b", [data], tmp_path / "search", folds=folds, overrides=[*TINY, "lr=[1e-3]"]
            )
        (tmp_path / "run.json").rename(tmp_path / "search" / "lr=0.001" / "fold-0" / "run.json")
    assert (tmp_path / "run" / "val_fold_0.csv").read_bytes() == before
    with pytest.raises(RunError, match="the run began with other base"):
        cross_validate("nuinsseg-sam-vit-b", [data], tmp_path / "run", folds=2, overrides=overrides, resume=True)


def test_lists_that_nothing_was_trained_by_are_drawn_anew(tmp_path: Path, data: Path) -> None:
    """All of them: of five folds, stopped before the first one began, none is left beside three."""
    names = {path.stem for path in data.glob("*/tissue images/*.png")}
    for number in range(5):
        write_fold(tmp_path, number, Fold(frozenset(names), frozenset()), dict.fromkeys(names, "organ"))
    folds = _folds("nuinsseg-sam-vit-b", [data], tmp_path, 3, True, TINY, lambda _: None)
    assert sorted(path.name for path in tmp_path.glob("val_fold_*.csv")) == [f"val_fold_{n}.csv" for n in range(3)]
    assert sorted(name for fold in folds for name in fold.validation) == sorted(names)


def test_the_base_of_a_run_is_looked_up_without_a_traceback(tmp_path: Path) -> None:
    """None that is not there, and what is no run's description; runs of before it was written down go on."""
    check_base(tmp_path, None)
    for content, base, says in (
        ('{"base_file_sha256": null}', tmp_path / "gone.pth", "no such checkpoint"),
        ('{"base_file_sha256": null}', tmp_path, "no such checkpoint"),
        ('{"base_file_sha256": "0"}', None, "the run began with other base"),
        ("{", None, "not a run to go on with"),
        ("3", None, "not a run to go on with"),
    ):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(RunError, match=says):
            check_base(tmp_path, base)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "base.pth").write_bytes(b"weights")
    check_base(tmp_path, tmp_path / "base.pth")


def test_a_value_that_the_recipe_refuses_ends_a_search_before_it_begins(tmp_path: Path) -> None:
    """Not after hours of the trials before it."""
    with pytest.raises(RunError, match="lora_rank: input should be greater than or equal to 1"):
        search_recipe("nuinsseg-mobilesam", [tmp_path], tmp_path / "out", folds=2, overrides=["lora_rank=[4,0]"])


def test_folds_are_not_for_boxes(tmp_path: Path) -> None:
    """The task with box prompts has its own validation."""
    with pytest.raises(RunError, match="folds are for"):
        cross_validate("litemedsam-lora", [tmp_path], tmp_path / "out", folds=2)

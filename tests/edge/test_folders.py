"""Cases in subfolders: done with --recursive, into the same subfolders, or said to be passed over."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import CaseError, find_cases
from edge.data.formats.finding import find_inputs
from tests.conftest import Samedge

IMAGE = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
NAME = "2DBox_CT_1"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A case at the top and cases of its name in two subfolders, one of them two deep; hidden folders and a link."""
    folder = tmp_path / "in"
    for number, place in enumerate([".", "a", "b/c", ".hidden", "b/.snapshot"]):
        truth = np.zeros((256, 256), np.uint8)
        truth[5:20, 5 : 10 + number] = 1
        (folder / place).mkdir(parents=True, exist_ok=True)
        np.savez(folder / place / f"{NAME}.npz", imgs=IMAGE, boxes=[[5, 5, 9 + number, 19]], gts=truth)
    (folder / "b" / "round").symlink_to(folder)
    return folder


def area(path: Path) -> int:
    with np.load(path) as file:
        return int(file["segs"].sum())


def test_without_the_option_subfolders_are_said_to_be_passed_over(
    inputs: Path, samedge: Samedge, tmp_path: Path, tiny_model: Path
) -> None:
    """predict, bench, evaluate and cases check each say it in one line, and do the top folder; --quiet is quiet."""
    said = "; add --recursive\n"
    model = ["--model", tiny_model]
    run = samedge("predict", inputs, tmp_path / "out", *model)
    assert run.returncode == 0 and run.stderr.splitlines()[1:] == ["1 of 1 cases done"]
    first = f"warning: {inputs}: its subfolders are passed over, such as that of {inputs}/a/{NAME}.npz; add --recursive"
    assert run.stderr.splitlines()[0] == first
    assert samedge("evaluate", tmp_path / "out", inputs, "--workers", 1).stderr.endswith(said)
    assert samedge("bench", inputs, *model).stderr.endswith(said)
    assert samedge("cases", "check", inputs).stderr.endswith(said)
    assert samedge("predict", inputs, tmp_path / "out", "-q", *model).stderr == ""


def test_with_the_option_outputs_lie_where_their_inputs_do(
    inputs: Path, samedge: Samedge, tmp_path: Path, tiny_model: Path
) -> None:
    """Three cases of one name, three outputs, named by their place; the second run does nothing; then scored alike."""
    cv2.imwrite(str(inputs / "b" / "cell.png"), IMAGE)
    (inputs / "b" / "cell.csv").write_text("1,2,3,4\n")
    (inputs / "a" / "broken.npz").touch()
    options = ["--recursive", "--model", tiny_model, "--report", tmp_path / "report.json"]
    run = samedge("predict", inputs, tmp_path / "out", *options)
    assert run.returncode == 1
    names = [NAME, f"a/{NAME}", f"b/c/{NAME}", "b/cell"]
    assert [line.split(":")[0] for line in run.stdout.splitlines()] == names
    assert run.stderr.splitlines()[1].startswith("error: a/broken: not a readable .npz archive")
    assert [area(tmp_path / "out" / f"{name}.npz") for name in names] == [75, 90, 105, 9]
    assert (tmp_path / "out" / "b" / "cell_labels.png").is_file()
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 5
    (inputs / "a" / "broken.npz").unlink()
    again = samedge("predict", inputs, tmp_path / "out", *options)
    assert again.stderr == "0 of 0 cases done, 4 were there already\n"
    report = json.loads((tmp_path / "report.json").read_text())
    assert [case["name"] for case in report["cases"]] == names

    scores = samedge("evaluate", tmp_path / "out", inputs, "-r", "--workers", 1, "--json", "-")
    found = {case["name"]: (case["dsc"], case["modality"]) for case in json.loads(scores.stdout)["cases"]}
    assert found == dict.fromkeys(names[:3], (1, "CT"))
    (tmp_path / "out" / "a" / f"{NAME}.npz").unlink()
    missing = samedge("evaluate", tmp_path / "out", inputs, "-r", "--workers", 1)
    assert missing.stderr.startswith(f"error: a/{NAME}: ") and len(missing.stderr.splitlines()) == 1
    bench = samedge(
        "bench", inputs, "-r", "--model", tiny_model, "--compare", "openvino:f32,onnxruntime", "--json", "-"
    )
    cases = json.loads(bench.stdout)["cases"]
    assert [case["name"] for case in cases] == [name for name in names for _ in range(2)]
    assert [case["ratio"] for case in cases[::2]] == [1, 1, 1, 1]
    check = samedge("cases", "check", inputs, "-r")
    assert [line.split(":")[0] for line in check.stdout.splitlines() if line[0] != " "] == names


def test_outputs_within_the_inputs_are_no_inputs(inputs: Path, samedge: Samedge, tiny_model: Path) -> None:
    """Neither done again nor said to be passed over."""
    for folder in (inputs / "a", inputs / "b" / "c"):
        (folder / f"{NAME}.npz").unlink()
    for options, done in (([], 1), (["-r"], 0)):
        run = samedge("predict", inputs, inputs / "out", "--model", tiny_model, *options)
        assert run.stderr.splitlines()[0].startswith(f"{done} of {done} cases done")


def test_a_folder_with_cases_in_subfolders_only_says_where_they_are(inputs: Path, tmp_path: Path) -> None:
    """Instead of that there are none."""
    (inputs / f"{NAME}.npz").unlink()
    with pytest.raises(CaseError, match=rf"in: no \.npz case in this folder; there is .*in/a/{NAME}\.npz: give its"):
        find_cases(inputs)
    assert [path.parent.name for path in find_cases(inputs, recursive=True)] == ["a", "c"]
    assert find_inputs(inputs, recursive=True, leave_out=inputs / "b") == [inputs / "a" / f"{NAME}.npz"]

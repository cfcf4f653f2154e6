"""The command as a user types it: what goes to stdout, what to stderr, and exit codes 0, 1 and 2."""

import csv
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from edge.choices import MODALITIES
from tests.conftest import Samedge

IMAGE = np.zeros((32, 48, 3), np.uint8)
SQUARE = np.zeros((32, 48), np.uint8)
SQUARE[5:15, 5:15] = 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["predict"],
        ["predict", "in"],
        ["predict", "in", "out", "--nonsense"],
        ["predict", "in", "out", "--threads", "0"],
        ["predict", "in", "out", "--box-margin", "-1"],
        ["bench", "in", "--box-margin", "much"],
        ["predict", "in", "out", "--threads", "many"],
        ["predict", "in", "out", "--method", "slow"],
        ["bench", "in", "--method", "no"],
        ["predict", "in", "out", "--backend", "torch"],
        ["predict", "in", "out", "--precision", "f8"],
        ["evaluate", "segs", "truths", "--spacing-order", "yxz"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_explained_with_exit_code_2(samedge: Samedge, arguments: list[str], tmp_path: Path) -> None:
    """The usage on stderr, nothing on stdout, nothing done."""
    run = samedge(*arguments, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("Usage: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predict", "nowhere", "out"], "nowhere: no such file or folder"),
        (["predict", "empty", "out"], "empty: no .npz or .png or .jpg or .jpeg or another case in this folder"),
        (["predict", "notes.txt", "out"], "notes: notes.txt is not .npz, a picture, NIfTI, DICOM, NRRD or MetaImage"),
        (["predict", "in", "in"], "in: outputs would overwrite the inputs; choose another folder"),
        (["predict", "in", "out", "--box-margin", "nan"], "box_margin_px must be at least 0, got nan"),
        (["predict", "in", "out", "--model", "empty"], "empty: not a model folder, model.json is missing; make one wi"),
        (["bench", "empty"], "empty: no .npz or .png or .jpg or .jpeg or another case in this folder"),
        (["bench", "in", "--model", "empty"], "empty: not a model folder, model.json is missing; make one with samed"),
        (["evaluate", "in", "nowhere"], "nowhere"),
        (["cases", "make", "--out", "made"], "give either --suite small|table4 or --name with --shape and --objects"),
        (["cases", "make", "--out", "made", "--name", "2DBox_CT_1", "--shape", "9x9"], "H,W or D,H,W, got '9x9'"),
        (["cases", "make", "--out", "notes.txt", "--name", "2DBox_CT_1"], "notes.txt: cannot make"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_stands_in_the_way_is_one_line_with_exit_code_1(
    samedge: Samedge, tmp_path: Path, arguments: list[str], says: str
) -> None:
    """It names the path or option; nothing on stdout, no traceback."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    np.savez(tmp_path / "in" / "2DBox_CT_1.npz", imgs=IMAGE, boxes=[[5, 5, 14, 14]])
    quiet = ["-q"] if arguments[0] == "predict" else []
    run = samedge(*arguments, *quiet, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_the_installed_command_says_its_version() -> None:
    """`samedge` beside the interpreter."""
    command = Path(sys.executable).with_name("samedge")
    run = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"samedge {metadata.version('samedge')}\n", "")


def test_help_names_every_command(samedge: Samedge) -> None:
    """On stdout, with exit code 0."""
    run = samedge("--help")
    assert run.returncode == 0
    for command in ("predict", "bench", "evaluate", "cases", "export", "weights"):
        assert f"\n  {command} " in run.stdout


def test_one_file_may_be_given_instead_of_a_folder(samedge: Samedge, tmp_path: Path, tiny_model: Path) -> None:
    """And its neighbours are left alone; by either engine."""
    for name in ("2DBox_CT_1", "2DBox_CT_2"):
        np.savez(tmp_path / f"{name}.npz", imgs=IMAGE, boxes=[[5, 5, 14, 14]])
    run = samedge("predict", "2DBox_CT_1.npz", "out", "--model", tiny_model, "--backend", "onnxruntime", cwd=tmp_path)
    assert run.returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["2DBox_CT_1.npz"]


def test_predictions_that_are_not_there_are_not_scored_zero(samedge: Samedge, tmp_path: Path) -> None:
    """A mistyped folder."""
    run = samedge("evaluate", tmp_path / "nowhere", Path(__file__).parents[2] / "cases")
    assert (run.returncode, run.stdout) == (1, "") and "nowhere: no such folder of predictions" in run.stderr


def test_a_report_that_cannot_be_written_hides_no_failed_case(
    samedge: Samedge, tmp_path: Path, tiny_model: Path
) -> None:
    """Both are named."""
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "2DBox_CT_1.npz", imgs=IMAGE, boxes=[[5, 5, 14, 14]])
    (tmp_path / "in" / "2DBox_CT_2.npz").touch()
    (tmp_path / "report.json").mkdir()
    run = samedge("predict", "in", "out", "--model", tiny_model, "--report", "report.json", "-q", cwd=tmp_path)
    assert run.returncode == 1
    assert sorted(line.split(":")[1] for line in run.stderr.splitlines()) == [" 2DBox_CT_2", " report"]


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """A folder with truths of three cases: one predicted exactly, one not at all, one in another shape."""
    (tmp_path / "truths").mkdir()
    (tmp_path / "segs").mkdir()
    for name in ("2DBox_CT_exact", "2DBox_CT_missing", "2DBox_US_other"):
        np.savez(tmp_path / "truths" / f"{name}.npz", gts=SQUARE)
    np.savez(tmp_path / "segs" / "2DBox_CT_exact.npz", segs=SQUARE)
    np.savez(tmp_path / "segs" / "2DBox_US_other.npz", segs=SQUARE.T)
    return tmp_path


def test_evaluate_scores_0_for_missing_and_misshapen_predictions_and_names_them(samedge: Samedge, scored: Path) -> None:
    """The rest goes on; CT means 0.5, and the mean over modalities is 0.25."""
    files = ["--csv", "scores.csv", "--json", "scores.json", "--workers", 1]
    run = samedge("evaluate", "segs", "truths", *files, cwd=scored)
    assert run.returncode == 1
    lines = run.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: 2DBox_CT_missing: ")
    assert lines[1].startswith("error: 2DBox_US_other: ")
    rows = {row["case"]: row for row in csv.DictReader((scored / "scores.csv").read_text().splitlines())}
    assert {name: float(row["dsc"]) for name, row in rows.items()} == {
        "2DBox_CT_exact.npz": 1, "2DBox_CT_missing.npz": 0, "2DBox_US_other.npz": 0,
    }  # fmt: skip
    assert "0.25" in run.stdout
    assert json.loads((scored / "scores.json").read_text())


def test_evaluate_of_whole_predictions_succeeds(samedge: Samedge, scored: Path) -> None:
    """--json - puts nothing but JSON on stdout."""
    run = samedge("evaluate", "segs", "truths/2DBox_CT_exact.npz", "--json", "-", "--workers", 1, cwd=scored)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout)


def test_a_modality_given_is_that_of_every_case(
    samedge: Samedge, scored: Path, tmp_path: Path, tiny_model: Path
) -> None:
    """evaluate and bench; every modality there is can be given, and another cannot."""
    run = samedge("evaluate", "segs", "truths", "--modality", "OCT", "--json", "-", "--workers", 1, cwd=scored)
    assert [row["name"] for row in json.loads(run.stdout)["modalities"]] == ["OCT"]
    np.savez(tmp_path / "scan.npz", imgs=IMAGE, boxes=[[5, 5, 14, 14]])
    options = ["--modality", "Fundus", "--json", "-", "--model", tiny_model]
    (row, _) = json.loads(samedge("bench", "scan.npz", *options, cwd=tmp_path).stdout)["summary"]
    assert row["modality"] == "Fundus"
    refused = samedge("bench", "scan.npz", "--modality", "Photo", cwd=tmp_path).stderr.replace("\n", " ")
    assert all(repr(modality) in refused for modality in MODALITIES)


def test_spacing_that_is_missing_or_wrong_costs_no_mask_and_scores_say_1_mm(
    samedge: Samedge, tmp_path: Path, tiny_model: Path
) -> None:
    """predict warns and writes; bench and evaluate say what they assumed, on the terminal and in what they write."""
    volume, truth = IMAGE[None, ..., 0].repeat(3, 0), SQUARE[None].repeat(3, 0)
    boxes = [[5, 5, 0, 14, 14, 2]]
    (tmp_path / "in").mkdir()
    for name, spacing in {"two": [1.0, 1.0], "none": None, "zeros": [0, 0, 0]}.items():
        np.savez(tmp_path / "in" / f"3DBox_CT_{name}.npz", imgs=volume, boxes=boxes, gts=truth, spacing=spacing)
    np.savez(tmp_path / "in" / "3DBox_MR_absent.npz", imgs=volume, boxes=boxes, gts=truth)
    run = samedge("predict", "in", "out", "--model", tiny_model, cwd=tmp_path)
    assert run.returncode == 0 and len(list((tmp_path / "out").iterdir())) == 4
    first, rest, _ = run.stderr.splitlines()
    assert first.startswith(
        "warning: 3DBox_CT_none: spacing must be 3 positive numbers (x, y, z) in mm and is left out"
    )
    assert rest.endswith(": 3 cases in all")

    run = samedge("evaluate", "out", "in", "--workers", 1, "--csv", "scores.csv", cwd=tmp_path)
    assert run.returncode == 0 and "nan" not in run.stdout
    first, rest = run.stderr.splitlines()
    assert first == "warning: 3DBox_CT_none: spacing is not stated or cannot be used, 1 mm assumed"
    assert rest.endswith("1 mm assumed: 4 cases in all")
    assert (tmp_path / "scores.csv").read_text().count("1 mm assumed") == 4

    run = samedge("bench", "in/3DBox_MR_absent.npz", "--model", tiny_model, "--json", "bench.json", cwd=tmp_path)
    assert run.stderr == "warning: 3DBox_MR_absent: spacing is not stated or cannot be used, 1 mm assumed\n"
    assert "1 mm assumed" in (tmp_path / "bench.json").read_text()
    assert samedge("cases", "check", "in", cwd=tmp_path).returncode == 0


def test_images_in_0_to_1_are_stretched_and_it_is_said_once(samedge: Samedge, tmp_path: Path, tiny_model: Path) -> None:
    """2D and 3D, predict and cases check."""
    (tmp_path / "in").mkdir()
    half = np.linspace(0, 1, 32 * 48).reshape(32, 48)
    np.savez(tmp_path / "in" / "2DBox_CT_1.npz", imgs=half, boxes=[[5, 5, 14, 14]])
    np.savez(tmp_path / "in" / "3DBox_CT_1.npz", imgs=half[None].repeat(3, 0), boxes=[[5, 5, 0, 14, 14, 2]])
    run = samedge("predict", "in", "out", "--model", tiny_model, cwd=tmp_path)
    assert run.stderr.splitlines() == [
        "warning: 2DBox_CT_1: imgs lies in 0 to 1 and is stretched to 0 to 255 (float64, 0 to 1)",
        "warning: imgs lies in 0 to 1 and is stretched to 0 to 255: 2 cases in all",
        "2 of 2 cases done",
    ]
    assert samedge("cases", "check", "in", cwd=tmp_path).stdout.count("stretched to 0 to 255") == 2


def test_cases_are_made_alike_from_one_seed_and_pass_the_check(samedge: Samedge, tmp_path: Path) -> None:
    """One name on stdout for each file; the same seed makes the same bytes, another seed others."""
    made = ["cases", "make", "--name", "3DBox_MR_1", "--shape", "12,96,96", "--objects", 2]
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        run = samedge(*made, "--out", folder, "--seed", seed, cwd=tmp_path)
        assert (run.returncode, run.stdout, run.stderr) == (0, f"{folder}/3DBox_MR_1.npz\n", "")
    first, second, third = (tmp_path / folder / "3DBox_MR_1.npz" for folder in "abc")
    assert first.read_bytes() == second.read_bytes() != third.read_bytes()
    run = samedge("cases", "check", "a", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "3DBox_MR_1: ok\n", "")


def test_cases_check_names_every_problem_of_a_file(samedge: Samedge, tmp_path: Path) -> None:
    """Image and boxes are both wrong, the file after them is fine."""
    np.savez(tmp_path / "2DBox_CT_1.npz", imgs=IMAGE - 1000.0, boxes=[[np.nan] * 4])
    np.savez(
        tmp_path / "2DBox_CT_2.npz",
        imgs=IMAGE[..., :1] + np.eye(32, 48, dtype=np.uint8)[..., None],
        boxes=[[5, 5, 9, 9]],
    )
    run = samedge("cases", "check", "2DBox_CT_1.npz", "2DBox_CT_2.npz", cwd=tmp_path)
    assert run.returncode == 1
    lines = run.stdout.splitlines()
    assert lines[0] == "2DBox_CT_1: broken"
    assert lines[1].startswith("  error: imgs must lie in 0 to 255")
    assert lines[2].startswith("  error: boxes must be finite")
    assert any(line == "2DBox_CT_2: ok" for line in lines)


def test_file_names_that_are_no_utf8_are_shown_and_not_stumbled_over(
    samedge: Samedge, samedge_environment: dict[str, str], tmp_path: Path, tiny_model: Path
) -> None:
    """A name from an old archive, in a terminal that is strict about it."""
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "a.npz", imgs=IMAGE, boxes=[[5, 5, 14, 14]])
    (tmp_path / "in" / "a.npz").rename(tmp_path / "in" / "2DBox_CT_\udcff.npz")
    strict = {**samedge_environment, "PYTHONIOENCODING": "utf-8:strict"}
    run = samedge("predict", "in", "out", "--model", tiny_model, "--report", "r.json", cwd=tmp_path, env=strict)
    assert (run.returncode, run.stderr) == (0, "1 of 1 cases done\n")
    assert run.stdout.startswith("2DBox_CT_\\udcff: 32 x 48, 1 box, ")
    assert (tmp_path / "out" / "2DBox_CT_\udcff.npz").is_file()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("samedge ev", "evaluate"), ("samedge tr", "train"), ("samedge predict --sh", "--shard"),
        ("samedge predict --method pro", "propagated"), ("samedge predict --modality PE", "PET"),
    ],
)  # fmt: skip
def test_a_shell_completes_commands_options_and_choices(
    samedge_environment: dict[str, str], typed: str, offered: str
) -> None:
    """As bash asks, after what `samedge --show-completion` prints was loaded; other packages' commands, too."""
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_SAMEDGE_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'samedge'; from edge.cli import main; main()"]
    run = subprocess.run(command, env={**samedge_environment, **asked}, capture_output=True, text=True, check=False)
    assert run.stdout.split() == [offered], run.stderr


@pytest.mark.parametrize(("typed", "meant"), [("predct", "predict"), ("trian", "train")])
def test_a_command_that_is_not_there_is_answered_with_those_like_it(samedge: Samedge, typed: str, meant: str) -> None:
    """Of this package and of others; exit code 2."""
    run = samedge(typed)
    assert run.returncode == 2 and f"No such command '{typed}'. Did you mean '{meant}'" in run.stderr


@pytest.mark.parametrize("command", ["predict", "cases", "export", "weights", "submission", "train"])
def test_all_commands_look_alike(samedge: Samedge, command: str) -> None:
    """Plain text, whatever package they come from and whether rich is installed."""
    run = samedge(command, "--help")
    assert run.returncode == 0 and re.match(rf"Usage: .+ {command} \[OPTIONS\]", run.stdout)


def test_a_report_that_cannot_be_written_costs_no_other(samedge: Samedge, scored: Path, tmp_path: Path) -> None:
    """After hours of scoring; exit code 1."""
    given = ["--csv", tmp_path, "--json", tmp_path / "scores.json"]
    run = samedge("evaluate", "segs", "truths", *given, "--workers", 1, cwd=scored)
    assert run.returncode == 1 and "cannot write" in run.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["cases"]

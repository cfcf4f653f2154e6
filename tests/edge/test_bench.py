"""Bench: what is measured, on what, and how it is summed up."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from edge.bench.noise import move_sides, side_shifts
from edge.bench.run import JOB, Configuration, Measurement, _command, measure_all, measure_here
from edge.bench.summary import summarize, with_ratios
from edge.data.prompting import Prompting
from edge.data.scan import Reading
from edge.predict import Job
from edge.segmenter import Segmenter
from tests.conftest import Samedge

STAGES = ["read", "preprocess", "encode", "decode", "restore+merge", "save"]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose truth is its box, and a volume without a truth; 256 px, so that boxes come back to the pixel."""
    folder = tmp_path_factory.mktemp("cases")
    truth = np.zeros((256, 256), np.uint8)
    truth[20:41, 10:31] = 1
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    np.savez(folder / "2DBox_CT_1.npz", imgs=image, boxes=[[10, 20, 30, 40]], gts=truth)
    boxes = [[10, 20, 0, 30, 40, 1], [99, 99, 1, 150, 150, 1]]
    np.savez(folder / "3DBox_MR_1.npz", imgs=image.transpose(2, 0, 1), boxes=boxes)
    return folder


def test_engines_are_compared_case_by_case(samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The table names CPU, model, engines and threads; JSON and CSV hold the same cases with all stages and scores."""
    compare = ["--compare", "openvino:f32,onnxruntime:auto", "--threads", 1]
    files = ["--json", tmp_path / "bench.json", "--csv", tmp_path / "bench.csv"]
    run = samedge("bench", cases, "--model", tiny_model, *compare, *files)
    assert (run.returncode, run.stderr) == (0, "")

    report = json.loads((tmp_path / "bench.json").read_text())
    titles = ["openvino f32", "onnxruntime auto"]
    assert [(case["name"], case["configuration"]) for case in report["cases"]] == [
        (name, title) for name in ("2DBox_CT_1", "3DBox_MR_1") for title in titles
    ]
    for case in report["cases"]:
        assert list(case["stage_s"]) == STAGES
        assert 0 < sum(case["stage_s"].values()) <= case["total_s"]
        assert 10 < case["peak_mib"] < 4096
        assert case["cpu_s"] > 0
    image, _, volume, _ = report["cases"]
    assert (image["boxes"], image["slices"], image["shape"]) == (1, 1, [256, 256])
    assert (volume["boxes"], volume["slices"], volume["shape"]) == (2, 2, [3, 256, 256])
    assert [case["ratio"] for case in report["cases"]][::2] == [1, 1]
    assert image["ratio"] * report["cases"][1]["ratio"] == report["cases"][1]["total_s"] / image["total_s"]
    assert [image[key] for key in ("dsc", "nsd_official", "nsd")] == [1, 1, 1]
    assert volume["dsc"] is None

    rows = list(csv.DictReader((tmp_path / "bench.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == [case["name"] for case in report["cases"]]
    assert [row["dsc"] for row in rows] == ["1.0000", "1.0000", "", ""]
    assert all(float(row[stage]) >= 0 for row in rows for stage in [*STAGES, "total", "peak_mib"])

    assert report["machine"]["cpu"] in run.stdout.splitlines()[0]
    engines = [line for line in run.stdout.splitlines() if line.startswith("model box filler (")]
    assert [line.split("), ")[1].split()[0] for line in engines] == ["openvino", "onnxruntime"]
    assert all(line.endswith("computed in f32, 1 thread") for line in engines)
    table = [line.split() for line in run.stdout.splitlines() if "DBox_" in line]
    assert [row[0] for row in table] == [case["name"] for case in report["cases"]]
    assert table[0][-3:] == ["1.000", "1.000", "1.000"]


def test_json_alone_goes_to_stdout(samedge: Samedge, cases: Path, tiny_model: Path) -> None:
    """So that it can be piped on."""
    run = samedge("bench", cases / "2DBox_CT_1.npz", "--model", tiny_model, "--json", "-")
    assert run.returncode == 0
    assert [case["name"] for case in json.loads(run.stdout)["cases"]] == ["2DBox_CT_1"]


def test_a_process_of_its_own_costs_its_start_up_too(
    samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Wall time of the whole process by stage, engine loaded anew; a broken case is named, the rest measured."""
    broken = tmp_path / "cases"
    broken.mkdir()
    (broken / "2DBox_CT_1.npz").symlink_to(cases / "2DBox_CT_1.npz")
    (broken / "2DBox_CT_2.npz").write_bytes(b"")
    files = ["--json", tmp_path / "bench.json", "--csv", tmp_path / "bench.csv"]
    run = samedge("bench", broken, "--model", tiny_model, "--process", *files)
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert run.stdout.endswith("\n1 case failed, left out of the means; samedge evaluate scores such a case 0\n")
    assert line.startswith("error: 2DBox_CT_2: not a readable .npz archive")
    assert line.endswith("[openvino auto]")
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["per_process"] is True
    good, bad = report["cases"]
    assert good["total_s"] > 0.2
    assert list(good["stage_s"]) == ["start", "load", *STAGES]
    assert all(seconds >= 0 for seconds in good["stage_s"].values())
    assert 0.9 * good["total_s"] < sum(good["stage_s"].values()) <= good["total_s"]
    assert (good["slices"], good["dsc"], good["error"]) == (1, 1, None)
    assert bad["error"].startswith("2DBox_CT_2: not a readable")
    assert [row["cases"] for row in report["summary"]] == [1, 1]


def test_methods_are_compared_in_one_process_and_in_their_own(
    samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """By either engine the truth, which is the box; the margin given is in every title."""
    options = ["--model", tiny_model, "--threads", 1, "--box-margin", 0, "--json", tmp_path / "bench.json"]
    titles = ["openvino auto margin 0", "openvino auto baseline margin 0", "onnxruntime auto propagated margin 0"]
    compare = "openvino,baseline,onnxruntime:propagated"
    for process in ([], ["--process"]):
        run = samedge("bench", cases / "2DBox_CT_1.npz", *options, *process, "--compare", compare)
        assert (run.returncode, run.stderr) == (0, "")
        report = json.loads((tmp_path / "bench.json").read_text())
        assert [case["configuration"] for case in report["cases"]] == titles
        assert [case["dsc"] for case in report["cases"]] == [1, 1, 1]


def test_boxes_are_also_moved(samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The model fills the moved box, so its DSC can be worked out; alike in one process and each case in its own."""
    inside = np.arange(10, 31), np.arange(20, 41)  # x and y of the truth, its box
    expected = {0.0: 1.0}
    for percent in (5.0, 20.0):
        shifts = side_shifts("2DBox_CT_1", 1, percent)
        x_min, y_min, x_max, y_max = move_sides(np.array([[10.0, 20, 30, 40]]), shifts, (256, 256))[0]
        filled = [np.arange(np.ceil(low), high + 1e-9) for low, high in ((x_min, x_max), (y_min, y_max))]
        both = np.prod([len(np.intersect1d(*pair)) for pair in zip(filled, inside, strict=True)])
        expected[percent] = 2 * both / (21 * 21 + np.prod([len(side) for side in filled]))
    assert 0.7 < expected[20] < expected[5] < 1

    options = ["--model", tiny_model, "--threads", 1, "--box-margin", 0, "--json", tmp_path / "bench.json"]
    runs: dict[str, tuple[list[str], list[float]]] = {
        "openvino,onnxruntime:f32": (["--box-noise", "5,20"], [0, 5, 20]),
        "openvino": (["--box-noise", "20", "--process"], [0, 20]),
    }
    for compare, (more, percentages) in runs.items():
        run = samedge("bench", cases / "2DBox_CT_1.npz", *options, "--compare", compare, *more)
        assert (run.returncode, run.stderr) == (0, "")
        report = json.loads((tmp_path / "bench.json").read_text())
        engines = ["openvino auto", "onnxruntime f32"][: len(compare.split(","))]
        asked = [(engine, percent) for engine in engines for percent in percentages]
        assert [case["configuration"] for case in report["cases"]] == [
            f"{engine} margin 0" + (f" noise {percent:g} %" if percent else "") for engine, percent in asked
        ]
        assert [case["dsc"] for case in report["cases"]] == pytest.approx([expected[percent] for _, percent in asked])
        assert len({case["case_sha256"] for case in report["cases"]}) == 1
        assert len(report["engines"]) == len(engines)  # a model is loaded once for all boxes
        lost = f"openvino auto margin 0 noise 20 %: {100 * (1 - expected[20]):.1f} points of DSC lost"
        assert f"{lost}, mean over modalities" in run.stdout.splitlines()
        assert run.stdout.count("points of DSC lost") == len(asked) - len(engines)


@pytest.mark.parametrize("noise", ["0", "5,x", "101", "nan", "5,-5"])
def test_noise_is_a_percentage(samedge: Samedge, cases: Path, tiny_model: Path, noise: str) -> None:
    """Refused before anything is measured."""
    run = samedge("bench", cases, "--model", tiny_model, f"--box-noise={noise}")
    assert (run.returncode, run.stdout) == (1, "")
    assert f"box-noise takes percentages above 0 and up to 100, such as 5,10,20; got '{noise}'" in run.stderr


@pytest.mark.parametrize("command", ["predict", "bench", "evaluate"])
def test_a_report_into_a_folder_that_is_not_there_is_refused_before_the_work(
    samedge: Samedge, cases: Path, tmp_path: Path, command: str
) -> None:
    """Minutes later it would be lost."""
    option = {"predict": "--report", "bench": "--csv", "evaluate": "--json"}[command]
    given = [cases] if command == "bench" else [cases, tmp_path / "out"]
    run = samedge(command, *given, option, tmp_path / "gone" / "a.json")
    assert (run.returncode, run.stdout) == (1, "") and not (tmp_path / "out").exists()
    assert f"a.json: there is no folder {tmp_path / 'gone'} to write it into" in run.stderr


def test_a_report_may_lie_among_the_outputs(samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path) -> None:
    """In a folder that the command makes."""
    given = ["--model", tiny_model, "--report", tmp_path / "out" / "r.json"]
    run = samedge("predict", cases, "out", *given, cwd=tmp_path)
    assert run.returncode == 0 and (tmp_path / "out" / "r.json").is_file(), run.stderr
    run = samedge("predict", cases, "memory://b/out", "--report", "memory://b/out/r.json")
    assert run.returncode == 1 and "there is no folder" in run.stderr


def test_what_one_file_costs_the_others_do_not_pay(
    samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A CSV file that cannot be written, and a page that can; scores of another checkpoint, by its name, too."""
    pytest.importorskip("jinja2", reason="needs Jinja (extra html), which is not there")
    (tmp_path / "a.csv").mkdir()
    files = ["--csv", tmp_path / "a.csv", "--html", tmp_path / "a.html", "--json", tmp_path / "a.json"]
    run = samedge("bench", cases, "--match", "2D*", "--model", tiny_model, *files)
    assert run.returncode == 1 and run.stderr.startswith("error: a: cannot write") and (tmp_path / "a.html").exists()
    again = ["--json", tmp_path / "a.json", "--resume", "--checkpoint", "litemedsam"]
    other = samedge("bench", cases, "--match", "2D*", "--model", tiny_model, *again)
    assert other.returncode == 1 and "other options of the cases; give another --json file" in other.stderr


def test_a_case_that_cannot_be_read_fails_with_moved_boxes_too(
    samedge: Samedge, tiny_model: Path, tmp_path: Path
) -> None:
    """Named by its own name, once for each run."""
    (tmp_path / "2DBox_CT_1.npz").touch()
    run = samedge("bench", tmp_path, "--model", tiny_model, "--box-noise", "5")
    assert run.returncode == 1
    first, second = run.stderr.splitlines()
    assert first.startswith("error: 2DBox_CT_1: not a readable") and second.endswith("[openvino auto noise 5 %]")


def test_a_process_of_its_own_is_given_every_option(tmp_path: Path) -> None:
    """What changes masks or time, as `samedge predict` calls it."""
    chosen = {"backend": "onnxruntime", "precision": "f32", "threads": 3, "method": "baseline", "box_margin": 1.5}
    configuration = Configuration(tmp_path / "model", **chosen)
    said = {"modality": "CT", "window": "bone", "boxes_from": str(tmp_path)}
    job = replace(JOB, reading=Reading("CT", "bone"), prompting=Prompting(boxes_from=tmp_path))
    command = _command(tmp_path / "case.npz", tmp_path / "out", tmp_path / "report.json", configuration, job)
    given = dict(part[2:].split("=", 1) for part in command if part.startswith("--") and "=" in part)
    assert given.pop("model") == str(tmp_path / "model") and given.pop("report") == str(tmp_path / "report.json")
    assert given.pop("format") == "npz" and "--no-sidecar" in command  # what is timed is written alike
    assert given == {key.replace("_", "-"): str(value) for key, value in {**chosen, **said}.items()}


def test_spacing_order_says_what_the_files_mean(samedge: Samedge, tiny_model: Path, tmp_path: Path) -> None:
    """Slices 5 mm apart, one too few predicted: within 2 mm only if z were 1 mm. As `evaluate` scores it."""
    truth = np.zeros((9, 256, 256), np.uint8)
    truth[:8, 100:140, 100:140] = 1
    boxes = [[100, 100, 0, 139, 139, 6]]
    np.savez(tmp_path / "3DBox_CT_1.npz", imgs=truth * 200, gts=truth, boxes=boxes, spacing=[5.0, 1, 1])
    options = ["--model", tiny_model, "--method", "tracked", "--box-margin", 0, "--json", "-"]
    samedge("predict", tmp_path, tmp_path / "out", *options[:-2])
    found = {}
    for order in ("xyz", "zyx"):
        for process in ([], ["--process"]):
            run = samedge("bench", tmp_path, *options, "--spacing-order", order, *process)
            (case,) = json.loads(run.stdout)["cases"]
            found[order, bool(process)] = case["nsd"]
        scored = samedge("evaluate", tmp_path / "out", tmp_path, "--spacing-order", order, "--json", "-")
        assert json.loads(scored.stdout)["cases"][0]["nsd"] == found[order, False] == found[order, True]
    assert found["zyx", False] < found["xyz", False]


def test_scans_are_benched_with_the_boxes_of_a_label_map_and_a_window(
    samedge: Samedge, tiny_model: Path, tmp_path: Path
) -> None:
    """The masks are the boxes, so the DSC of a cuboid is 1; measurements of other options are not taken over."""
    cuboid = np.zeros((256, 256, 4), np.int16)
    cuboid[30:60, 40:90, 1] = 2
    for name, scale in (("scan", 300), ("scan_gt", 1)):
        image = nibabel.nifti1.Nifti1Image(cuboid * scale, np.diag([-1.0, -1.0, 2.0, 1.0]))
        image.to_filename(tmp_path / f"{name}.nii.gz")
    boxes = ["--boxes-from", tmp_path / "scan_gt.nii.gz", "--modality", "CT", "--window", "bone"]
    options = ["bench", tmp_path / "scan.nii.gz", "--model", tiny_model, "--method", "tracked", "--box-margin", 0]
    options += ["--json", tmp_path / "b.json"]
    for process in ([], ["--process"]):
        run = samedge(*options, *boxes, *process)
        told = "warning: scan: gts is drawn with 2, read as 1: label k is of box k\n"
        assert (run.returncode, run.stderr) == (0, told)
        report = json.loads((tmp_path / "b.json").read_text())
        assert [(case["modality"], case["dsc"]) for case in report["cases"]] == [("CT", 1)]
        assert report["given"]["window"] == "bone"
    other = samedge(*options, *boxes[:-2], "--process", "--resume")
    assert other.returncode == 1 and "other options of the cases; give another --json file" in other.stderr


def test_a_case_that_cannot_be_read_is_a_measurement_with_an_error(tmp_path: Path, tiny_model: Path) -> None:
    """And no scores."""
    (tmp_path / "2DBox_CT_1.npz").touch()
    segmenter = Segmenter(tiny_model, threads=1)
    measured = measure_here(tmp_path / "2DBox_CT_1.npz", tmp_path / "out", Configuration(tiny_model), segmenter)
    assert measured.error is not None
    assert (measured.name, measured.modality, measured.dsc) == ("2DBox_CT_1", "CT", None)


def test_the_last_row_is_the_unweighted_mean_over_modalities() -> None:
    """CT 0.8 and 0.6, MR 0.1: 0.7 and 0.1, so 0.4 (over cases it would be 0.5); unknown and failed cases count not."""

    def measured(name: str, modality: str, dsc: float | None, **more: object) -> Measurement:
        return Measurement(name, modality, "openvino f32", total_s=2.0, peak_mib=100.0, dsc=dsc, **more)  # type: ignore

    rows = summarize(
        [
            measured("a", "CT", 0.8),
            measured("b", "CT", 0.6),
            measured("c", "CT", None),
            measured("d", "CT", math.nan),
            measured("e", "MR", 0.1),
            measured("f", "US", None, error="f: broken"),
        ]
    )
    assert [(row["modality"], row["cases"], row["total_s"]) for row in rows] == [
        ("CT", 4, 8),
        ("MR", 1, 2),
        ("all", 5, 10),
    ]
    assert [round(row["dsc"], 6) for row in rows] == [0.7, 0.1, 0.4]
    assert [row["nsd"] for row in rows] == [None, None, None]


def test_rows_may_be_of_data_sets() -> None:
    """OpenKBP 0.8 and 0.6, ACDC 0.1 and one in a subfolder 0.3; the last row stays the mean over CT 0.7 and MR 0.2."""

    def measured(name: str, modality: str, dsc: float) -> Measurement:
        return Measurement(name, modality, "openvino f32", total_s=2.0, dsc=dsc)

    rows = summarize(
        [
            measured("3DBox_CT_OpenKBP_1", "CT", 0.8),
            measured("3DBox_CT_OpenKBP_2", "CT", 0.6),
            measured("3DBox_MR_ACDC_1", "MR", 0.1),
            measured("of_2024/3DBox_MR_ACDC_2", "MR", 0.3),
            measured("3DBox_MR_0001", "MR", 0.2),
        ],
        by="dataset",
    )
    found = [(row["dataset"], row["cases"], row["total_s"], round(row["dsc"], 6)) for row in rows]
    assert found == [("ACDC", 2, 4, 0.2), ("MR", 1, 2, 0.2), ("OpenKBP", 2, 4, 0.7), ("all", 5, 10, 0.45)]
    assert not any("modality" in row for row in rows)


def test_the_command_sums_up_by_data_set(samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Table and JSON alike."""
    for name in ("2DBox_CT_A_1", "2DBox_CT_B_1"):
        (tmp_path / f"{name}.npz").symlink_to(cases / "2DBox_CT_1.npz")
    run = samedge("bench", tmp_path, "--model", tiny_model, "--by", "dataset", "--json", tmp_path / "bench.json")
    assert run.returncode == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (report["by"], [row["dataset"] for row in report["summary"]]) == ("dataset", ["A", "B", "all"])
    table = [line.split("  ")[0] for line in run.stdout.split("\n\n")[1].splitlines()]
    assert table == ["data set", "A", "B", "all (scores: mean over modalities)"]


def test_ratios_are_to_the_first_configuration_on_the_same_case() -> None:
    """6 s to 2 s is 3; a case that either failed counts for neither; in the sum 10 s to 3 s."""

    def measured(name: str, configuration: str, total_s: float, error: str | None = None) -> Measurement:
        return Measurement(name, "CT", configuration, error, total_s=total_s)

    rows = with_ratios(
        [
            *(measured("a", "ours", 2.0), measured("a", "theirs", 6.0)),
            *(measured("b", "ours", 1.0), measured("b", "theirs", 4.0)),
            *(measured("c", "ours", 9.0), measured("c", "theirs", 1.0, "c: out of memory")),
        ]
    )
    assert [row.ratio for row in rows] == [1, 3, 1, 4, 1, None]
    ours, _, theirs, _ = summarize(rows)
    assert (ours["ratio"], theirs["ratio"]) == (1, 10 / 3)


def test_a_run_goes_on_where_it_was_cut_off(samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path) -> None:
    """What the file holds is taken over as it is, by the case's content; only cases that match are run."""
    again = tmp_path / "cases"
    again.mkdir()
    for path in cases.iterdir():
        (again / path.name).write_bytes(path.read_bytes())
    options = ["--model", tiny_model, "--threads", 1, "--json", tmp_path / "bench.json", "--resume"]
    assert samedge("bench", again, *options, "--match", "2DBox_*").returncode == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    (image,) = report["cases"]
    report["cases"][0]["total_s"] = 99.0
    (tmp_path / "bench.json").write_text(json.dumps(report))

    assert samedge("bench", again, *options).returncode == 0
    found = json.loads((tmp_path / "bench.json").read_text())["cases"]
    assert [(case["name"], case["total_s"] == 99.0) for case in found] == [("2DBox_CT_1", True), ("3DBox_MR_1", False)]
    assert found[0] == {**image, "total_s": 99.0}

    only = samedge("bench", again, *options, "--match", "3DBox_*")
    assert only.returncode == 0 and "2DBox" not in only.stdout  # nor are the times of others lost
    both = json.loads((tmp_path / "bench.json").read_text())["cases"]
    assert {case["name"]: case["total_s"] == 99.0 for case in both} == {"2DBox_CT_1": True, "3DBox_MR_1": False}
    assert [case["ratio"] for case in both] == [1, 1]
    (again / "2DBox_CT_1.npz").rename(again / "2DBox_Fundus_1.npz")  # so that it counts for another modality
    assert samedge("bench", again, *options).returncode == 0
    renamed = json.loads((tmp_path / "bench.json").read_text())
    assert renamed["cases"][0]["modality"] == "Fundus" and renamed["cases"][0]["total_s"] < 99
    assert [row["modality"] for row in renamed["summary"]] == ["Fundus", "MR", "all"]
    (again / "2DBox_Fundus_1.npz").rename(again / "2DBox_CT_1.npz")

    (again / "3DBox_MR_1.npz").unlink()
    np.savez(again / "2DBox_CT_1.npz", imgs=np.zeros((9, 9, 3), np.uint8), boxes=[[1, 1, 5, 5]])
    assert samedge("bench", again, *options).returncode == 0
    (changed,) = json.loads((tmp_path / "bench.json").read_text())["cases"]
    assert changed["total_s"] < 99


@pytest.mark.parametrize("changed", ["a_gt.png", "a.csv", "maps/a.png"])
def test_a_case_whose_boxes_or_truth_changed_is_measured_again(tmp_path: Path, changed: str) -> None:
    """They lie beside it, or where the command says; what was found before holds as long as all of it stays."""
    (tmp_path / "maps").mkdir()
    labels = np.zeros((20, 20), np.uint8)
    labels[5:9, 5:9] = 1
    for name in ("a.png", "a_gt.png", "maps/a.png"):
        cv2.imwrite(str(tmp_path / name), labels)
    (tmp_path / "a.csv").write_text("5,5,8,8")
    prompting = Prompting(boxes_from=tmp_path / "maps") if changed.startswith("maps") else Prompting()

    def measured() -> str:
        job = Job(prompting=prompting)
        (measurement,) = measure_all([tmp_path / "a.png"], {Configuration(tmp_path): None}, job=job)
        return measurement.case_sha256

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.bench.run._measure", lambda *_: Measurement("a", "", "openvino auto"))
        before = measured()
        assert measured() == before
        content = (tmp_path / changed).read_bytes()
        (tmp_path / changed).write_bytes(content.replace(b"8", b"9") if changed.endswith("csv") else content + b" ")
        assert measured() != before


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("{}", [], "not what samedge bench writes"),
        ("no JSON", [], "not what samedge bench writes"),
        (None, ["--threads", 2], "holds times of another CPU, model, engine, kind of run"),
        (None, ["--threads", 1, "--checkpoint", __file__], "holds times of another CPU, model, engine, kind of run"),
        (None, ["--process"], "holds times of another CPU, model, engine, kind of run"),
    ],
)
def test_times_that_do_not_compare_are_not_mixed(
    samedge: Samedge,
    cases: Path,
    tiny_model: Path,
    tmp_path: Path,
    content: str | None,
    options: list[object],
    message: str,
) -> None:
    """Another file, another engine; the file stays as it is."""
    file = tmp_path / "bench.json"
    run = ["bench", cases / "2DBox_CT_1.npz", "--model", tiny_model, "--json", file]
    if content is None:
        assert samedge(*run, "--threads", 1).returncode == 0
    else:
        file.write_text(content)
    before = file.read_text()
    refused = samedge(*run, "--resume", *(options or ["--threads", 1]))
    assert (refused.returncode, message in refused.stderr, file.read_text()) == (1, True, before)


@pytest.mark.parametrize(("options", "cure"), [(["--resume"], "add --json"), (["--match", "4D*"], "no case's name")])
def test_nothing_to_go_on_with_or_to_run_is_said(
    samedge: Samedge, cases: Path, tiny_model: Path, options: list[str], cure: str
) -> None:
    """Instead of an empty table."""
    run = samedge("bench", cases, "--model", tiny_model, *options)
    assert (run.returncode, run.stdout, cure in run.stderr) == (1, "", True)


def test_a_baseline_needs_a_process_of_its_own(samedge: Samedge, cases: Path, tiny_model: Path) -> None:
    """It is another program; the cure is named."""
    pytest.importorskip("torch")
    run = samedge("bench", cases, "--model", tiny_model, "--compare", "public-program")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: public-program is another program")
    assert "--process" in run.stderr

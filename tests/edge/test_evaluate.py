"""Scores of folders: the public program's answers, failures beside good cases, means, files written."""

import csv
import json
import math
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from edge.cli import app
from edge.data.case import read_case
from edge.data.formats.registry import labels_for, read_input
from edge.data.outputs import write_labels
from edge.errors import CaseError, RunError
from edge.reports.report import write_json
from edge.scoring.evaluate import METRICS, evaluate, summarize, to_json, write_csv
from edge.scoring.score import NAN, CaseScore
from tests.conftest import Samedge

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "metrics"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden answers: {GOLDEN} is absent")

IMAGE = np.zeros((20, 20), np.uint8)
IMAGE[5:15, 5:15] = 1


def write(folder: Path, name: str, **arrays: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", **arrays)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and truths: one perfect case and one of each failure."""
    segs, truths = tmp_path / "segs", tmp_path / "truths"
    write(truths, "2DBox_US_good", gts=IMAGE)
    write(segs, "2DBox_US_good", segs=IMAGE)
    write(truths, "2DBox_US_missing", gts=IMAGE)
    write(truths, "2DBox_US_shape", gts=IMAGE)
    write(segs, "2DBox_US_shape", segs=IMAGE[:10])
    write(truths, "2DBox_US_torn", gts=IMAGE)
    (segs / "2DBox_US_torn.npz").write_bytes((segs / "2DBox_US_good.npz").read_bytes()[:100])
    write(truths, "2DBox_CT_no_truth", imgs=IMAGE)
    write(segs, "2DBox_CT_no_truth", segs=IMAGE)
    write(truths, "3DBox_CT_flat", gts=IMAGE)
    write(segs, "3DBox_CT_flat", segs=IMAGE)
    write(segs, "2DBox_US_without_truth", segs=IMAGE)
    return segs, truths


@needs_golden
def test_every_official_number_is_reproduced_to_four_decimals(tmp_path: Path) -> None:
    """dsc and nsd_official in the CSV equal the public program's table, empty (NaN) and 0 included."""
    write_csv(evaluate(GOLDEN / "segs", GOLDEN / "gts"), tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open() as ours, (GOLDEN / "official.csv").open() as theirs:
        rows, expected = list(csv.DictReader(ours)), list(csv.DictReader(theirs))
    assert len(expected) == 7
    assert [row["case"] for row in rows] == [row["case"] for row in expected]
    for row, answer in zip(rows, expected, strict=True):
        assert row["dsc"] == (answer["dsc"] and f"{float(answer['dsc']):.4f}"), row["case"]
        assert row["nsd_official"] == f"{float(answer['nsd']):.4f}", row["case"]


def scored(tmp_path: Path) -> CaseScore:
    """The one case of `segs` and `truths`."""
    (case,) = evaluate(tmp_path / "segs", tmp_path / "truths").cases
    return case


def write_nifti(path: Path, array: np.ndarray, spacing: tuple[float, float, float]) -> None:
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.nifti1.Nifti1Image(array, np.diag([*spacing, 1.0])), path)


@pytest.mark.parametrize("stored", [(3.0, 1.0, 1.0), (1.0, 1.0, 3.0)])
def test_a_nifti_of_an_npz_cases_masks_is_scored_as_it_was_written(
    tmp_path: Path, stored: tuple[float, float, float]
) -> None:
    """Whichever axis is the long one by the case's spacing: slices stay along the first."""
    truth = np.zeros((16, 16, 16), np.uint8)
    truth[2:5, 6:14, 3:6] = 1
    spacing = np.array(stored)
    write(tmp_path / "truths", "3DBox_CT_1", gts=truth, spacing=spacing)
    write(tmp_path / "cases", "3DBox_CT_1", imgs=truth * 90, boxes=np.array([[3, 6, 2, 5, 13, 4]]), spacing=spacing)
    case = read_case(tmp_path / "cases" / "3DBox_CT_1.npz")
    (tmp_path / "segs").mkdir()
    write_labels(case, truth, Path("3DBox_CT_1.npz"), tmp_path / "segs", ("nifti",))
    assert (scored(tmp_path).dsc, scored(tmp_path).error) == (1, None)


def test_what_is_scored_is_said_where_there_are_two(tmp_path: Path) -> None:
    """An `.npz` of an earlier run beside a NIfTI."""
    truth = np.zeros((6, 20, 20), np.uint8)
    truth[2:4, 5:15, 5:15] = 1
    write(tmp_path / "truths", "3DBox_CT_1", gts=truth)
    write(tmp_path / "segs", "3DBox_CT_1", segs=truth)
    assert scored(tmp_path).note is None or "beside it" not in str(scored(tmp_path).note)
    write_nifti(tmp_path / "segs" / "3DBox_CT_1.nii.gz", truth, (1, 1, 1))
    assert "3DBox_CT_1.npz is scored, not 3DBox_CT_1.nii.gz beside it" in str(scored(tmp_path).note)


def test_two_truths_of_a_case_are_named(tmp_path: Path) -> None:
    """None is scored in the other's place."""
    write(tmp_path / "truths", "3DBox_CT_1", gts=np.ones((3, 4, 5), np.uint8))
    write_nifti(tmp_path / "truths" / "3DBox_CT_1.nii.gz", np.ones((5, 4, 3), np.uint8), (1, 1, 1))
    with pytest.raises(CaseError, match=r"3DBox_CT_1\.nii\.gz and 3DBox_CT_1\.npz are both its truth|npz and 3DBox"):
        evaluate(tmp_path / "segs", tmp_path / "truths")


def test_the_numbers_of_a_pictures_truth_are_read_by_the_boxes_beside_it(tmp_path: Path) -> None:
    """1 and 3 of two boxes; and the labels are scored, not the overlay of their name."""
    labels = np.zeros((20, 20), np.uint8)
    labels[2:6, 2:6], labels[10:16, 10:16] = 1, 2
    for folder in ("segs", "truths"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "truths" / "a_gt.png"), np.array([0, 1, 3], np.uint8)[labels])
    cv2.imwrite(str(tmp_path / "truths" / "a.png"), labels * 90)
    (tmp_path / "truths" / "a.csv").write_text("2,2,5,5\n10,10,15,15\n")
    cv2.imwrite(str(tmp_path / "segs" / "a.png"), np.dstack([labels * 90, labels, labels]))
    cv2.imwrite(str(tmp_path / "segs" / "a_labels.png"), labels)
    assert (scored(tmp_path).dsc, scored(tmp_path).error) == (1, None)
    assert "is drawn with 1, 3, read as 1 to 2" in str(scored(tmp_path).note)
    (tmp_path / "segs" / "a_labels.png").unlink()
    write_nifti(tmp_path / "segs" / "a.nii.gz", labels.T[..., None], (1, 1, 1))
    assert scored(tmp_path).error is None or "must have the shape" not in str(scored(tmp_path).error)


def test_a_bad_case_is_named_and_the_rest_go_on(folders: tuple[Path, Path]) -> None:
    """Predictions at fault score 0; truths at fault score NaN; a prediction without a truth is passed over."""
    scores = {case.name: case for case in evaluate(*folders).cases}
    assert list(scores) == sorted(scores) and len(scores) == 6
    assert (scores["2DBox_US_good"].nsd, scores["2DBox_US_good"].error) == (1, None)
    for name, words in (("missing", "does not exist"), ("shape", "(20, 20), got (10, 20)"), ("torn", "not a readable")):
        case = scores[f"2DBox_US_{name}"]
        assert (case.dsc, case.nsd_official, case.nsd) == (0, 0, 0)
        assert case.error and case.error.startswith(case.name) and words in case.error
    for name, words in (("2DBox_CT_no_truth", "'gts' is missing"), ("3DBox_CT_flat", "must be 3D")):
        case = scores[name]
        assert math.isnan(case.dsc) and math.isnan(case.nsd_official) and math.isnan(case.nsd)
        assert case.error and words in case.error


def test_two_folders_of_pictures_of_the_same_names_are_scored(tmp_path: Path) -> None:
    """Label maps as PNG, whatever their names; beside a truth that is called so, others are images and none."""
    truth, guess = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    truth[2:6, 2:6] = guess[2:6, 2:10] = 1
    for folder, name, labels in (("truths", "a", truth), ("segs", "a", guess), ("segs", "b", truth)):
        (tmp_path / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / folder / f"{name}.png"), labels)
    (case,) = evaluate(tmp_path / "segs", tmp_path / "truths").cases
    assert (case.name, case.error) == ("a", None) and case.dsc == pytest.approx(2 * 16 / (16 + 32))
    cv2.imwrite(str(tmp_path / "truths" / "b_gt.png"), truth)
    assert [case.name for case in evaluate(tmp_path / "segs", tmp_path / "truths").cases] == ["b"]


def test_processes_give_the_same_scores_in_the_same_order(folders: tuple[Path, Path]) -> None:
    """Spawned workers, as a console script starts them."""
    np.testing.assert_equal(to_json(evaluate(*folders, workers=2)), to_json(evaluate(*folders, workers=1)))  # NaN too


def test_spacing_order_says_what_the_file_means(tmp_path: Path) -> None:
    """(5, 1, 1) in a file that stores z first: 5 mm between slices, for the official number as well."""
    truth = np.zeros((9, 30, 30), np.uint8)
    prediction = truth.copy()
    truth[:8] = prediction[1:] = 1
    write(tmp_path / "truths", "3DBox_CT_1", gts=truth, spacing=np.array([5.0, 1.0, 1.0]))
    write(tmp_path / "segs", "3DBox_CT_1", segs=prediction)
    (zyx,) = evaluate(tmp_path / "segs", tmp_path / "truths", spacing_order="zyx").cases
    assert zyx.nsd == zyx.nsd_official == pytest.approx(0.727, abs=0.01)
    (xyz,) = evaluate(tmp_path / "segs", tmp_path / "truths").cases
    assert xyz.nsd_official == zyx.nsd_official
    assert xyz.nsd == 1


def test_every_modality_counts_once_and_nan_is_left_out() -> None:
    """US: 0.4 and 0.8; CT: 0.2 and a NaN, which is told. (0.6 + 0.2) / 2 = 0.4, not the cases' mean of 0.467."""
    values = [
        ("2DBox_CT_1", "CT", 0.2),
        ("2DBox_CT_2", "CT", NAN),
        ("2DBox_US_1", "US", 0.4),
        ("2DBox_US_2", "US", 0.8),
    ]
    result = summarize([CaseScore(name, modality, v, 0.0, v) for name, modality, v in values])
    ct, us = result.modalities
    assert (ct.name, ct.count, ct.skipped["dsc"], ct.dsc) == ("CT", 2, 1, 0.2)
    assert (us.name, us.count, us.skipped) == ("US", 2, dict.fromkeys(METRICS, 0))
    assert us.dsc == pytest.approx(0.6)
    assert (result.mean.count, result.mean.skipped) == (2, dict.fromkeys(METRICS, 0))
    assert next(row[2] for row in result.rows() if row[:2] == ("CT", "2")) == "0.2000 (1 of 2)"
    assert result.mean.dsc == result.mean.nsd == pytest.approx(0.4)


def test_a_file_for_the_folder_of_predictions_is_said_to_be_one(samedge: Samedge, folders: tuple[Path, Path]) -> None:
    """Not scored 0."""
    segs, truths = folders
    file = next(path for path in segs.iterdir() if path.suffix == ".npz")
    run = samedge("evaluate", file, truths)
    assert run.returncode == 1 and run.stderr == f"error: {file}: give the folder that the predictions lie in\n"


def test_the_table_has_a_row_per_case_per_modality_and_one_mean(folders: tuple[Path, Path]) -> None:
    """Texts to 4 decimals, for any way of printing them."""
    rows = evaluate(*folders).rows()
    assert rows[0] == ("case", "count", "dsc", "nsd_official", "nsd")
    assert [row[0] for row in rows[-3:]] == ["CT", "US", "mean over modalities"]
    assert rows[-2] == ("US", "4", "0.2500", "0.2500", "0.2500")
    assert len({len(row) for row in rows}) == 1


def test_files_hold_empty_and_null_for_nan(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """CSV: empty cells; JSON: null, so that strict readers take it."""
    result = evaluate(*folders)
    write_csv(result, tmp_path / "scores.csv")
    write_json(tmp_path / "scores.json", to_json(result))
    with (tmp_path / "scores.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["case"], row["dsc"], row["nsd"], row["modality"]) == ("2DBox_CT_no_truth.npz", "", "", "CT")
    assert "'gts' is missing" in row["error"]
    read = json.loads((tmp_path / "scores.json").read_text())
    assert read["cases"][0]["dsc"] is None
    assert read["mean"]["count"] == 2
    assert len(read["failed"]) == 5
    with pytest.raises(RunError, match="cannot write"):
        write_csv(result, tmp_path)


def test_no_truth_at_all_is_an_error(tmp_path: Path) -> None:
    """An empty result must not look like a scored one."""
    with pytest.raises(CaseError, match=r"no \.npz or .* case"):
        evaluate(tmp_path, tmp_path)


def test_the_json_names_what_the_predictions_were_made_with(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Scores travel with the machine and, given the run's report, with the model; another file is refused at once."""
    engine = {"model": {"name": "toy", "sha256": "0" * 64}, "precision": "f32"}
    run = {
        "created": "",
        "machine": {"cpu": "a CPU"},
        "engine": engine,
        "options": {},
        "cases": [{"name": "2DBox_CT_1"}],
    }
    report, scores = tmp_path / "report.json", tmp_path / "scores.json"
    report.write_text(json.dumps(run))
    call = ["evaluate", *map(str, folders), f"--json={scores}", f"--report={report}", "--workers=1"]
    CliRunner().invoke(app, call)
    written = json.loads(scores.read_text())
    assert written["prediction"] == {key: run[key] for key in ("created", "machine", "engine", "options")}
    assert written["machine"]["packages"]["numpy"] == np.__version__
    for wrong in ({**run, "engine": None}, {"mean": {}}, []):
        report.write_text(json.dumps(wrong))
        refused = CliRunner().invoke(app, call)
        assert refused.exit_code == 1 and str(report) in refused.output


def test_dicom_that_is_not_scored_is_said(tmp_path: Path) -> None:
    """What predict writes of DICOM if nothing else is asked for; not that an .npz is missing."""
    (tmp_path / "truths").mkdir()
    np.savez(tmp_path / "truths" / "ct.npz", gts=np.eye(4, dtype=np.uint8))
    (tmp_path / "segs").mkdir()
    (tmp_path / "segs" / "ct_seg.dcm").write_bytes(b"")
    (score,) = evaluate(tmp_path / "segs", tmp_path / "truths").cases
    assert score.dsc == 0 and score.error and "ct_seg.dcm is not scored; predict with --format nifti" in score.error


def test_a_flat_image_in_nifti_is_scored(tmp_path: Path) -> None:
    """One slice: as its name says 2D, against labels of a picture or of a slice."""
    square = np.zeros((12, 20, 1), np.uint8)
    square[4:9, 3:11] = 1
    for folder in ("segs", "truths"):
        (tmp_path / folder).mkdir()
        nibabel.nifti1.Nifti1Image(square, np.diag([-1.0, -1, 1, 1])).to_filename(
            tmp_path / folder / "2DBox_OCT_a.nii.gz"
        )
    (score,) = evaluate(tmp_path / "segs", tmp_path / "truths").cases
    assert score.error is None and score.dsc == 1
    (tmp_path / "segs" / "2DBox_OCT_a.nii.gz").unlink()
    np.savez(tmp_path / "segs" / "2DBox_OCT_a.npz", segs=square[..., 0].T)
    (score,) = evaluate(tmp_path / "segs", tmp_path / "truths").cases
    assert score.error is None and score.dsc == 1
    case = read_input(tmp_path / "truths" / "2DBox_OCT_a.nii.gz")
    assert np.array_equal(labels_for(case, tmp_path / "segs" / "2DBox_OCT_a.npz")[0], square[..., 0].T)

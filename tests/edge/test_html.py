"""Pages of runs: one file that asks for nothing outside, with what went wrong and the worst cases first."""

import re
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from edge.data.case import make_case
from edge.reports.report import print_rows
from edge.reports.worst import Worst, _over_image, figure_of
from tests.conftest import Samedge

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # along which pictures' labels lie in NIfTI
OUTSIDE = re.compile(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[^"'>)]""")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes of 40 x 40 px whose truths fill all, half and a tenth of them; one broken file."""
    folder = tmp_path_factory.mktemp("cases")
    for name, height in (("2DBox_CT_whole", 40), ("2DBox_MR_half", 20), ("2DBox_US_tenth<b>", 4)):
        truth = np.zeros((256, 256), np.uint8)
        truth[100 : 100 + height, 100:140] = 1
        np.savez(folder / f"{name}.npz", imgs=truth * 200, gts=truth, boxes=[[100, 100, 139, 139]])
    (folder / "2DBox_X-Ray_broken.npz").touch()
    return folder


def read(page: Path) -> str:
    """A page's text, once it is sure that it stands alone and that names are escaped."""
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and not OUTSIDE.search(text) and "default-src 'none'" in text
    assert "tenth&lt;b&gt;" in text and "tenth<b>" not in text
    return text


def test_pages_of_predict_and_evaluate_name_failures_and_show_the_worst_first(
    samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Masks are the boxes: DSC is 1, 2/3 and 2/11; pictures are in the page, of truth and prediction."""
    predict, evaluate = tmp_path / "predict.html", tmp_path / "evaluate.html"
    run = samedge("predict", cases, tmp_path / "out", "--model", tiny_model, "--box-margin", 0, "--html", predict)
    assert run.returncode == 1 and len(run.stderr.splitlines()) == 2
    assert samedge("evaluate", tmp_path / "out", cases, "--html", evaluate).returncode == 1
    for page, verdict in ((predict, "3 of 4 cases done"), (evaluate, "3 of 4 cases done")):
        text = read(page)
        assert verdict in text and "2DBox_X-Ray_broken: not a readable .npz archive" in text
        shown = re.findall(r"<section><p><b>(.*?)</b> <span class=\"dim\">(.*?)</span>", text)
        assert shown == [
            ("2DBox_US_tenth&lt;b&gt;", "DSC 0.182"),
            ("2DBox_MR_half", "DSC 0.667"),
            ("2DBox_CT_whole", "DSC 1.000"),
        ]
        assert text.count('src="data:image/jpeg;base64,') == 6
    assert "box filler" in predict.read_text() and "encode" in predict.read_text()
    assert re.search(r"mean over modalities</td>\s*<td>3</td>", evaluate.read_text()) is None  # X-Ray counts as well


def test_the_worst_of_an_image_are_shown_whatever_file_their_labels_lie_in(samedge: Samedge, tmp_path: Path) -> None:
    """A picture's truth, its prediction as NIfTI, which has it as one slice; and the other way round."""
    image, labels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    labels[10:20, 30:50] = 1
    for folder in ("truths", "out"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "truths" / "US_a.png"), image)
    cv2.imwrite(str(tmp_path / "truths" / "US_a_gt.png"), labels)
    nibabel.save(nibabel.nifti1.Nifti1Image(labels.T[..., None], LPS), tmp_path / "out" / "US_a.nii.gz")
    nibabel.save(nibabel.nifti1.Nifti1Image(labels.T[..., None], LPS), tmp_path / "truths" / "2DBox_US_b.nii.gz")
    np.savez(tmp_path / "out" / "2DBox_US_b.npz", segs=labels)
    run = samedge("evaluate", tmp_path / "out", tmp_path / "truths", "--html", tmp_path / "e.html")
    text = (tmp_path / "e.html").read_text()
    assert run.returncode == 0 and text.count("DSC 1.000") == 2 and text.count('src="data:image/jpeg;base64,') == 4


def test_labels_of_a_flat_nifti_image_are_drawn_over_it(tmp_path: Path) -> None:
    """Not over black: truth and image are one slice each."""
    grey, labels = np.full((40, 40, 1), 200, np.uint8), np.zeros((40, 40, 1), np.uint8)
    grey[0, 0], labels[10:20, 10:20] = 0, 1
    for name, array in (("MR_a.nii.gz", grey), ("MR_a_gt.nii.gz", labels)):
        nibabel.save(nibabel.nifti1.Nifti1Image(array, LPS), tmp_path / name)
    case = _over_image(tmp_path / "MR_a_gt.nii.gz", "MR_a", labels.T, tmp_path)
    assert case.image.max() > 0 and case.truth.shape == case.shape and case.truth.sum() == 100


def test_tables_are_as_wide_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """On a narrow terminal and in a pipe: numbers are never cut."""
    rows = [("case", *(f"stage {n}" for n in range(30))), ("x" * 120, *(f"{n}.125" for n in range(30)))]
    print_rows(rows)
    head, line = capsys.readouterr().out.splitlines()
    assert line.split() == list(rows[1]) and "stage 29" in head


def test_a_page_of_bench_has_stages_and_scores_of_each_run(
    samedge: Samedge, cases: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A bar for each run, its scores, and the cases that both did worst."""
    page = tmp_path / "bench.html"
    compare = ["--compare", "openvino:f32,onnxruntime:f32", "--box-margin", 0]
    assert samedge("bench", cases, "--model", tiny_model, *compare, "--html", page).returncode == 1
    text = read(page)
    bars = re.findall(r'<figure class="stages"><figcaption>(.*?): [\d.]+ s', text)
    assert bars == ["openvino f32 margin 0", "onnxruntime f32 margin 0"]
    assert text.index("DSC 0.182, onnxruntime") < text.index("DSC 0.667") < text.index("DSC 1.000")
    assert "[openvino f32 margin 0]" in text


def test_without_jinja2_a_page_is_refused_before_anything_is_done(
    samedge: Samedge, cases: Path, tmp_path: Path, samedge_environment: dict[str, str]
) -> None:
    """With what to install."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['jinja2'] = None\n")
    environment = {**samedge_environment, "PYTHONPATH": f"{tmp_path}:{samedge_environment.get('PYTHONPATH', '')}"}
    run = samedge("predict", cases, tmp_path / "out", "--html", tmp_path / "a.html", env=environment)
    assert (run.returncode, run.stderr) == (1, "error: an HTML report needs jinja2: pip install 'samedge[html]'\n")
    assert not (tmp_path / "out").exists()


def test_how_well_a_case_went_is_its_dsc_or_how_full_its_boxes_are() -> None:
    """Boxes of 2 x 2 and 3 x 1 px: 3 of 4 and 1 of 3 px found; then none of the second."""
    boxes = [[2, 0, 3, 1], [4, 4, 6, 4]]
    case = make_case("a", np.zeros((8, 8), np.uint8), boxes)
    labels = np.zeros((8, 8), np.uint8)
    labels[0, 2:4] = labels[1, 2] = 1
    assert figure_of(case, labels) == (0.0, "a box without a mask")
    labels[4, 5] = 2
    figure, said = figure_of(case, labels)
    assert figure == pytest.approx(1 / 3) and said == "a mask fills 33 % of its box"
    whole = make_case("a", np.zeros((8, 8), np.uint8), boxes[:1], truth=(labels == 1).astype(np.uint8))
    assert figure_of(whole, (labels == 1).astype(np.uint8)) == (1.0, "DSC 1.000")


def test_only_the_worst_are_kept_and_those_without_a_figure_come_last() -> None:
    """Of five cases three, in the order of their figures."""
    case = make_case("a", np.zeros((8, 8), np.uint8), [[2, 0, 3, 1]])
    worst = Worst(3)
    for name, figure in (("b", 0.5), ("none", None), ("c", 0.2), ("d", 0.9), ("a", 0.5)):
        worst.keep(name, figure, "", case, np.zeros((8, 8), np.uint8))
    assert [shown.case for shown in worst.shown] == ["c", "a", "b"]
    assert not worst.wants(None) and not worst.wants(0.5) and worst.wants(0.1)

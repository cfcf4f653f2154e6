"""Boxes in other conventions: what cannot be pixels is refused with the cure, what may be meant otherwise is told."""

import re
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge import CaseError, CaseWarning, Segmenter, make_case, read_case
from edge.data.box_files import read_box_file
from edge.data.boxes import check_boxes
from edge.data.check import check_case
from tests.conftest import Samedge

SHAPE = (256, 320)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
CORNERS = np.array([50, 45, 130, 95])
SHARES = CORNERS / [320, 256, 320, 256]
SIZES = np.array([50, 45, 81, 51])  # the same box
CENTRE = np.array([90, 70, 81, 51])
VOLUME_SHAPE = (8, *SHAPE)


def notes_of(boxes: npt.ArrayLike, shape: tuple[int, ...] = SHAPE) -> str:
    return "".join(str(note) for note in check_boxes("a", np.array(boxes), shape)[1])


def test_a_box_that_is_there_twice_is_told() -> None:
    """Its labels share one mask: found by looking at the output otherwise."""
    other = CORNERS + 1
    assert notes_of([CORNERS, other]) == ""
    assert notes_of([CORNERS, other, CORNERS]).endswith("some may stay empty (rows 0 and 2)")


@pytest.mark.parametrize(
    ("boxes", "shape", "says"),
    [
        ([SHARES], SHAPE, r"row 0 \(0.15625 .*\) lies within 0 to 1; expected x_min .* multiply x by 320 and y by 256"),
        ([SHARES + 0.03], SHAPE, "within 0 to 1"),
        ([[-0.02, 0.1, 1.04, 0.9]], SHAPE, "within 0 to 1"),
        ([[0, 0, 1, 1]], SHAPE, "within 0 to 1"),
        ([CORNERS, SHARES], SHAPE, r"row 1 .* within 0 to 1"),
        ([[0.1, 0.2, 0, 0.4, 0.5, 7]], VOLUME_SHAPE, "within 0 to 1; expected x_min y_min z_min x_max y_max z_max"),
        ([CENTRE], SHAPE, r"row 0 \(90 70 81 51\) has a minimum above its maximum.*they fit as corner and size"),
        ([CENTRE], SHAPE, "centre and size"),
        ([CORNERS, [200, 45, 81, 51]], SHAPE, r"row 1 .*fit as corner and size .*--box-format xywh"),
        ([[130, 45, 50, 95]], SHAPE, "minimum above its maximum.*exchanged corners"),
        (np.array([[130, 95, 50, 45]], np.uint16), SHAPE, "minimum above its maximum"),
        ([[50, 130, 45, 95], [10, 60, 20, 99]], SHAPE, "minimum above .*x_min x_max y_min y_max"),
        ([[50, 45, 5, 130, 95, 2]], VOLUME_SHAPE, "minimum above its maximum"),
        ([[2, 40, 50, 6, 90, 130], [0, 200, 60, 7, 250, 90]], VOLUME_SHAPE, "lies far outside .*fit as y before x"),
        ([[400, 20, 500, 90]], SHAPE, r"does not touch the image of shape \(256, 320\); .* not of another size"),
        ([[20, 270, 60, 300]], SHAPE, "does not touch .*fit as y before x"),
        ([[2000, 1800, 5200, 3800]], SHAPE, "lies far outside the image"),
    ],
)  # fmt: skip
def test_what_cannot_be_pixels_is_refused_with_the_convention_and_the_cure(
    boxes: npt.ArrayLike, shape: tuple[int, ...], says: str
) -> None:
    """0 to 1, exchanged or other columns, another image: the row, what was expected, and as what all rows would fit."""
    with pytest.raises(CaseError, match=f"^a: boxes .*{says}"):
        check_boxes("a", np.array(boxes), shape)


@pytest.mark.parametrize(
    ("boxes", "shape", "says"),
    [
        ([[45, 250, 95, 310]], SHAPE, "fit the image only with y before x"),
        ([[45, 50, 95, 130], [100, 200, 150, 300]], SHAPE, "fit the image only with y before x; .*1 of 2 end beyond"),
        ([[50, 45, 330, 300]], SHAPE, r"mostly end beyond the image .*1 of 1 end beyond the 320 x 256 px"),
        ([[50, 45, 330, 200], [1, 1, 330, 90], [1, 1, 5, 9]], SHAPE, "2 of 3 end beyond"),
        ([SIZES], SHAPE, r"look like x y width height .*row 0 is 50 45 81 51"),
        ([[10, 10, 30, 30], [20, 9, 31, 33], [5, 50, 60, 60], [7, 9, 30, 31]], SHAPE, "look like x y width height"),
    ],
)
def test_what_may_be_meant_otherwise_is_told(boxes: npt.ArrayLike, shape: tuple[int, ...], says: str) -> None:
    """Beyond the image in most rows, y before x, corner and size: taken as given, with a note."""
    found, (note,) = check_boxes("a", np.array(boxes), shape)
    assert re.search(says, str(note)) and len(found) == len(np.array(boxes))


@pytest.mark.parametrize(
    ("boxes", "shape"),
    [
        ([CORNERS], SHAPE),
        ([[0, 0, 320, 256]], SHAPE),  # one past the end, as in public files
        ([[200, 200, 200, 200], [0, 0, 319, 255], [-5, -5, 330, 260]], SHAPE),
        ([[0, 0, 0, 0]], SHAPE),
        ([[0.2, 0.4, 20.5, 30]], SHAPE),
        ([[0, 0, 1, 1]], (2, 2)),
        ([[50, 45, 0, 130, 95, 8]], VOLUME_SHAPE),
        ([[50, 45, 3, 130, 95, 3]], VOLUME_SHAPE),
        ([], SHAPE),
    ],
)
def test_nothing_is_said_of_boxes_as_they_should_be(boxes: npt.ArrayLike, shape: tuple[int, ...]) -> None:
    """Points, one slice, borders, fractions, and a single row over the border among others."""
    assert notes_of(boxes, shape) == ""


def test_public_boxes_are_taken_without_a_word(shared: Path) -> None:
    """All of the validation cases."""
    paths = sorted((shared / "data" / "val").glob("*.npz"))
    assert len(paths) > 200 and [note for path in paths for note in read_case(path).notes] == []


def test_inputs_at_the_border_of_the_contract_are_decided(shared: Path) -> None:
    """Refused: exchanged corners, and z_max far beyond the volume, where the public program fails; no notes."""
    folder = shared / "golden-real" / "edge-inputs"
    refused = []
    for path in sorted(folder.glob("*.npz")):
        try:
            assert read_case(path).notes == ()
        except CaseError:
            refused.append(path.stem)
    assert refused == ["2DBox_US_swapped", "3DBox_MR_beyond"]


def test_python_users_are_warned_and_refused(tiny_model: Path) -> None:
    """`segment_arrays` and `segment`: the warning names the case and points at the caller's line."""
    segmenter = Segmenter(tiny_model)
    with pytest.raises(CaseError, match=r"^image: boxes row 0 .* within 0 to 1"):
        segmenter.segment_arrays(IMAGE, SHARES)
    with pytest.warns(CaseWarning, match="^scan: boxes look like x y width height") as caught:
        segmenter.segment_arrays(IMAGE, SIZES, "scan")
    assert caught[0].filename == __file__
    with pytest.warns(CaseWarning, match="^2DBox_CT_1: boxes fit the image only with y before x") as caught:
        segmenter.segment(make_case("2DBox_CT_1", IMAGE, np.array([[45, 250, 95, 310]])))
    assert caught[0].filename == __file__


def test_a_doubt_is_said_once_and_reported_for_each_case(tmp_path: Path, tiny_model: Path, samedge: Samedge) -> None:
    """Three cases, one warning with the first and one with their number; --quiet says nothing; JSON has all."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        np.savez(tmp_path / "in" / f"2DBox_CT_{number}.npz", imgs=IMAGE, boxes=[SIZES])
    report = ["--report", tmp_path / "report.json", "--model", tiny_model]
    run = samedge("predict", tmp_path / "in", tmp_path / "out", *report)
    first, rest, done = run.stderr.splitlines()
    assert run.returncode == 0 and done == "3 of 3 cases done"
    assert first.startswith("warning: 2DBox_CT_0: boxes look like x y width height")
    assert rest.startswith("warning: boxes look like") and rest.endswith(": 3 cases in all")
    assert (tmp_path / "report.json").read_text().count("boxes look like") == 3
    assert samedge("predict", tmp_path / "in", tmp_path / "out", "--overwrite", "-q", *report).stderr == ""
    bench = samedge("bench", tmp_path / "in", "--process", "--json", tmp_path / "bench.json", "--model", tiny_model)
    assert bench.stderr.splitlines() == [first, rest]


@pytest.mark.parametrize(
    ("lines", "box_format", "says"),
    [
        ("50,45,81,51", "xywh", None),
        ("x,y,width,height\n50,45,81,51", None, None),
        ("X,Y,W,H\n50,45,81,51", "xywh", None),
        ("50,45,130,95", None, None),
        ("xmin,ymin,xmax,ymax\n50,45,130,95", "xyxy", None),
        ("x,y,width,height\n50,45,81,51", "xyxy", "line 1 names columns of xywh, and --box-format says xyxy"),
        (
            "0.1,0.1,0.4,0.5",
            "xywh",
            "has a box 0.1,0.1,0.4,0.5; it must be x,y,width,height, sizes in pixels, at least 1",
        ),
        ("50,45,81", "xywh", "line 1 must be x,y,width,height, got 50,45,81"),
    ],
)
def test_a_file_of_sizes_is_read_as_it_says(
    tmp_path: Path, lines: str, box_format: str | None, says: str | None
) -> None:
    """By --box-format or its first line; x 50 and width 81 end at 130."""
    (tmp_path / "a.csv").write_text(lines)
    if says:
        with pytest.raises(CaseError, match=f"^a: a.csv {says}"):
            read_box_file(tmp_path / "a.png", tmp_path / "a.csv", 2, box_format)
    else:
        assert read_box_file(tmp_path / "a.png", tmp_path / "a.csv", 2, box_format).rows.tolist() == [CORNERS.tolist()]


def test_the_commands_take_the_format_and_the_check_sees_the_wrong_one(
    tmp_path: Path, tiny_model: Path, samedge: Samedge
) -> None:
    """predict fills the box; cases check names a picture's boxes as those of an .npz."""
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "US_1.png"), np.ascontiguousarray(IMAGE[:, :256]))
    (tmp_path / "in" / "US_1.csv").write_text("50,45,81,51\n")
    wrong = samedge("predict", "in", "a", "--model", tiny_model, cwd=tmp_path)
    right = samedge("predict", "in", "b", "--model", tiny_model, "--box-format", "xywh", cwd=tmp_path)
    assert "warning: US_1: boxes look like x y width height" in wrong.stderr and "warning" not in right.stderr
    with np.load(tmp_path / "b" / "US_1.npz") as file:
        assert file["segs"].sum() == 81 * 51
    np.savez(tmp_path / "in" / "2DBox_CT_1.npz", imgs=IMAGE, boxes=[CENTRE])
    (tmp_path / "in" / "US_2.jpg").write_bytes((tmp_path / "in" / "US_1.png").read_bytes())
    check = samedge("cases", "check", "in", cwd=tmp_path)
    assert check.returncode == 1
    lines = check.stdout.splitlines()
    assert [line for line in lines if line[0] != " "] == ["2DBox_CT_1: broken", "US_1: ok", "US_2: broken"]
    assert lines[1].startswith("  error: boxes row 0 (90 70 81 51) has a minimum above its maximum")
    assert lines[3].startswith("  warning: boxes look like x y width height")
    assert lines[5].startswith("  error: this model needs boxes; write US_2.csv beside it")
    assert samedge("cases", "check", "in/US_1.png", "--box-format", "xywh", cwd=tmp_path).stdout == "US_1: ok\n"


def test_boxes_of_a_file_without_its_image_are_not_doubted(tmp_path: Path) -> None:
    """Without the image's size anything would fit."""
    np.savez(tmp_path / "2DBox_CT_1.npz", boxes=[SIZES])
    assert [finding.key for finding in check_case(tmp_path / "2DBox_CT_1.npz")] == ["imgs"]

"""Lesions measured by their axes become boxes: hand-worked, from CSV and JSON, in voxels and in mm."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from edge.data.case import make_case
from edge.data.formats.registry import read_input
from edge.data.prompting import prompted
from edge.data.recist import boxes_of_lines
from edge.errors import CaseError

NONE = [[np.nan] * 2] * 2


def box(
    line: list[list[float]], spacing: tuple[float, ...] = (1, 1), shape: tuple[int, ...] = (100, 100)
) -> list[float]:
    (found,) = boxes_of_lines("a", np.array([line], np.float64), spacing, shape).round(6).tolist()
    return found


def test_a_long_axis_alone_is_the_diameter_of_a_circle() -> None:
    """Along x, and as long at any angle; with px of 2 mm in y, half as many of them."""
    assert box([[20, 50], [40, 50], *NONE]) == [20, 40, 40, 60]
    assert box([[24, 42], [36, 58], *NONE]) == [20, 40, 40, 60]  # 12, 16: 20 px
    assert box([[20, 50], [40, 50], *NONE], (2, 1)) == [20, 45, 40, 55]


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ([[20, 50], [140, 50], *NONE], (100, 100)),
        ([[-9, 50], [20, 50], *NONE], (100, 100)),
        ([[20, 5, 9], [30, 5, 9], [np.nan] * 3, [np.nan] * 3], (8, 100, 100)),
    ],
)
def test_a_line_that_ends_outside_the_image_is_refused(line: list[list[float]], shape: tuple[int, ...]) -> None:
    """As one in another frame does: it would become a box on the border."""
    with pytest.raises(CaseError, match=r"a: a measured line ends outside the image .*units and frame"):
        box(line, (1,) * len(shape), shape)


def test_with_its_short_axis_it_is_an_ellipse() -> None:
    """Axes along x and y; at 45 degrees, halves of 10 and 5 along it: sqrt((100 + 25) / 2) each way."""
    assert box([[20, 50], [40, 50], [30, 45], [30, 55]]) == [20, 45, 40, 55]
    u, v = 10 / 2**0.5, 5 / 2**0.5
    half = round(62.5**0.5, 6)
    tilted = box([[50 - u, 50 - u], [50 + u, 50 + u], [50 - v, 50 + v], [50 + v, 50 - v]])
    assert tilted == pytest.approx([50 - half, 50 - half, 50 + half, 50 + half], abs=1e-5)


def test_a_short_axis_that_is_off_the_middle_is_in_the_box_too() -> None:
    """Its ends are of the lesion."""
    assert box([[20, 50], [40, 50], [30, 48], [30, 58]]) == [20, 45, 40, 58]


def test_a_volumes_lesion_is_as_deep_as_its_short_axis_is_long() -> None:
    """10 mm of it, slices 5 mm apart: one slice on either side; the border ends what goes beyond it."""
    line = [[20, 50, 3], [40, 50, 3], [30, 45, 3], [30, 55, 3]]
    assert box(line, (5, 1, 1), (8, 100, 100)) == [20, 45, 2, 40, 55, 4]
    assert box(line, (1, 1, 1), (5, 100, 100)) == [20, 45, 0, 40, 55, 4]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ([[20, 50, 3], [40, 50, 5], [np.nan] * 3, [np.nan] * 3], "runs through several slices"),
        ([[20, 50, 3], [20, 50, 3], [np.nan] * 3, [np.nan] * 3], "has no length"),
    ],
)
def test_a_line_that_measures_nothing_is_refused(line: list[list[float]], says: str) -> None:
    """With the case's name."""
    with pytest.raises(CaseError, match=f"^a: a measured line {says}"):
        boxes_of_lines("a", np.array([line]), (1, 1, 1), (8, 100, 100))


def test_lines_come_from_csv_and_json_in_voxels_and_in_mm(tmp_path: Path) -> None:
    """The same lesion four times: a scan of 1 x 1 x 5 mm whose x runs to the left, so that LPS is voxels here."""
    scan = tmp_path / "scan.nii.gz"
    affine = np.diag([-1.0, -1.0, 5.0, 1.0])
    nibabel.nifti1.Nifti1Image(np.arange(100 * 90 * 8, dtype=np.int16).reshape(100, 90, 8), affine).to_filename(scan)
    expected = [20, 45, 2, 40, 55, 4]
    long, short = {"x1": 20, "y1": 50, "z1": 3, "x2": 40, "y2": 50, "z2": 3}, {"x3": 30, "y3": 45, "z3": 3}
    record = {**long, **short, "x4": 30, "y4": 55, "z4": 3, "label": "nodule"}
    in_mm = {key: value * 5 if key[0] == "z" else value for key, value in record.items() if key != "label"}
    texts = {
        ".csv": ["file;" + ";".join(record), "scan;" + ";".join(map(str, record.values())),
                 "other;" + ";".join("1" for _ in record)],
        ".json": [json.dumps({"units": "LPS", "boxes": [{**in_mm, "label": "nodule"}]})],
    }  # fmt: skip
    for ending, lines in texts.items():
        file = scan.with_name(f"scan{ending}")
        file.write_text("\n".join(lines) + "\n")
        case = prompted(read_input(scan), scan)
        assert case.boxes.tolist() == [expected] and case.label_names == ("nodule",)
        file.unlink()
    scan.with_name("scan.csv").write_text(",".join(record) + "\n20,50,3,40,50,3,,,,,,,nodule\n")
    assert prompted(read_input(scan), scan).boxes.tolist() == [[20, 40, 1, 40, 60, 5]]
    scan.with_name("scan.csv").write_text(",".join(record) + "\n20,50,3,40,50,3,5,,,,,,nodule\n")
    with pytest.raises(CaseError, match=r"^scan: scan\.csv line 2 must be x1,y1,z1,x2,y2,z2,x3"):
        prompted(read_input(scan), scan)


def test_lines_of_four_numbers_in_a_picture_are_told(tmp_path: Path) -> None:
    """They may be corners by another name; a line in a volume has six."""
    image = make_case("Dermoscopy_a", np.zeros((300, 400, 3), np.uint8), np.zeros((0, 4)))
    for titles, told in (("x1,y1,x2,y2", True), ("x_min,y_min,x_max,y_max", False)):
        (tmp_path / "Dermoscopy_a.csv").write_text(f"{titles}\n90,64,277,237\n")
        notes = prompted(image, tmp_path / "Dermoscopy_a.png").notes
        assert any("ends of a measured line (RECIST); corners are x_min" in str(note) for note in notes) is told

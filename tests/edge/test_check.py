"""The checker: one finding per thing that is wrong, and agreement with what `read_case` takes."""

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.data.case import read_case
from edge.data.check import check_case
from edge.errors import CaseError

CASES = Path(__file__).parents[2] / "cases"
IMAGE = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
VOLUME = np.arange(5 * 20 * 30).reshape(5, 20, 30).astype(np.uint8)
TRUTH = np.zeros((20, 30), np.uint8)
TRUTH[4:9, 3:8] = 1
TRUTH[12:18, 20:28] = 2
BOXES = np.array([[3, 4, 7, 8], [19, 11, 28, 18]])
GOOD = {"imgs": IMAGE, "boxes": BOXES, "gts": TRUTH}
GOOD_3D = {"imgs": VOLUME, "boxes": np.array([[3, 4, 1, 7, 8, 3]]), "spacing": np.array([1.0, 1, 3])}


def with_rows(key: str, *rows: list[float]) -> dict[str, npt.NDArray]:
    return {key: np.array(rows)}


def findings_of(path: Path, arrays: dict[str, npt.NDArray]) -> list[tuple[str, str, str]]:
    np.savez(path, **arrays)
    return [(finding.key, finding.severity, finding.message) for finding in check_case(path)]


def test_nothing_is_wrong_with_the_committed_cases() -> None:
    """What the project ships passes its own check."""
    paths = sorted(CASES.glob("*.npz"))
    assert paths and [finding for path in paths for finding in check_case(path)] == []


@pytest.mark.parametrize(
    ("change", "key", "severity", "message"),
    [
        ({"imgs": IMAGE[..., :2]}, "imgs", "error", "must be (H, W, 3)"),
        ({"imgs": IMAGE * 300.0}, "imgs", "error", "must lie in 0 to 255, got 0.0 to 76500.0"),
        ({"imgs": IMAGE.astype(np.int64)}, "imgs", "warning", "imgs is int64; uint8"),
        ({"imgs": np.full_like(IMAGE, 7)}, "imgs", "warning", "imgs is 7 everywhere"),
        (
            {"imgs": (IMAGE > 50).astype(np.uint8)},
            "imgs",
            "warning",
            "imgs lies in 0 to 1; values are read as 0 to 255",
        ),
        ({"boxes": np.ones((2, 6))}, "boxes", "error", "boxes must be (N, 4) for a 2D case, got (2, 6)"),
        (with_rows("boxes", [3, 4, 7, np.nan], [19, 11, 28, 18]), "boxes", "error", "must be finite"),
        (with_rows("boxes", [3, 4, 7, 8], [400, 400, 410, 410]), "boxes", "error", "row 1 (400 400 410 410) lies far"),
        (with_rows("boxes", [7, 8, 3, 4], [19, 11, 28, 18]), "boxes", "error", "row 0 (7 8 3 4) has a minimum above"),
        (with_rows("boxes", [3, 4, 7, 8], [19, 11, 33, 18]), "boxes", "warning", "row 1 reaches outside 0 to 30, 20"),
        (with_rows("boxes", [3, 4, 3, 8], [19, 11, 28, 18]), "boxes", "warning", "row 0 is one pixel wide or high"),
        ({"gts": TRUTH[:-1]}, "gts", "error", "gts must have shape (20, 30), got (19, 30)"),
        ({"gts": TRUTH * 0.5}, "gts", "error", "gts must hold whole numbers"),
        ({"gts": np.where(TRUTH == 1, 0, TRUTH)}, "gts", "warning", "labels up to 2 without 1; absent"),
        ({"gts": np.minimum(TRUTH, 1)}, "gts", "warning", "labels up to 1, boxes 2 rows"),
        ({"boxes": BOXES[::-1]}, "gts", "warning", "no pixel of its label in box 0, 1; order or axes exchanged?"),
        ({"spacing": np.array([1.0, 0, 1])}, "spacing", "warning", "must be 3 positive numbers"),
        ({"names": np.array([1])}, "names", "warning", "names is not a key of a case; it is not read"),
    ],
)
def test_one_wrong_array_in_a_2d_case_is_one_finding(
    change: dict[str, npt.NDArray], key: str, severity: str, message: str, tmp_path: Path
) -> None:
    """The finding names the key and the trouble, and nothing else is blamed."""
    ((found_key, found_severity, found_message),) = findings_of(tmp_path / "2DBox_CT_1.npz", {**GOOD, **change})
    assert (found_key, found_severity) == (key, severity) and message in found_message


@pytest.mark.parametrize(
    ("change", "key", "severity", "message"),
    [
        ({"imgs": IMAGE[..., 0]}, "imgs", "error", "must be (D, H, W) for a 3D case"),
        ({"boxes": BOXES}, "boxes", "error", "must be (N, 6) for a 3D case, got (2, 4)"),
        (with_rows("boxes", [3, 4, 2, 7, 8, 2]), "boxes", "warning", "row 0 is one slice deep"),
        (with_rows("boxes", [3, 4, 3, 7, 8, 1]), "boxes", "error", "row 0 (3 4 3 7 8 1) has a minimum above"),
        (with_rows("boxes", [3, 4, 1, 7, 8, 5]), "boxes", "warning", "row 0 reaches outside 0 to 30, 20, 4"),
        ({"spacing": np.ones(2)}, "spacing", "warning", "spacing must be 3 positive numbers"),
        ({"boxes": np.zeros((0, 6))}, "boxes", "warning", "boxes holds no box"),
        ({"gts": np.zeros_like(VOLUME), "boxes": np.zeros((0, 6))}, "gts", "warning", "holds no object"),
    ],
)
def test_one_wrong_array_in_a_3d_case_is_found(
    change: dict[str, npt.NDArray], key: str, severity: str, message: str, tmp_path: Path
) -> None:
    """As in 2D, with z and spacing."""
    findings = findings_of(tmp_path / "3DBox_MR_1.npz", {**GOOD_3D, **change})
    assert any((k, s) == (key, severity) and message in m for k, s, m in findings)
    assert {k for k, _, _ in findings} <= {key, *change}


def test_every_key_is_looked_at_after_the_first_problem(tmp_path: Path) -> None:
    """One run tells all that must be mended."""
    arrays = {"imgs": IMAGE * -1.0, "boxes": np.full((1, 4), np.inf), "spacing": np.zeros(3), "gts": TRUTH - 0.5}
    findings = findings_of(tmp_path / "2DBox_CT_1.npz", arrays)
    assert [(key, severity) for key, severity, _ in findings] == [
        ("imgs", "error"), ("boxes", "error"), ("spacing", "warning"), ("gts", "error"),
    ]  # fmt: skip


def test_an_image_with_wrong_values_still_bounds_the_boxes(tmp_path: Path) -> None:
    """Its shape is right, so a box outside of it is found in the same run."""
    findings = findings_of(tmp_path / "2DBox_CT_1.npz", {"imgs": IMAGE * 9.0, "boxes": np.full((1, 4), 500)})
    assert [key for key, _, _ in findings] == ["imgs", "boxes"]


def test_missing_keys_are_errors_but_truth_is_optional(tmp_path: Path) -> None:
    """A case for prediction has no gts; a 3D case should state its spacing."""
    assert [f[:2] for f in findings_of(tmp_path / "2DBox_CT_1.npz", {"gts": TRUTH})] == [
        ("imgs", "error"),
        ("boxes", "error"),
    ]
    arrays = {key: GOOD_3D[key] for key in ("imgs", "boxes")}
    assert [f[:2] for f in findings_of(tmp_path / "3DBox_CT_1.npz", arrays)] == [("spacing", "warning")]


def test_a_pickled_array_is_one_finding_beside_the_others(tmp_path: Path) -> None:
    """It is not loaded, and does not hide what is wrong with the rest."""
    arrays = {"imgs": np.array([{"a": 1}], dtype=object), "boxes": np.ones((1, 4)), "gts": TRUTH[0]}
    findings = findings_of(tmp_path / "2DBox_CT_1.npz", arrays)
    assert [key for key, _, _ in findings] == ["imgs", "boxes", "gts"] and "pickled" in findings[0][2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scan_CT_1", "name should start with 2DBox_ or 3DBox_"),
        ("2DBox_Photo_1", "name names no modality, or several"),
    ],
)
def test_odd_names_are_warned_about(name: str, message: str, tmp_path: Path) -> None:
    """Such a file runs, but is summed up under no modality or guessed to be 2D."""
    ((key, severity, text),) = findings_of(tmp_path / f"{name}.npz", GOOD)
    assert (key, severity) == ("name", "warning") and message in text


def test_a_volume_of_a_2d_modality_is_warned_about(tmp_path: Path) -> None:
    """Volumes of the challenge are CT, MR and PET."""
    ((key, _, text),) = findings_of(tmp_path / "3DBox_Fundus_1.npz", GOOD_3D)
    assert key == "name" and "says 3D and Fundus" in text


def test_a_file_that_cannot_be_opened_has_one_finding(tmp_path: Path) -> None:
    """Cut short, absent, a folder, or not an .npz at all."""
    whole = tmp_path / "2DBox_CT_1.npz"
    np.savez(whole, **GOOD)
    (tmp_path / "2DBox_CT_2.npz").write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "2DBox_CT_3.npz").mkdir()
    (tmp_path / "2DBox_CT_4.png").touch()
    for name in ("2DBox_CT_2.npz", "2DBox_CT_3.npz", "2DBox_CT_4.png", "2DBox_CT_5.npz"):
        assert [(finding.key, finding.severity) for finding in check_case(tmp_path / name)] == [("file", "error")]


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    """A flipped byte breaks the checksum of its own array only."""
    path = tmp_path / "2DBox_CT_1.npz"
    np.savez(path, **GOOD)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("imgs.npy").header_offset
    data = bytearray(path.read_bytes())
    data[start + 1000] ^= 255
    path.write_bytes(data)
    assert [(finding.key, finding.severity) for finding in check_case(path)] == [("imgs", "error")]


def test_the_checker_and_the_reader_agree(tmp_path: Path) -> None:
    """An error for exactly those files that `read_case` refuses."""
    variants = [{}, {"imgs": IMAGE[0]}, {"imgs": IMAGE[:0]}, {"imgs": IMAGE[..., 0]}, {"imgs": IMAGE.astype("U3")}]
    variants += [{"boxes": boxes} for boxes in (BOXES[0], BOXES.astype("U3"), BOXES + 25, np.zeros(0), np.ones((1, 3)))]
    variants += [{"spacing": np.array([np.nan, 1, 1])}, {"spacing": np.ones((3, 1))}, {"gts": TRUTH[None]}]
    for name in ("2DBox_CT_1", "3DBox_CT_1", "CT_1"):
        for change in variants:
            path = tmp_path / f"{name}.npz"
            errors = [finding for finding in findings_of(path, {**GOOD, **change}) if finding[1] == "error"]
            try:
                read_case(path, with_truth=True)
                refused = False
            except CaseError:
                refused = True
            assert bool(errors) == refused, (name, change, errors)

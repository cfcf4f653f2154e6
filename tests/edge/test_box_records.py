"""Boxes with a name for each number: the challenges of 2025 and 2026, as far as that is data."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge import CaseError, CaseWarning, Options, Segmenter, make_case, read_case
from edge.data.check import check_case

VOLUME = np.random.default_rng(0).integers(0, 256, (9, 20, 30), dtype=np.uint8)
ROWS = [[2.0, 3, 1, 10, 12, 5], [4, 5, 2, 20, 18, 8]]
RECORDS = [
    {
        "z_min": row[2], "z_max": row[5], "z_mid": (row[2] + row[5]) // 2, "z_mid_x_min": row[0],
        "z_mid_y_min": row[1], "z_mid_x_max": row[3], "z_mid_y_max": row[4],
    } for row in ROWS
]  # fmt: skip
FLAT = [{"x_min": 2, "y_min": 3, "x_max": 10, "y_max": 12}]


def structured(records: list[dict[str, float]]) -> npt.NDArray:
    return np.array([tuple(record.values()) for record in records], [(key, "f8") for key in records[0]])


@pytest.mark.parametrize(
    "boxes",
    [
        structured(RECORDS),
        np.array(json.dumps(RECORDS)),
        np.array([json.dumps(record) for record in RECORDS]),
        np.array(json.dumps(RECORDS).encode()),
    ],
    ids=["structured", "JSON", "a JSON each", "bytes"],
)
def test_records_in_a_file_are_rows_in_their_order(tmp_path: Path, boxes: npt.NDArray) -> None:
    """z and the middle slice's x and y; with and without the name's prefix, and for the check."""
    for name in ("3DBox_CT_1", "CT_1"):
        np.savez(tmp_path / f"{name}.npz", imgs=VOLUME, boxes=boxes, spacing=np.ones(3))
        case = read_case(tmp_path / f"{name}.npz")
        assert case.is_volume and case.boxes.tolist() == ROWS and case.notes == ()
        assert [finding.key for finding in check_case(tmp_path / f"{name}.npz")] == ["name"] * (name == "CT_1")


def test_dicts_are_taken_from_python(tiny_model: Path) -> None:
    """A list of them, or what np.load with pickles allowed gives: as the rows."""
    segmenter = Segmenter(tiny_model, options=Options(method="fixed"))
    expected = segmenter.segment_arrays(VOLUME, np.array(ROWS))
    assert expected.max() == 2
    for boxes in (RECORDS, np.array(RECORDS, object)):
        assert np.array_equal(segmenter.segment_arrays(VOLUME, boxes), expected)
    assert make_case("3DBox_CT_1", VOLUME, np.array("[]")).boxes.shape == (0, 6)
    assert make_case("a", VOLUME[0], FLAT).boxes.tolist() == [[2, 3, 10, 12]]


def test_a_middle_that_is_none_is_told(tiny_model: Path) -> None:
    """x and y would belong to another slice than the one they are used on."""
    with pytest.warns(CaseWarning, match=r"z_mid off the middle .*record 1 has z_mid 7"):
        Segmenter(tiny_model).segment_arrays(VOLUME, [RECORDS[0], {**RECORDS[1], "z_mid": 7}])


def test_pickled_dicts_name_the_cure_and_the_cure_works(tmp_path: Path) -> None:
    """As the challenge's files are."""
    path = tmp_path / "3DBox_CT_1.npz"
    boxes = np.array([{key: np.int64(value) for key, value in record.items()} for record in RECORDS], object)
    np.savez(path, imgs=VOLUME, boxes=boxes)
    with pytest.raises(CaseError) as refused:
        read_case(path)
    cure = str(refused.value).partition("(boxes that are dicts: ")[2].removesuffix(")")
    assert next(finding.severity for finding in check_case(path)) == "error"
    np.savez(path, imgs=VOLUME, boxes=eval(cure, {"np": np, "json": json, "boxes": boxes}))
    assert read_case(path).boxes.tolist() == ROWS


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ([{"left": 1, "top": 2}], "record 0 lacks x_min, y_min, x_max, y_max; it has left, top; expected are x_min"),
        ([*FLAT, {"x_min": 1, "y_min": 2, "x_max": 3}], "record 1 lacks y_max"),
        ([{**FLAT[0], "z_min": 3}], "record 0 lacks z_max"),
        ([*FLAT, *RECORDS], "all be 2D or all 3D"),
        ([{**FLAT[0], "x_max": "far"}], "record 0 must hold numbers"),
        ([{**FLAT[0], "x_max": None}], "record 0 must hold numbers"),
        ([[1, 2, 3, 4], [1, 2]], "must be rows of one length"),
        (np.array("[1, 2, 3"), "is text, but no JSON"),
        (np.array("[" * 10**5), "is text, but no JSON"),
        (np.array("[1, 2]"), "must be"),
        (np.array([None, None], object), "must be"),
        (np.array(["4", "5", "9", "9"]), "must be real numbers"),
    ],
)
def test_records_that_do_not_fit_name_what_came(boxes: npt.ArrayLike, says: str) -> None:
    """Keys, columns, values."""
    with pytest.raises(CaseError, match=f"^2DBox_CT_1: boxes .*{says}"):
        make_case("2DBox_CT_1", VOLUME[0], boxes)

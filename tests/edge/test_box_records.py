"""Boxes with a name for each number: the challenges of 2025 and 2026."""

import json
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge import CaseError, CaseWarning, Options, Segmenter, make_case, read_case
from edge.data.check import check_case
from edge.data.pickled import NotPlain, read_pickled_array

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


@pytest.mark.parametrize("kind", [int, np.int64, np.float32, np.uint8])
def test_pickled_dicts_are_read_as_the_challenges_files_have_them(
    tmp_path: Path, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of Python's numbers and NumPy's, by the reader and the check; no unpickler is asked."""
    path = tmp_path / "3DBox_CT_1.npz"
    np.savez(path, imgs=VOLUME, boxes=[{key: kind(value) for key, value in one.items()} for one in RECORDS])
    monkeypatch.delattr("pickle.loads")
    monkeypatch.delattr("pickle.load")
    assert read_case(path).boxes.tolist() == ROWS
    assert [finding.key for finding in check_case(path)] == ["spacing"]


def test_a_pickle_is_read_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of bytes, and of records, one of which can be named again and again in little space."""
    path = tmp_path / "3DBox_CT_1.npz"
    np.savez(path, imgs=VOLUME, boxes=RECORDS * 40_000)
    with pytest.raises(CaseError, match=r"boxes holds .* more than 65535 items"):
        read_case(path)
    monkeypatch.setattr("edge.data.pickled.MAX_BYTES", 2**16)
    with pytest.raises(CaseError, match="boxes holds more than 64 KiB of Python objects"):
        read_case(path)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickles_is_understood(protocol: int) -> None:
    """NumPy's own numbers, negative and large ones, fractions, texts and None."""
    records = [
        {"a": np.float64(-1.5), "b": 2**40, "c": "z", "d": None, "e": True, "f": np.uint16(65535)},
        {},
        {"a": -3},
    ]
    assert read_pickled_array(pickle.dumps(np.array(records, object), protocol)) == records


class Intruder:
    """Calls something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("here",)


def looped() -> list[Any]:
    """A list that holds itself."""
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.array([Intruder()], object), "wants (builtins|__builtin__).print"),
        (np.array([{"x_min": Intruder()}], object), "wants"),
        (np.array([print, 1], object), "holds a (builtins|__builtin__).print"),
        (np.array([{"x_min": [1]}], object), "holds a list where a number"),
        (np.array([looped(), 1], object), "holds a list where a number"),
        (np.array([{1: 2}], object), "int where str"),
        (np.array([{"x_min": np.complex64(1)}], object), "type complex64"),
        ({"x_min": 1}, "is no array"),
        (np.arange(3), "bytes where list"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(content: Any, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And not run."""
    for protocol in (0, 2, 4):
        with pytest.raises(NotPlain, match=says):
            read_pickled_array(pickle.dumps(content, protocol))
    assert capsys.readouterr().out == ""


def test_mutated_pickles_are_read_or_refused() -> None:
    """Each byte changed, and each length cut."""
    content = pickle.dumps(np.array(RECORDS, object), 4)
    random = np.random.default_rng(0)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= int(random.integers(1, 256))
        for broken in (bytes(changed), content[:place]):
            with suppress(NotPlain):
                assert isinstance(read_pickled_array(broken), list)


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

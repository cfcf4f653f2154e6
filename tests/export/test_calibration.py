"""What INT8 is calibrated with and measured on: apart, every modality alike, the same each time."""

from pathlib import Path

import numpy as np
import pytest

from edge.errors import CaseError
from edge.views.ladder import ViewLadder
from export.int8.calibration import calibration_inputs, choose_cases, divide
from export.int8.drop import Drop, drop_table, within_floor


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Twelve CT and four US images of one object each; the image's brightness is its number."""
    for modality, count in (("CT", 12), ("US", 4)):
        for number in range(count):
            image = np.zeros((20, 30, 3), np.uint8)
            image[4:9, 5:12] = 10 + number
            labels = (image[..., 0] > 0).astype(np.uint8)
            boxes = np.array([[5, 4, 11, 8]])
            np.savez(tmp_path / f"2DBox_{modality}_set_{number}.npz", imgs=image, gts=labels, boxes=boxes)
    return tmp_path


def test_held_out_cases_are_a_quarter_of_each_modality_and_never_calibrated_with(cases: Path) -> None:
    """3 of 12 and 1 of 4."""
    calibration, held_out = divide(cases)
    assert not set(calibration) & set(held_out) and len(calibration) == 12
    assert sorted(path.stem[6:8] for path in held_out) == ["CT", "CT", "CT", "US"]
    assert divide(cases) == (calibration, held_out)


def test_the_channels_of_a_case_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of each of eight cases, as nnU-Net lays them out: 2 of 8 are held out, both channels of each."""
    sources = [Path(f"imagesTr/MR_{case}_000{channel}.nii.gz") for case in range(8) for channel in range(2)]
    monkeypatch.setattr("export.int8.calibration.find_sources", lambda _folders: sources)
    calibration, held_out = divide(Path("data"))
    assert sorted(calibration + held_out) == sources and len(held_out) == 4
    assert not {path.name[:4] for path in calibration} & {path.name[:4] for path in held_out}


def test_modalities_take_turns_until_one_runs_dry(cases: Path) -> None:
    """Six slices of 9 CT and 3 US cases: three of each; twelve: all there are."""
    calibration, _ = divide(cases)
    inputs = calibration_inputs(calibration, 6)
    assert [one.shape for one in inputs] == [(1, 3, 256, 256)] * 6
    assert len(calibration_inputs(calibration, 100)) == 12
    again = calibration_inputs(calibration[::-1], 6)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, again, strict=True))
    chosen = choose_cases(calibration, 2)
    assert [path.stem[6:8] for path in chosen] == ["CT", "CT", "US", "US"]


def test_a_model_of_views_is_calibrated_with_views_and_frames(cases: Path) -> None:
    """Of each image the view around its largest object, bright in its middle, as large as its box asks; its frame."""
    image = np.zeros((100, 120, 3), np.uint8)
    image[20:80, 30:80], image[5:9, 5:9] = 200, 100
    labels = np.zeros((100, 120), np.uint8)
    labels[20:80, 30:80], labels[5:9, 5:9] = 2, 1
    boxes = np.array([[5, 5, 8, 8], [30, 20, 79, 79]])
    for number in range(4):  # of another modality: three to calibrate with
        np.savez(cases / f"2DBox_MR_set_{number}.npz", imgs=image, gts=labels, boxes=boxes)
    calibration, _ = divide(cases)
    inputs = calibration_inputs(calibration, 100, ViewLadder((56, 112, 224), 0.72, 0.85))
    assert sorted(one.shape[-1] for one in inputs) == [56] * 12 + [112] * 3 + [256] * 15
    for one in inputs:
        size = one.shape[-1]
        assert one.shape == (1, 3, size, size)
        assert size == 256 or (one[0, 0, size // 2, size // 2] == 1 and one[0, 0, 0, 0] == 0)


def test_a_folder_without_two_cases_of_a_modality_is_refused(tmp_path: Path) -> None:
    """Nothing would be left to calibrate with."""
    with pytest.raises(CaseError, match=r"no \.npz case"):
        divide(tmp_path)
    image = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    np.savez(tmp_path / "2DBox_CT_1.npz", imgs=image, gts=np.ones((10, 10), np.uint8), boxes=np.array([[0, 0, 9, 9]]))
    with pytest.raises(CaseError, match="more than one labelled case"):
        divide(tmp_path)


def test_the_floor_holds_for_the_mean_and_three_times_it_for_one_modality() -> None:
    """Mean 0.5 points and single modality 1.5 points are allowed, nothing more."""
    ct, us = Drop("CT", 5, 0.90, 0.886), Drop("US", 5, 0.80, 0.803)
    mean = Drop("mean", 10, 0.85, 0.8455)
    assert within_floor([ct, us, mean], 0.5)
    assert not within_floor([ct, us, Drop("mean", 10, 0.85, 0.8449)], 0.5)
    assert not within_floor([Drop("CT", 5, 0.90, 0.884), us, mean], 0.5)
    assert not within_floor([ct, us, Drop("mean", 10, 0.85, float("nan"))], 0.5)
    assert drop_table([ct, mean])[1:] == [
        ["CT", "5", "90.00", "88.60", "1.40"],
        ["mean", "10", "85.00", "84.55", "0.45"],
    ]

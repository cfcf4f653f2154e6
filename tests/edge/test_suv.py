"""Standardized uptake values of PET: by hand, or one line that says what the header lacks."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

pytest.importorskip("pydicom", reason="needs pydicom (extra dicom), which is not there")

from edge.data.formats.registry import read_input, read_scan
from edge.data.scan import Reading
from edge.errors import CaseError
from tests.edge.dicom_files import write_series

# 70 kg; 280 MBq one half-life of 6,000 s before the scan leave 140 MBq: 70,000 g / 140e6 Bq, SUV 1 is 2,000 Bq/ml
HEADER = {
    "Modality": "PT",
    "Units": "BQML",
    "CorrectedImage": ["NORM", "ATTN", "DECY"],
    "DecayCorrection": "START",
    "PatientWeight": 70,
    "SeriesDate": "20260102",
    "SeriesTime": "100000",
    "AcquisitionDate": "20260102",
    "AcquisitionTime": "100010",
    "FrameReferenceTime": 10_000,
    "ActualFrameDuration": 120_000,
}
DRUG = {"RadionuclideTotalDose": 280e6, "RadionuclideHalfLife": 6000, "RadiopharmaceuticalStartTime": "082000"}
STORED = np.array([[[0, 5000]], [[10_000, 20_000]], [[30_000, 2]]], np.int16)
ASKED = Reading(window="suv")


def series(folder: Path, drug: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A PET series with what is changed; None: without it."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    item = Dataset()
    for key, value in {**DRUG, **(drug or {})}.items():
        if value is not None:
            setattr(item, key, value)
    header = {key: value for key, value in {**HEADER, **changes}.items() if value is not None}
    return write_series(folder, STORED, RadiopharmaceuticalInformationSequence=Sequence([item]), **header)


def factor(folder: Path) -> float:
    """What makes SUV of what is stored."""
    scan = read_scan(folder, ASKED)
    return float(scan.slope)


def test_suv_by_hand(tmp_path: Path) -> None:
    """Half of the dose is left; SUV 0 to 10 become 0 to 255, and slope and intercept of the file come first."""
    assert factor(series(tmp_path / "a")) == pytest.approx(1 / 2000)
    case = read_input(tmp_path / "a", ASKED)
    assert case.image.ravel().tolist() == [0, 64, 128, 255, 255, 0] and case.notes == ()
    assert factor(series(tmp_path / "b", RescaleSlope="0.5", RescaleIntercept="0")) == pytest.approx(1 / 4000)


@pytest.mark.parametrize(
    ("changes", "drug", "expected"),
    [
        ({"Units": "GML"}, {}, 1.0),
        ({"DecayCorrection": "ADMIN"}, {}, 1 / 4000),  # activities are those of the injection: nothing has decayed
        ({}, {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": "20260102082000"}, 1 / 2000),
        ({}, {"RadiopharmaceuticalStartDateTime": "20260102064000.00", "RadiopharmaceuticalStartTime": None}, 1 / 1000),
        ({"SeriesTime": "004000", "AcquisitionTime": "004000.0"}, {"RadiopharmaceuticalStartTime": "2300"}, 1 / 2000),
        # the series was made of another, later: the frame began at 10:01:00, to be 60 s after the scan
        ({"SeriesTime": "150000", "AcquisitionTime": "100100", "FrameReferenceTime": 60_000 + 59_931}, {}, 1 / 2000),
    ],
    ids=["g/ml", "to the injection", "moment", "two half-lives", "over midnight", "reworked"],
)
def test_what_scanners_write(tmp_path: Path, changes: dict[str, Any], drug: dict[str, Any], expected: float) -> None:
    """The last: of 120 s the activity is as in its mean 59.93 s after its start."""
    assert factor(series(tmp_path / "pet", drug, **changes)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "drug", "says"),
    [
        ({"PatientWeight": None}, {}, "PatientWeight is missing"),
        ({"PatientWeight": 0}, {}, "PatientWeight is 0"),
        ({"Units": "CNTS"}, {}, "Units is CNTS, expected BQML, or GML by body weight"),
        ({"Units": None}, {}, "Units is missing"),
        ({"Units": "GML", "SUVType": "LBM"}, {}, "Units is GML with SUVType LBM"),
        ({"CorrectedImage": ["NORM"]}, {}, "CorrectedImage lacks ATTN and DECY"),
        ({"CorrectedImage": "ATTN"}, {}, "CorrectedImage lacks DECY"),
        ({"DecayCorrection": "NONE"}, {}, "DecayCorrection is NONE, expected START or ADMIN"),
        ({"AcquisitionTime": None}, {}, "AcquisitionTime or its date is missing"),
        ({"SeriesTime": "150000", "FrameReferenceTime": None}, {}, "FrameReferenceTime is missing"),
        ({}, {"RadionuclideTotalDose": None}, "RadionuclideTotalDose is missing"),
        ({}, {"RadionuclideTotalDose": 280}, "RadionuclideTotalDose is 280, expected Bq"),
        ({}, {"RadionuclideHalfLife": None}, "RadionuclideHalfLife is missing"),
        ({}, {"RadiopharmaceuticalStartTime": None}, "RadiopharmaceuticalStartTime or its date is missing"),
        ({}, {"RadiopharmaceuticalStartDateTime": "20251225082000"}, "the scan began 193.7 h after the injection"),
        ({}, {"RadiopharmaceuticalStartDateTime": "20260102110000"}, "the scan began -1.0 h after the injection"),
    ],
)
def test_what_is_lacking_is_said(tmp_path: Path, changes: dict[str, Any], drug: dict[str, Any], says: str) -> None:
    """One line with the case, what is wrong and the cure; without --window suv the series is read as before."""
    folder = series(tmp_path / "pet", drug, **changes)
    with pytest.raises(CaseError, match=rf"^pet: no SUV can be computed: {says}.*; leave --window out") as error:
        read_input(folder, ASKED)
    assert "\n" not in str(error.value)
    assert read_input(folder).modality == "PET"


def test_suv_is_of_pet(tmp_path: Path) -> None:
    """CT has none; what no DICOM header states is taken for SUV, and said."""
    write_series(tmp_path / "ct", STORED)
    with pytest.raises(CaseError, match=r"^ct: --window suv is for PET, this is CT"):
        read_input(tmp_path / "ct", ASKED)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.nifti1.Nifti1Image(np.array([[[0.0, 5, 20]]], np.float32), np.eye(4)), path)
    case = read_input(path, ASKED)
    assert sorted(case.image.ravel().tolist()) == [0, 128, 255]
    assert [note.what for note in case.notes] == ["its values are taken for SUV; only DICOM states what they are"]

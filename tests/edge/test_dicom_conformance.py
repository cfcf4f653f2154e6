"""What is written as DICOM is what the standard says, by dciodvfy (Debian's dicom3tools)."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="needs highdicom (extra dicom), which is not there")
if shutil.which("dciodvfy") is None:
    pytest.skip("needs dciodvfy (apt-get install dicom3tools), which is not there", allow_module_level=True)

from edge.commands.cases import convert
from edge.data.formats.registry import read_input
from edge.data.outputs import write_labels
from tests.edge.dicom_files import write_series, write_slice


def errors_in(path: Path) -> list[str]:
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    return [line for line in said.splitlines() if line.startswith("Error")]


def written(image: Path, folder: Path) -> list[Path]:
    """Two labels of an image as SEG and as RTSTRUCT."""
    case = read_input(image)
    labels = np.zeros(case.shape, np.uint8)
    labels[..., 2:12, 3:9] = 1
    labels[..., 14:17, 3:9] = 2
    named = replace(case, boxes=np.zeros((2, 2 * labels.ndim)), label_names=("liver", "no word of SNOMED"))
    return write_labels(named, labels, image, folder, ("dicom-seg", "rtstruct"))


def test_the_check_finds_what_it_looks_for(tmp_path: Path) -> None:
    """The test's own slices lack much."""
    assert errors_in(write_slice(tmp_path / "a.dcm", np.zeros((24, 20), np.int16), (0, 0, 0)))


def test_labels_of_a_series_and_of_a_picture_conform(tmp_path: Path) -> None:
    """One that lies in the patient, and one that lies nowhere."""
    series = write_series(tmp_path / "scan", np.zeros((5, 24, 20), np.int16))
    picture = write_slice(tmp_path / "chest.dcm", np.zeros((24, 20), np.uint16), None, Modality="CR")
    for image in (series, picture):
        for file in written(image, tmp_path):
            assert errors_in(file) == [], file.name


def test_labels_of_a_real_oblique_series_conform(shared: Path, tmp_path: Path) -> None:
    """Whose own files have seven errors."""
    for file in written(shared / "data" / "dicom" / "MR_BRAINIX_FLAIR", tmp_path):
        assert errors_in(file) == [], file.name


def test_labels_of_images_without_identifiers_are_not_converted_to_dicom(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would refer to nothing."""
    images = shared / "data" / "dicom" / "CT_TotalSegmentator_example"
    np.savez(tmp_path / "CT_TotalSegmentator_example.npz", segs=np.ones(read_input(images).shape, np.uint8))
    with pytest.raises(SystemExit):
        convert(tmp_path / "CT_TotalSegmentator_example.npz", tmp_path / "out", "rtstruct", like=images)
    assert "has no S" in capsys.readouterr().err and not list((tmp_path / "out").iterdir())

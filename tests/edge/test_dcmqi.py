"""DICOM Segmentations as dcmqi, the converter of 3D Slicer and the Imaging Data Commons, reads them."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="needs highdicom (extra dicom), which is not there")
if shutil.which("segimage2itkimage") is None:
    pytest.skip("needs segimage2itkimage (pip install dcmqi), which is not there", allow_module_level=True)

from edge.data.formats.registry import read_input, read_label_map
from edge.data.outputs import write_labels
from tests.edge.dicom_files import write_series

NAMES = ("liver", "no word of SNOMED")


def read_by_dcmqi(file: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """NIfTI of each segment, on the slices that hold it, and what they are called."""
    folder.mkdir()
    command = ["segimage2itkimage", "--inputDICOM", file, "--outputDirectory", folder, "--outputType", "nii"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    segments = json.loads((folder / "meta.json").read_text())["segmentAttributes"]
    return sorted(folder.glob("*.nii.gz")), [segment["SegmentLabel"] for (segment,) in segments]


def check(series: Path, tmp_path: Path) -> None:
    """Every voxel of each label lies where ours is in the patient, to 0.01 mm, and no other does."""
    image = read_input(series)
    labels = np.zeros(image.shape, np.uint8)
    labels[1:3, 2:12, 3:9] = 1
    labels[2:5, 14:17, 3:9] = 2
    case = replace(image, boxes=np.zeros((2, 6)), label_names=NAMES)
    (seg,) = write_labels(case, labels, series, tmp_path, ("dicom-seg",))
    files, names = read_by_dcmqi(seg, tmp_path / "dcmqi")
    assert names == list(NAMES) and len(files) == 2
    for number, file in enumerate(files, start=1):
        found = read_label_map(file)
        theirs = found.geometry.mm_from_volume(np.argwhere(found.labels)[:, ::-1], "RAS")
        ours = image.geometry.mm_from_volume(np.argwhere(labels == number)[:, ::-1], "RAS")
        theirs, ours = (places[np.lexsort(places.round(2).T)] for places in (theirs, ours))
        assert theirs.shape == ours.shape and np.abs(theirs - ours).max() < 0.01


def test_segments_lie_where_they_were_made(tmp_path: Path) -> None:
    check(write_series(tmp_path / "scan", np.zeros((6, 24, 20), np.int16)), tmp_path)


def test_segments_of_a_real_oblique_series_lie_where_they_were_made(shared: Path, tmp_path: Path) -> None:
    check(shared / "data" / "dicom" / "MR_BRAINIX_FLAIR", tmp_path)

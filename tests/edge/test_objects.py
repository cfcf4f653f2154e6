"""Objects of a DICOM SEG or RTSTRUCT: each with its own box and name, on the images that it is of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="needs highdicom (extra dicom), which is not there")

from edge.data.convert import convert_labels
from edge.data.formats.dicom_seg import _segment
from edge.data.formats.dicom_series import quiet_pydicom
from edge.data.formats.dicom_source import read_source
from edge.data.formats.registry import read_input
from edge.data.objects import labels_of_case
from edge.data.outputs import write_labels
from edge.data.prompting import Prompting, prompted
from edge.data.scan import Reading
from edge.errors import CaseError, CaseWarning
from tests.edge.dicom_files import write_series
from tests.edge.test_outputs import LABELS, VOLUME, labelled_case


def structure_set(tmp_path: Path, folder: Path, boxes: list[tuple[int, int]], **changes: Any) -> Path:
    """A structure set of squares (first, last) in rows and columns on slices 1 to 3, a region each."""
    import pydicom

    case, parts = labelled_case(folder), []
    for first, last in boxes:
        labels = np.zeros(VOLUME.shape, np.uint8)
        labels[1:4, first : last + 1, first : last + 1] = 1
        one = replace(case, boxes=case.boxes[:1], label_names=(f"{first} to {last}",))
        (file,) = write_labels(one, labels, folder, tmp_path, ("rtstruct",))
        parts.append(pydicom.dcmread(file))
    whole = parts[0]
    for number, part in enumerate(parts, start=1):
        part.StructureSetROISequence[0].ROINumber = part.ROIContourSequence[0].ReferencedROINumber = number
    whole.StructureSetROISequence = [part.StructureSetROISequence[0] for part in parts]
    whole.ROIContourSequence = [part.ROIContourSequence[0] for part in parts]
    for key, value in changes.items():
        setattr(whole, key, value)
    whole.save_as(tmp_path / "plan.dcm", enforce_file_format=True)
    return tmp_path / "plan.dcm"


def test_regions_within_others_have_boxes_of_their_own(tmp_path: Path) -> None:
    """A target in a margin: a label map has one number for each voxel, and says so."""
    folder = write_series(tmp_path / "scan", VOLUME)
    plan_file = structure_set(tmp_path, folder, [(8, 11), (6, 14)])
    case = prompted(read_input(folder), folder, Prompting(boxes_from=plan_file))
    assert case.label_names == ("8 to 11", "6 to 14")
    assert case.boxes.tolist() == [[8, 8, 1, 11, 11, 3], [6, 6, 1, 14, 14, 3]]
    for order in ([(8, 11), (6, 14)], [(6, 14), (8, 11)]):
        plan_file = structure_set(tmp_path, folder, order)
        with pytest.warns(CaseWarning, match="objects in plan.dcm overlap in 48 voxels, which go to the smaller one"):
            labels = labels_of_case(read_input(folder), folder, plan_file)
        inner = 1 + order.index((8, 11))
        assert np.bincount(labels.ravel())[[inner, 3 - inner]].tolist() == [48, 3 * 81 - 48]
    twice = structure_set(tmp_path, folder, [(8, 11), (8, 11)])
    with pytest.raises(CaseError, match=r"^scan: in plan.dcm smaller objects cover all of 1, and a label map has one"):
        labels_of_case(read_input(folder), folder, twice)


def test_segments_that_overlap_have_boxes_of_their_own(tmp_path: Path) -> None:
    """As DICOM SEG may have them; frames without a voxel may be left out."""
    import highdicom
    import pydicom

    folder = write_series(tmp_path / "scan", VOLUME)
    case = replace(labelled_case(folder), label_names=("target", "margin"))
    source = read_source(folder, case)
    masks = np.zeros((*VOLUME.shape, 2), np.uint8)
    masks[1:4, 8:12, 8:12, 0] = masks[1:4, 6:15, 6:15, 1] = 1
    described = [_segment(case, row) for row in range(2)]
    with quiet_pydicom():
        segmentation = highdicom.seg.Segmentation(
            source.headers, masks, highdicom.seg.SegmentationTypeValues.BINARY, described, highdicom.UID(), 1,
            highdicom.UID(), 1, "test", "test", "1", "1",
        )  # fmt: skip
    segmentation.save_as(tmp_path / "overlap.dcm")
    found = prompted(read_input(folder), folder, Prompting(boxes_from=tmp_path / "overlap.dcm"))
    assert found.boxes.tolist() == [[8, 8, 1, 11, 11, 3], [6, 6, 1, 14, 14, 3]]
    other = write_series(tmp_path / "other", VOLUME)
    for file in sorted(other.iterdir()):
        data = pydicom.dcmread(file)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = highdicom.UID()
        data.save_as(file)
    with pytest.raises(CaseError, match=r"^other: overlap.dcm is a segmentation of other images"):
        prompted(read_input(other), other, Prompting(boxes_from=tmp_path / "overlap.dcm"))


def test_a_structure_set_of_other_images_is_refused_and_points_enclose_nothing(tmp_path: Path) -> None:
    """Another patient's contours may lie on these slices; a needle or an isocentre is no object."""
    import pydicom

    folder = write_series(tmp_path / "scan", VOLUME)
    plan_file = structure_set(tmp_path, folder, [(8, 11), (2, 4)])
    data = pydicom.dcmread(plan_file)
    for contour in data.ROIContourSequence[1].ContourSequence:
        contour.ContourGeometricType = "OPEN_PLANAR"
    point = data.ROIContourSequence[1].ContourSequence[0]
    point.ContourGeometricType, point.NumberOfContourPoints, point.ContourData = "POINT", 1, [0, 0, 0.9]
    data.save_as(plan_file)
    assert len(prompted(read_input(folder), folder, Prompting(boxes_from=plan_file)).boxes) == 1
    other = write_series(tmp_path / "other", VOLUME, FrameOfReferenceUID="1.2.3.4")
    with pytest.raises(CaseError, match=r"^other: plan.dcm is a structure set of other images \(another frame"):
        prompted(read_input(other), other, Prompting(boxes_from=plan_file))


def test_objects_keep_their_names_when_they_are_converted(tmp_path: Path) -> None:
    """From a structure set to DICOM SEG, and from there back; codes go by names."""
    import pydicom

    folder = write_series(tmp_path / "scan", VOLUME)
    case = replace(labelled_case(folder), label_names=("liver", "spleen"))
    (file,) = write_labels(case, LABELS, folder, tmp_path, ("rtstruct",))
    (seg,) = convert_labels(file, tmp_path, "dicom-seg", folder, Reading())
    assert [str(one.SegmentLabel) for one in pydicom.dcmread(seg).SegmentSequence] == ["liver", "spleen", "box 3"]
    (back,) = convert_labels(seg, tmp_path, "rtstruct", folder, Reading())
    assert [str(one.ROIName) for one in pydicom.dcmread(back).StructureSetROISequence] == ["liver", "spleen", "box 3"]


@pytest.mark.parametrize("kind", [None, "closed_planar"])
def test_contours_of_a_type_that_is_missing_or_in_small_letters_enclose_an_area(
    tmp_path: Path, kind: str | None
) -> None:
    """No valid DICOM, but an empty object would be worse."""
    import pydicom

    folder = write_series(tmp_path / "scan", VOLUME)
    data = pydicom.dcmread(plan_file := structure_set(tmp_path, folder, [(8, 11)]))
    for contour in data.ROIContourSequence[0].ContourSequence:
        del contour.ContourGeometricType
        if kind:
            contour.ContourGeometricType = kind
    data.save_as(plan_file)
    found = prompted(read_input(folder), folder, Prompting(boxes_from=plan_file))
    assert found.boxes.tolist() == [[8, 8, 1, 11, 11, 3]]

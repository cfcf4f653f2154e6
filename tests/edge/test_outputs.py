"""Label maps come out in the geometry of what came in: NIfTI, DICOM SEG, RTSTRUCT, what is said of them beside."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("pydicom", reason="needs pydicom (extra dicom), which is not there")
pytest.importorskip("highdicom", reason="needs highdicom (extra dicom), which is not there")

from edge.choices import FIXED
from edge.data.case import Case
from edge.data.convert import convert_case
from edge.data.formats.dicom_source import read_source
from edge.data.formats.registry import read_input, read_label_map, read_stored
from edge.data.formats.rtstruct import filled, outline
from edge.data.objects import labels_of_case
from edge.data.outputs import check_formats, parse_formats, write_labels
from edge.data.prompting import Prompting, boxes_of_labels, prompted
from edge.data.scan import Reading, mean_intensities
from edge.data.sidecar import describe
from edge.errors import CaseError, RunError
from edge.pipeline import Options
from edge.predict import Job, plan, predict_cases
from edge.segmenter import Segmenter
from tests.edge.dicom_files import write_series, write_slice

VOLUME = np.random.default_rng(0).integers(-500, 500, (6, 24, 20)).astype(np.int16)
LABELS = np.zeros(VOLUME.shape, np.uint8)
LABELS[1:5, 3:12, 4:15] = 1
LABELS[2, 5:8, 6:9] = 0  # a hole
LABELS[3, 3, 4] = LABELS[3, 5, 5] = 2
LABELS[0:2, 14:24, 0:9] = 3  # at the border


def labelled_case(path: Path) -> Case:
    boxes, _ = boxes_of_labels(LABELS)
    return replace(read_input(path), boxes=boxes, label_names=("liver", "left kidney", "tumour"))


@pytest.mark.parametrize("step", [2.0, -2.0])
@pytest.mark.parametrize(("kind", "ending"), [("dicom-seg", "_seg.dcm"), ("rtstruct", "_rtstruct.dcm")])
def test_dicom_labels_come_back_voxel_by_voxel(tmp_path: Path, kind: str, ending: str, step: float) -> None:
    """On the slices that they refer to, holes and single voxels included, whatever the order of the files."""
    import pydicom

    folder = write_series(tmp_path / "scan", VOLUME, step=step)
    case = labelled_case(folder)
    check_formats(case, folder, (kind,))
    (file,) = write_labels(case, LABELS, folder, tmp_path, (kind,))
    assert file.name == f"scan{ending}"
    assert np.array_equal(labels_of_case(case, folder, file), LABELS)
    assert prompted(read_input(folder), folder, Prompting(boxes_from=file)).label_names == case.label_names
    data = pydicom.dcmread(file)
    if kind == "dicom-seg":
        assert [segment.SegmentLabel for segment in data.SegmentSequence] == ["liver", "left kidney", "tumour"]
        types = [segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for segment in data.SegmentSequence]
        assert types == ["Liver", "Kidney", "Neoplasm"]
    else:
        assert [region.ROIName for region in data.StructureSetROISequence] == ["liver", "left kidney", "tumour"]
        contour = data.ROIContourSequence[1].ContourSequence[0]
        place = pydicom.dcmread(next(
            path for path in folder.iterdir()
            if pydicom.dcmread(path).SOPInstanceUID == contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        )).ImagePositionPatient  # fmt: skip
        assert float(contour.ContourData[2]) == float(place[2])  # contours of label 2 lie on the slice they name


def test_a_segmentation_lies_on_the_slices_of_another_reader(tmp_path: Path) -> None:
    """highdicom's own pixels, by the identifiers of the images in the order of their places."""
    import highdicom

    folder = write_series(tmp_path / "scan", VOLUME)
    case = labelled_case(folder)
    (file,) = write_labels(case, LABELS, folder, tmp_path, ("dicom-seg",))
    source = read_source(folder, case)
    ordered = sorted(source.headers, key=lambda header: float(header.ImagePositionPatient[2]))
    read = highdicom.seg.segread(file).get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in ordered], combine_segments=True
    )
    assert np.array_equal(read, LABELS)


def test_a_segmentation_without_an_object_and_one_of_a_picture(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan", VOLUME)
    case = labelled_case(folder)
    (file,) = write_labels(case, np.zeros_like(LABELS), folder, tmp_path, ("dicom-seg",))
    assert not labels_of_case(case, folder, file).any()
    pixels = np.arange(30, dtype=np.uint16).reshape(6, 5)
    picture = write_slice(tmp_path / "chest.dcm", pixels, None, Modality="CR")
    flat = replace(read_input(picture), boxes=np.array([[1.0, 2, 3, 4]]))
    labels = np.zeros((6, 5), np.uint8)
    labels[2:5, 1:4] = 1
    (file,) = write_labels(flat, labels, picture, tmp_path, ("dicom-seg",))
    assert np.array_equal(labels_of_case(flat, picture, file), labels)


def test_contours_along_the_edges_fill_the_mask_they_are_of() -> None:
    """Random masks, so that pixels touch at corners, have holes and lie at the border."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        mask = rng.random((7, 9)) > rng.random()
        inside = np.zeros_like(mask)
        for loop in outline(mask):
            inside ^= filled(loop, mask.shape)
        assert np.array_equal(inside, mask)
    square = np.zeros((5, 5), bool)
    square[1:4, 1:3] = True
    assert sorted(map(tuple, outline(square)[0].tolist())) == [(0.5, 0.5), (0.5, 3.5), (2.5, 0.5), (2.5, 3.5)]


def test_what_cannot_be_written_is_said_before_it_is_made(tmp_path: Path) -> None:
    """Volumes as PNG, DICOM labels of NIfTI, of images without identifiers, an unknown word."""
    folder = write_series(tmp_path / "scan", VOLUME)
    case = labelled_case(folder)
    with pytest.raises(CaseError, match=r"^scan: png is for flat images"):
        check_formats(case, folder, ("png",))
    nibabel.save(nibabel.nifti1.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "MR.nii")
    with pytest.raises(CaseError, match=r"^MR: DICOM labels refer to DICOM images; choose --format nifti or npz"):
        check_formats(read_input(tmp_path / "MR.nii"), tmp_path / "MR.nii", ("rtstruct",))
    turned = read_input(tmp_path / "MR.nii", Reading(plane="coronal"))
    with pytest.raises(CaseError, match=r"^MR: an \.npz does not say that its slices are coronal.* --format nifti"):
        check_formats(turned, tmp_path / "MR.nii", ("nifti", "npz"))
    check_formats(turned, tmp_path / "MR.nii", ("nifti",))
    check_formats(read_input(tmp_path / "MR.nii", Reading(plane="axial")), tmp_path / "MR.nii", ("npz",))
    write_series(folder, VOLUME, SeriesInstanceUID="")
    with pytest.raises(CaseError, match=r"^scan: .*dcm has no SeriesInstanceUID, .*choose --format nifti"):
        check_formats(labelled_case(folder), folder, ("dicom-seg",))
    with pytest.raises(RunError, match="--format must be of npz, png, nifti, dicom-seg, rtstruct, got 'tiff'"):
        parse_formats(["npz,tiff"])
    assert parse_formats(["npz,nifti", "npz"]) == ("npz", "nifti") and parse_formats(None) is None


def test_nifti_dicom_and_npz_of_one_scan_get_the_same_labels(tmp_path: Path, tiny_model: Path, shared: Path) -> None:
    """The oblique MR series, written as NIfTI in two orientations by SimpleITK, and converted; a box in mm."""
    itk = pytest.importorskip("SimpleITK", reason="needs SimpleITK (extra itk), which is not there")
    series = shared / "data" / "dicom" / "MR_BRAINIX_FLAIR"
    case = read_input(series)
    assert case.geometry is not None
    ends = case.geometry.mm_from_volume(np.array([[60, 70, 8], [190, 200, 11]]), "LPS")
    low, high = ends.min(axis=0), ends.max(axis=0)
    line = dict(zip(("x_min", "y_min", "z_min", "x_max", "y_max", "z_max"), [*low, *high], strict=True))
    (tmp_path / "boxes.json").write_text(json.dumps({"units": "LPS", "boxes": [line]}))
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    paths = [series]
    for codes in ("RAS", "PIR"):
        paths.append(tmp_path / f"MR_{codes}.nii.gz")
        itk.WriteImage(itk.DICOMOrient(image, codes), str(paths[-1]))
    prompting = Prompting(boxes=tmp_path / "boxes.json")
    paths += convert_case(series, tmp_path, "npz", Reading(), prompting)
    segmenter = Segmenter(tiny_model, options=Options(method=FIXED))
    job = Job(prompting=prompting, formats=("npz",))
    done = [*predict_cases(paths[:3], tmp_path / "out", lambda: segmenter, job=job)]
    done += predict_cases(paths[3:], tmp_path / "npz", lambda: segmenter)
    assert [one.error for one in done] == [None] * 4
    found = [
        read_label_map(tmp_path / "out" / f"{name}.npz").labels for name in ("MR_BRAINIX_FLAIR", "MR_RAS", "MR_PIR")
    ]
    found.append(read_label_map(tmp_path / "npz" / "MR_BRAINIX_FLAIR.npz").labels)
    assert found[0].any() and all(np.array_equal(one, found[0]) for one in found[1:])


def test_a_label_map_comes_last(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case counts as done where that is there: whoever is killed, or has a full disk, before it begins again."""
    nibabel.save(nibabel.nifti1.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "MR_1.nii.gz")
    (tmp_path / "MR_1.csv").write_text("0,0,0,3,3,2\n")
    there: list[list[str]] = []
    out = tmp_path / "out"

    def fails(*given: Any) -> None:
        there.append(sorted(path.name for path in out.iterdir()))
        raise RunError("disk full")

    segmenter = Segmenter(tiny_model, options=Options(method=FIXED))
    monkeypatch.setattr("edge.predict.write_labels", fails)
    job = Job(overlay=True)
    (found,) = predict_cases([tmp_path / "MR_1.nii.gz"], out, lambda: segmenter, job=job)
    assert found.error == "disk full" and there == [["MR_1.json", "MR_1.png"]]
    monkeypatch.undo()
    pending, done = plan(tmp_path, out, overwrite=False)
    assert pending == [tmp_path / "MR_1.nii.gz"] and done == []
    assert [one.error for one in predict_cases(pending, out, lambda: segmenter, job=job)] == [None]
    assert json.loads((out / "MR_1.json").read_text())["Files"] == ["MR_1.nii.gz"]


def test_labels_lie_on_the_voxels_and_a_file_says_what_they_are(tmp_path: Path, tiny_model: Path) -> None:
    """NIfTI in, NIfTI out: the filled box in the file's own indices; volumes in ml; done once; shards are disjoint."""
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    affine = np.array([[0, 0, -1.5, 9], [0, -0.5, 0, 2], [2, 0, 0, -4], [0, 0, 0, 1.0]])
    voxels = np.random.default_rng(0).integers(1, 900, (5, 256, 256)).astype(np.int16)
    for number in range(5):
        nibabel.save(nibabel.nifti1.Nifti1Image(voxels, affine), inputs / f"MR_{number}.nii.gz")
        (inputs / f"MR_{number}.csv").write_text(
            "x_min,y_min,z_min,x_max,y_max,z_max,label\n1,40,100,3,60,120,left kidney\n"
        )
    segmenter, parts = Segmenter(tiny_model, options=Options(method=FIXED)), []
    for part in (1, 2, 3):
        pending, done = plan(inputs, outputs, overwrite=False, shard=(part, 3))
        assert done == []
        assert [one.error for one in predict_cases(pending, outputs, lambda: segmenter)] == [None] * len(pending)
        parts.append(pending)
        assert plan(inputs, outputs, overwrite=False, shard=(part, 3)) == ([], pending)
    assert sorted([*parts[0], *parts[1], *parts[2]]) == sorted(inputs.glob("*.nii.gz")) and len(parts[0]) == 2
    written = nibabel.load(outputs / "MR_0.nii.gz")
    expected: npt.NDArray = np.zeros(voxels.shape, np.uint8)
    expected[1:4, 40:61, 100:121] = 1
    assert np.array_equal(written.affine, affine) and np.array_equal(np.asarray(written.dataobj), expected)
    said = json.loads((outputs / "MR_0.json").read_text())
    (label,) = said["Labels"]
    assert label["Name"] == "left kidney" and label["Voxels"] == 3 * 21 * 21
    assert label["VolumeMl"] == round(3 * 21 * 21 * 1.5 / 1000, 4)
    assert label["MeanIntensity"] == pytest.approx(voxels[expected == 1].mean(), rel=1e-5)
    assert label["StabilityScore"] == 0 and said["Window"] is None  # the filler's logits are 1 and -1, never beyond
    assert said["Orientation"] == "SPL" and said["GeneratedBy"][0]["model"]["name"] == "box filler"
    assert sorted(path.suffix for path in outputs.iterdir()) == [".gz"] * 5 + [".json"] * 5


def test_mean_intensities_are_in_the_unit_of_the_file(tmp_path: Path) -> None:
    """By hand: stored 0 to 7 become -1000 + 2 * stored; NaN does not count, and a label without voxels has none."""
    stored = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    image = nibabel.nifti1.Nifti1Image(stored, np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header.set_slope_inter(2, -1000)
    nibabel.save(image, tmp_path / "CT_1.nii.gz")
    labels = np.zeros((2, 2, 2), np.uint8)  # of the volume (D, H, W)
    labels[1, 0, 1], labels[0, 1, 0] = 1, 3  # stored[1, 0, 1] = 5, stored[0, 1, 0] = 2
    scan = read_stored(tmp_path / "CT_1.nii.gz", Reading())
    assert mean_intensities(scan, labels, 3) == [-990.0, None, -996.0]
    labels[:, :, 0] = 1
    with_nan = np.where(stored == 0, np.nan, stored)  # 0, 2 and 1, 3 are stored[0]; 5 is there already
    assert mean_intensities(replace(scan, array=with_nan), labels, 1) == [-1000 + 2 * (2 + 1 + 3 + 5) / 4]


@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 1), (24, 20, 6, 1)])
def test_label_maps_have_the_shape_of_their_nifti_file(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Of two axes, or with a single volume along a fourth."""
    stored = np.random.default_rng(0).integers(1, 900, shape).astype(np.int16)
    nibabel.save(nibabel.nifti1.Nifti1Image(stored, np.diag([2.0, 2.0, 3.0, 1.0])), tmp_path / "MR_1.nii.gz")
    case = read_input(tmp_path / "MR_1.nii.gz")
    labels = np.zeros(case.shape, np.uint8)
    labels[..., 2:5, 3:9] = 1
    (tmp_path / "out").mkdir()
    (file,) = write_labels(case, labels, tmp_path / "MR_1.nii.gz", tmp_path / "out", ("nifti",))
    written: Any = nibabel.loadsave.load(file)
    assert written.shape == shape and int(np.asarray(written.dataobj).sum()) == int(labels.sum())
    assert np.array_equal(labels_of_case(case, tmp_path / "MR_1.nii.gz", file), labels)


def test_areas_and_volumes_of_microns_are_no_zero(tmp_path: Path) -> None:
    """48,000 voxels of a cubic micron each."""
    image = nibabel.nifti1.Nifti1Image(np.ones((40, 60, 20), np.int16), np.diag([1e-3, 1e-3, 1e-3, 1.0]))
    nibabel.save(image, tmp_path / "Microscopy_1.nii.gz")
    case = replace(read_input(tmp_path / "Microscopy_1.nii.gz"), boxes=np.array([[0.0, 0, 0, 39, 59, 19]]))
    content = describe(case, np.ones(case.shape, np.uint8), "", [], {"model": {"name": "m"}}, 1.0)
    assert content["Labels"][0]["VolumeMl"] == 4.8e-8


def test_an_overlay_is_not_written_over_the_labels_of_another_case(tmp_path: Path, tiny_model: Path) -> None:
    """Of pictures called a and a_labels."""
    for name in ("a", "a_labels"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((40, 40), np.uint8))
    paths = [tmp_path / "a.png", tmp_path / "a_labels.png"]
    job = Job(prompting=Prompting(box="3,3,20,20"), formats=("png",), overlay=True)
    first, second = predict_cases(paths, tmp_path / "out", lambda: Segmenter(tiny_model), job=job)
    assert first.error is None and second.error == (
        "a_labels: its overlay would be called as labels of another case are; rename it"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "a_labels.png"]


def test_a_picture_for_people_is_no_part_of_a_cases_time(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are compared with and without --overlay."""
    nibabel.save(nibabel.nifti1.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "MR_1.nii.gz")
    (tmp_path / "MR_1.csv").write_text("0,0,0,3,3,2\n")
    segmenter = Segmenter(tiny_model, options=Options(method=FIXED))
    list(predict_cases([tmp_path / "MR_1.nii.gz"], tmp_path / "warm", lambda: segmenter))
    monkeypatch.setattr("edge.masks.overlay.write_overlay", lambda *_: time.sleep(5))
    (found,) = predict_cases([tmp_path / "MR_1.nii.gz"], tmp_path / "out", lambda: segmenter, job=Job(overlay=True))
    assert found.error is None and found.total_s < 5 and found.stage_s["save"] < 5
    assert found.total_s == pytest.approx(sum(found.stage_s.values()), abs=0.5)

"""DICOM series in any order and of any kind; what is wrong with one is one line that names the files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("pydicom", reason="needs pydicom (extra dicom), which is not there")

from edge.data.formats.dicom_order import in_order
from edge.data.formats.dicom_series import Header
from edge.data.formats.dicom_source import read_source
from edge.data.formats.finding import find_inputs
from edge.data.formats.registry import read_input, read_label_map, read_scan
from edge.data.names import case_name
from edge.data.objects import names_of_labels
from edge.data.outputs import write_labels
from edge.data.scan import Reading
from edge.data.sidecar import describe
from edge.errors import CaseError
from tests.edge.dicom_files import AXIAL, write_series, write_slice

VOLUME = np.random.default_rng(0).integers(0, 2000, (4, 6, 5)).astype(np.int16)


def intensities(path: Path, **reading: Any) -> npt.NDArray[np.float64]:
    """What a reader gives in the volume's order."""
    scan = read_scan(path, Reading(**reading))
    return scan.geometry.to_volume(scan.array) * scan.slope + scan.intercept


def test_slices_lie_where_they_say_whatever_the_files_are_called(tmp_path: Path) -> None:
    """Names against the order of places; the folder, and any file of it, are the series."""
    folder = write_series(tmp_path / "scan", VOLUME)
    case = read_input(folder)
    assert case.name == "scan" and case.modality == "CT" and case.notes == ()
    assert case.spacing_mm == (2.0, 0.5, 0.75)
    assert np.array_equal(intensities(folder), VOLUME)
    assert np.array_equal(intensities(folder / "003.dcm"), VOLUME)
    assert case.geometry is not None
    assert np.allclose(case.geometry.mm_from_volume(np.array([[1, 2, 3]]), "LPS"), [[5.75, -6, -4]])
    assert find_inputs(tmp_path, recursive=True) == [folder] == find_inputs(folder)


def test_slope_and_intercept_of_all_and_of_each_slice(tmp_path: Path) -> None:
    """PET scales each slice on its own."""
    folder = write_series(tmp_path / "ct", VOLUME, RescaleSlope="2", RescaleIntercept="-1024")
    assert np.array_equal(intensities(folder), VOLUME * 2.0 - 1024)
    folder = write_series(tmp_path / "pet", VOLUME, Modality="PT")
    for index in range(len(VOLUME)):
        place = (5.0, -7.0, -10 + 2.0 * index)
        write_slice(folder / f"{4 - index:03}.dcm", VOLUME[index], place, Modality="PT", RescaleSlope=str(index + 0.5))
    assert np.allclose(intensities(folder), VOLUME * (np.arange(4) + 0.5)[:, None, None])


def test_several_series_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    """Each is a case called by its first file; the folder alone is refused, with files to give."""
    folder = write_series(tmp_path / "scan", VOLUME)
    for index in range(3):
        write_slice(
            folder / f"b{index}.dcm", VOLUME[index], (0, 0, 3.0 * index), SeriesInstanceUID="1.2.3", Modality="MR"
        )
    write_slice(folder / "scout.dcm", VOLUME[0], (0, 0, 0), ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    write_slice(folder / "report.dcm", VOLUME[0], None, Modality="CT").write_bytes(b"no DICOM at all")
    found = find_inputs(folder)
    assert [path.name for path in found] == ["001.dcm", "b0.dcm", "report.dcm", "scout.dcm"]
    assert [read_input(path).image.shape for path in (found[0], found[1], found[3])] == [
        (4, 6, 5),
        (3, 6, 5),
        (6, 5, 3),
    ]
    (folder / "report.dcm").unlink()
    with pytest.raises(
        CaseError, match=r"^scan: holds 3 series; give a file of the one that is meant, such as 001.dcm"
    ):
        read_input(folder)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", r"slices are missing between 003.dcm and 001.dcm, 4.00 mm apart where 2.00 are usual"),
        ("twice", r"002.dcm and copy.dcm lie at the same place \(1 such pairs\): duplicates, or several phases"),
        ("uneven", r"slices are unevenly spaced, 1.70 mm \(.*\) to 2.30 mm"),
        ("tilted", r"slices are shifted against each other, 14.0 degrees \(tilted gantry\)"),
        ("size", r"holds 2 series"),
        ("spacing", r"PixelSpacing is missing or not two positive numbers"),
        ("beside", r"004.dcm lies 15.00 mm beside the line of the other slices"),
        ("pixels", r"its slices have pixels of several sizes \(PixelSpacing\)"),
    ],
)
def test_a_series_that_is_no_volume_says_why(tmp_path: Path, name: str, says: str) -> None:
    """One line, with the files."""
    folder = write_series(tmp_path / "scan", np.concatenate([VOLUME, VOLUME])[:6])
    if name == "missing":
        (folder / "002.dcm").unlink()
    elif name == "twice":
        (folder / "copy.dcm").write_bytes((folder / "002.dcm").read_bytes())
    elif name == "uneven":
        write_slice(folder / "003.dcm", VOLUME[0], (5, -7, -3.7))
    elif name == "tilted":
        for index in range(6):
            write_slice(folder / f"{6 - index:03}.dcm", VOLUME[0], (5, -7 + 0.5 * index, -10 + 2 * index))
    elif name == "size":
        write_slice(folder / "003.dcm", VOLUME[0, :4].copy(), (5, -7, -4))
    elif name == "beside":
        write_slice(folder / "004.dcm", VOLUME[0], (20, -7, -6))
    elif name == "pixels":
        write_slice(folder / "004.dcm", VOLUME[0], (5, -7, -6), PixelSpacing=[0.5, 0.8])
    elif name == "spacing":
        write_series(folder, np.concatenate([VOLUME, VOLUME])[:6], PixelSpacing=None)
    with pytest.raises(CaseError, match=f"^scan: {says}") as caught:
        read_input(folder)
    assert "\n" not in str(caught.value)


def test_single_pictures_are_flat(tmp_path: Path) -> None:
    """MONOCHROME1 is turned round; colours stay; neither needs a place."""
    pixels = np.arange(30, dtype=np.uint16).reshape(6, 5) * 100
    dark = read_input(
        write_slice(tmp_path / "a.dcm", pixels, None, Modality="CR", PhotometricInterpretation="MONOCHROME1")
    )
    light = read_input(write_slice(tmp_path / "b.dcm", pixels, None, Modality="CR"))
    assert light.modality == "X-Ray" and not light.is_volume and light.image.shape == (6, 5, 3)
    assert light.image[0, 0, 0] == 0 and light.image[-1, -1, 0] == 255
    assert np.abs(dark.image.astype(int) + light.image - 255).max() <= 1
    colours = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    assert np.array_equal(read_input(write_slice(tmp_path / "c.dcm", colours, None, Modality="US")).image, colours)


def test_frames_of_one_file_lie_where_they_say(tmp_path: Path) -> None:
    """An enhanced MR with its frames in another order; a film without places is slices in a row, which is told."""
    from pydicom.dataset import Dataset

    order = [2, 0, 3, 1]
    groups = []
    for place in order:
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [5.0, -7.0, 3.0 * place]
        group.PlanePositionSequence = [position]
        groups.append(group)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient, measures.PixelSpacing, measures.SliceThickness = list(AXIAL), [0.5, 0.75], 3.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    frames = VOLUME[order]
    changes = {"NumberOfFrames": 4, "PixelData": frames.tobytes(), "Modality": "MR"}
    write_slice(tmp_path / "film.dcm", VOLUME[0], None, **changes)
    film = read_input(tmp_path / "film.dcm")
    assert np.array_equal(intensities(tmp_path / "film.dcm"), frames) and "one after the other" in str(film.notes[0])
    places = {"PerFrameFunctionalGroupsSequence": groups, "SharedFunctionalGroupsSequence": [shared]}
    write_slice(tmp_path / "mr.dcm", VOLUME[0], None, **changes, **places)
    assert np.array_equal(intensities(tmp_path / "mr.dcm"), VOLUME)
    assert read_input(tmp_path / "mr.dcm").spacing_mm == (3.0, 0.5, 0.75)


def test_without_pydicom_dicom_is_one_case_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And costs the others nothing."""
    write_series(tmp_path / "mix", VOLUME)
    cv2.imwrite(str(tmp_path / "mix" / "a.png"), np.arange(100, dtype=np.uint8).reshape(10, 10))
    monkeypatch.setattr("edge.data.formats.dicom_series.find_spec", lambda _: None)
    folder, *paths = find_inputs(tmp_path / "mix")
    assert (
        folder == tmp_path / "mix" and paths == [tmp_path / "mix" / "a.png"] and read_input(paths[0]).shape == (10, 10)
    )
    with pytest.raises(CaseError, match=r"^mix: reading DICOM needs pydicom: pip install 'samedge\[dicom\]'"):
        read_input(folder)


def test_a_header_with_a_value_that_nobody_can_read_is_referred_to(tmp_path: Path) -> None:
    """In a tag that nobody needs."""
    pytest.importorskip("highdicom", reason="needs highdicom (extra dicom), which is not there")
    import pydicom

    series = write_series(tmp_path / "a", VOLUME)
    for file in series.iterdir():
        data = pydicom.dcmread(file)
        data.add_new(0x00189306, "OB", b"abc")
        data.save_as(file)
        content = file.read_bytes()
        file.write_bytes(content.replace(b"\x18\x00\x06\x93OB\0\0\x04\0\0\0", b"\x18\x00\x06\x93FD\x04\0", 1))
    case, labels = read_input(series), np.ones((4, 6, 5), np.uint8)
    named = replace(case, boxes=np.zeros((1, 6)), label_names=("a",))
    assert len(write_labels(named, labels, series, tmp_path, ("dicom-seg", "rtstruct"))) == 2


def test_a_file_called_by_a_uid_has_all_of_it_for_a_name(tmp_path: Path) -> None:
    """The digits after its last dot are no ending: two such files are two cases."""
    names = ("1.2.840.113619.2.55.11", "1.2.840.113619.2.55.12")
    for number, name in enumerate(names):
        write_slice(tmp_path / name, VOLUME[0], None, Modality="CR", SeriesInstanceUID=f"1.2.{number}")
    assert [case_name(path) for path in find_inputs(tmp_path)] == list(names)
    assert [case_name(Path(name)) for name in ("a.nii.gz", "scan_0.5.npz", "x.DCM")] == ["a", "scan_0.5", "x"]


def test_what_a_mac_leaves_beside_files_is_no_slice(tmp_path: Path) -> None:
    """AppleDouble files, on a stick or out of an archive."""
    folder = write_series(tmp_path / "a", VOLUME)
    (folder / "._001.dcm").write_bytes(b"\0\x05\x16\x07" + bytes(200))
    assert np.array_equal(intensities(folder), VOLUME)


@pytest.mark.parametrize("modality", ["US", "CT"])
def test_frames_without_places_get_no_segmentation(tmp_path: Path, modality: str) -> None:
    """Whether of a class of several frames or not: one frame would be kept. It is said before anything is segmented."""
    film = write_slice(
        tmp_path / "film.dcm", VOLUME[0], None, NumberOfFrames=4, PixelData=VOLUME.tobytes(), Modality=modality
    )
    check = read_source(film, read_input(film)).check
    with pytest.raises(CaseError, match=r"film: its frames have no places of their own.*choose --format nifti"):
        check(("dicom-seg",))
    check(("nifti",))


@pytest.mark.parametrize("characters", ["", "ISO_IR 100"])
def test_names_in_any_script_are_kept(tmp_path: Path, characters: str) -> None:
    """Whatever the images' own characters are; the patient's name stays what it was."""
    import pydicom

    said = {"SpecificCharacterSet": characters, "PatientName": "Müller^Jörg"} if characters else {}
    species = pydicom.Dataset()
    species.CodeValue, species.CodingSchemeDesignator, species.CodeMeaning = "1", "99TEST", "Hündin"
    if characters:
        said["PatientSpeciesCodeSequence"] = [species]
    series = write_series(tmp_path / "scan", np.zeros((5, 24, 20), np.int16), **said)
    pytest.importorskip("highdicom", reason="needs highdicom (extra dicom), which is not there")
    case = read_input(series)
    labels = np.zeros(case.shape, np.uint8)
    labels[..., 2:12, 3:9] = 1
    named = replace(case, boxes=np.zeros((1, 6)), label_names=("肝 Größe",))
    for file in write_labels(named, labels, series, tmp_path, ("dicom-seg", "rtstruct")):
        assert names_of_labels(file) == {1: "肝 Größe"}
        written = pydicom.dcmread(file)
        assert str(written.PatientName) == ("Müller^Jörg" if characters else "Test")
        assert [one.CodeMeaning for one in written.get("PatientSpeciesCodeSequence", [])] in ([], ["Hündin"])


def test_a_file_of_one_frame_says_in_its_groups_what_others_say_of_themselves(tmp_path: Path) -> None:
    """Alone it is flat, with its scale and place; many of them are the slices of a volume."""
    from pydicom.dataset import Dataset

    for index in range(4):
        own, shared, plane, measures, position, scale = (Dataset() for _ in range(6))
        position.ImagePositionPatient, scale.RescaleSlope, scale.RescaleIntercept = [5.0, -7.0, 3.0 * index], 2, -1024
        own.PlanePositionSequence, own.PixelValueTransformationSequence = [position], [scale]
        plane.ImageOrientationPatient, measures.PixelSpacing, measures.SliceThickness = list(AXIAL), [0.5, 0.75], 3.0
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
        groups = {"PerFrameFunctionalGroupsSequence": [own], "SharedFunctionalGroupsSequence": [shared]}
        changes = {"NumberOfFrames": 1, "PixelSpacing": None, **groups}
        write_slice(tmp_path / f"{4 - index}.dcm", VOLUME[index], None, **changes)
    assert np.array_equal(intensities(tmp_path), VOLUME * 2.0 - 1024)
    case = read_input(tmp_path)
    assert case.spacing_mm == (3.0, 0.5, 0.75) and case.geometry is not None
    assert np.allclose(case.geometry.mm_from_volume(np.array([[1, 2, 3]]), "LPS"), [[5.75, -6, 9]])
    (tmp_path / "alone").mkdir()
    (tmp_path / "2.dcm").rename(tmp_path / "alone" / "2.dcm")
    scan = read_scan(tmp_path / "alone" / "2.dcm", Reading())
    assert scan.flat and (scan.slope, scan.intercept) == (2, -1024)
    assert np.allclose(scan.geometry.mm_from_volume(np.array([[1, 2, 0]]), "LPS"), [[5.75, -6, 6]])


@pytest.mark.parametrize("series", ["CT_TotalSegmentator_example", "MR_BRAINIX_FLAIR"])
def test_real_series_are_what_simpleitk_reads(shared: Path, series: str, tmp_path: Path) -> None:
    """Intensities and places, JPEG 2000 and oblique; as NIfTI it is the same volume, whose labels lie on its voxels."""
    itk = pytest.importorskip("SimpleITK", reason="needs SimpleITK (extra itk), which is not there")
    folder = shared / "data" / "dicom" / series
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    case, scan = read_input(folder), read_scan(folder, Reading())
    assert np.array_equal((scan.array * scan.slope + scan.intercept).T, itk.GetArrayFromImage(image))
    corner = [length - 1 for length in image.GetSize()]
    assert case.geometry is not None
    ours = case.geometry.mm_from_volume(np.array([[0, 0, 0], corner]), "LPS")
    theirs = [image.TransformIndexToPhysicalPoint(index) for index in ([0, 0, 0], corner)]
    assert np.allclose(ours, theirs, atol=1e-3)
    itk.WriteImage(image, str(tmp_path / f"{series}.nii.gz"))
    again = read_input(tmp_path / f"{series}.nii.gz", Reading(modality=case.modality))
    assert np.array_equal(again.image, case.image)
    labels = (case.image // 100).astype(np.uint8)
    (file,) = write_labels(case, labels, folder, tmp_path, ("nifti",))
    assert np.array_equal(read_label_map(file).labels, labels)
    there = itk.ReadImage(str(file))
    assert np.array_equal(itk.GetArrayFromImage(there), labels) and np.allclose(
        there.GetOrigin(), image.GetOrigin(), atol=1e-3
    )


def test_an_orientation_that_trembles_in_its_last_digits_is_one(tmp_path: Path) -> None:
    """Wherever it would be rounded; one that is turned by a hundredth is another series."""
    for z in range(6):
        tremble = 1e-6 if z % 2 else -1e-6
        turned = [1.0, 0.0005 + tremble, 0.0, 0.0, 1.0, 0.0]
        pixels = np.full((8, 9), 100 + z, np.int16)
        write_slice(tmp_path / f"{z}.dcm", pixels, (5.0, -7.0, 2.0 * z), ImageOrientationPatient=turned)
    assert find_inputs(tmp_path) == [tmp_path]
    assert read_input(tmp_path).shape == (6, 8, 9)
    other = [1.0, 0.01, 0.0, -0.01, 1.0, 0.0]
    write_slice(tmp_path / "9.dcm", np.full((8, 9), 100, np.int16), (5.0, -7.0, 99.0), ImageOrientationPatient=other)
    assert [path.name for path in find_inputs(tmp_path)] == ["0.dcm", "9.dcm"]


@pytest.mark.parametrize(("stated", "thickness", "told"), [(1.0, 1.0, True), (2.0, 2.0, False), (0.5, 2.0, False)])
def test_slices_that_lie_farther_apart_than_stated_are_told(
    tmp_path: Path, stated: float, thickness: float, told: bool
) -> None:
    """2 mm; a distance below the thickness may be the gap between slices."""
    write_series(tmp_path / "scan", VOLUME, SpacingBetweenSlices=stated, SliceThickness=thickness)
    notes = [str(note) for note in read_input(tmp_path / "scan").notes]
    assert notes == (["slices lie farther apart than the header says; are some missing? (2 of 1 mm)"] if told else [])


def test_colours_of_sixteen_bits_are_shown(tmp_path: Path) -> None:
    """Alone and as a film, of as many bits as are stored."""
    pixels = np.random.default_rng(0).integers(0, 2**12, (6, 5, 3), dtype=np.uint16)
    path = write_slice(tmp_path / "a.dcm", pixels, None, Modality="US", BitsStored=12, HighBit=11)
    assert np.array_equal(read_input(path).image, pixels >> 4)


@pytest.mark.parametrize("kind", ["picture", "film"])
def test_what_has_no_size_has_no_area(tmp_path: Path, kind: str) -> None:
    """No square millimetres, and no millilitres of slices that lie nowhere."""
    changes = (
        {"NumberOfFrames": 2, "PixelData": VOLUME[:2].tobytes(), "SliceThickness": None}
        if kind == "film"
        else {"PixelSpacing": None}
    )
    path = write_slice(tmp_path / "a.dcm", VOLUME[0], None, Modality="US", **changes)
    case = read_input(path)
    case = replace(case, boxes=np.array([[1, 1, 0, 3, 3, 1] if kind == "film" else [1, 1, 3, 3]], float))
    said = describe(case, np.ones(case.shape, np.uint8), "a.dcm", [], {}, 0.0)
    assert any("areas and volumes are left out" in note for note in said["Notes"])
    assert not {"AreaMm2", "VolumeMl"} & set(said["Labels"][0])
    sized = replace(
        read_input(write_slice(tmp_path / "b.dcm", VOLUME[0], None, Modality="US")), boxes=case.boxes[:, :4]
    )
    if kind == "picture":
        assert describe(sized, np.ones((6, 5)), "b.dcm", [], {}, 0.0)["Labels"][0]["AreaMm2"] == 30 * 0.5 * 0.75


def test_a_series_in_a_folder_within_is_pointed_at(tmp_path: Path) -> None:
    """As an export of a study lies on a disk."""
    write_series(tmp_path / "study" / "ct", VOLUME)
    with pytest.raises(CaseError, match=r"there is DICOM in .*study/ct: give that folder, or --recursive"):
        find_inputs(tmp_path / "study")
    assert find_inputs(tmp_path / "study", recursive=True) == [tmp_path / "study" / "ct"]


@pytest.mark.parametrize("steps", [[1.0] * 50 + [1.02] * 50, [3.0] * 20 + [3.04] * 20])
def test_distances_that_drift_are_no_slices_beside_the_line(tmp_path: Path, steps: list[float]) -> None:
    """As scanners state them: each is as far from the last as may be, and all lie on one line."""
    headers = [
        Header(tmp_path / f"{number}.dcm", {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": AXIAL})
        for number, z in enumerate(np.cumsum([0.0, *steps]))
    ]
    ordered, step = in_order("scan", headers)
    assert ordered == headers and step[2] == pytest.approx(np.mean(steps))


def test_frames_with_a_size_have_volumes(tmp_path: Path) -> None:
    """Nuclear medicine states pixel and distance, though no place."""
    frames = {"NumberOfFrames": 2, "PixelData": VOLUME[:2].tobytes(), "SpacingBetweenSlices": 4}
    case = read_input(write_slice(tmp_path / "a.dcm", VOLUME[0], None, Modality="PT", **frames))
    assert case.spacing_mm == (4, 0.5, 0.75) and not any("left out" in str(note) for note in case.notes)

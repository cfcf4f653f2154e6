"""One registry of files for every command: found, checked, scored, converted, told about."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from edge.cli import app
from edge.data.check import check_case
from edge.data.convert import convert_all
from edge.data.formats.finding import find_inputs
from edge.data.formats.registry import read_input, read_label_map, read_with_truth
from edge.data.inspect import inspect
from edge.data.names import case_name
from edge.data.outputs import write_labels
from edge.data.picture_size import announced_size
from edge.data.prompting import Prompting
from edge.data.scan import Reading
from edge.errors import CaseError
from edge.scoring.evaluate import evaluate
from tests.edge.dicom_files import write_series

AFFINE = np.diag([-1.0, -2.0, 3.0, 1.0])
VOXELS = np.random.default_rng(0).integers(1, 900, (30, 40, 5)).astype(np.int16)
TRUTH = np.zeros(VOXELS.shape, np.uint8)
TRUTH[5:15, 10:30, 1:4] = 3
TRUTH[20:25, 10:30, 2] = 7


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.nifti1.Nifti1Image(array, affine), path)
    return path


def test_a_folder_of_everything_is_found_in_name_order(tmp_path: Path) -> None:
    """Truths are no cases; a picture named like a scan is a view of it; what is of no kind is passed over."""
    for name in ("MR_b.nii.gz", "MR_b_gt.nii.gz", "MR_c.nii"):
        write_nifti(tmp_path / name, VOXELS)
    for name in ("a.webp", "MR_b.png", "d.tif", "d_gt.tif"):
        cv2.imwrite(str(tmp_path / name), np.zeros((9, 9), np.uint8))
    for name in ("x.csv", "notes.txt", "README", "e.npz", ".hidden.nii"):
        (tmp_path / name).write_bytes(b"anything")
    assert [path.name for path in find_inputs(tmp_path)] == ["MR_b.nii.gz", "MR_c.nii", "a.webp", "d.tif", "e.npz"]
    with pytest.raises(CaseError, match=r"^notes: notes.txt is not .npz, a picture, NIfTI, DICOM, NRRD or MetaImage"):
        read_input(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda header: header["dim"].__setitem__(slice(0, 5), (4, 30, 40, 5, 2)), "holds 2 volumes .*--volume 0 to 1"),
        (lambda header: header["dim"].__setitem__(slice(0, 4), (3, 30000, 30000, 30000)), "declares .* GiB, the limit"),
        (lambda header: header["dim"].__setitem__(slice(0, 4), (3, 30, 400, 5)), "is cut short"),
        (lambda header: header["dim"].__setitem__(slice(0, 4), (3, 30, 0, 5)), "announces an empty image"),
        (lambda header: header.__setitem__("vox_offset", 2**30), "has its voxels at byte 1.07374e"),
        (
            lambda header: (header.__setitem__("datatype", 128), header.__setitem__("bitpix", 24)),
            "must hold real numbers",
        ),
        (lambda header: header.__setitem__("sizeof_hdr", 7), "not a NIfTI file of one piece"),
        (lambda header: header.__setitem__("srow_x", (np.nan, 0, 0, 0)), "affine has no finite voxel size"),
        (lambda header: header.__setitem__("srow_x", (-1, 0.9, 0, 0)), "degrees off right angles"),
    ],
)
def test_a_header_that_cannot_be_true_is_one_line(tmp_path: Path, change: object, says: str) -> None:
    """Whatever it announces is checked before anything is unpacked."""
    image = nibabel.nifti1.Nifti1Image(VOXELS, AFFINE)
    content = image.to_bytes()
    header = np.frombuffer(content[:348], nibabel.nifti1.header_dtype).copy()
    change(header[0])  # type: ignore[operator]
    (tmp_path / "MR.nii.gz").write_bytes(gzip.compress(header.tobytes() + content[348:]))
    with pytest.raises(CaseError, match=f"^MR: .*{says}") as caught:
        read_input(tmp_path / "MR.nii.gz")
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    """By the checksum at its end, which one cut there lacks."""
    whole = gzip.compress(nibabel.nifti1.Nifti1Image(VOXELS, AFFINE).to_bytes(), 0)
    flipped = bytearray(whole)
    flipped[2000] ^= 1
    for content in (bytes(flipped), whole[:-8]):
        (tmp_path / "MR.nii.gz").write_bytes(content)
        with pytest.raises(CaseError, match=r"^MR: MR\.nii\.gz cannot be read"):
            read_input(tmp_path / "MR.nii.gz")


@pytest.mark.parametrize(("unit", "factor"), [("micron", 0.001), ("meter", 1000), ("mm", 1), ("unknown", 1)])
def test_a_header_in_other_units_is_in_mm(tmp_path: Path, unit: str, factor: float) -> None:
    """Its voxels of 1 x 2 x 3 units; label maps of it keep the header's."""
    image = nibabel.nifti1.Nifti1Image(VOXELS, AFFINE)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "MR.nii.gz")
    case = read_input(tmp_path / "MR.nii.gz")
    assert case.spacing_mm == pytest.approx((3 * factor, 2 * factor, factor))
    write_labels(case, np.ones(case.shape, np.uint8), tmp_path / "MR.nii.gz", tmp_path, ("nifti",))
    written = nibabel.load(tmp_path / "MR.nii.gz")
    assert np.array_equal(written.affine, AFFINE) and written.header.get_xyzt_units()[0] == unit


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_label_map_is_read_in_its_images_order(tmp_path: Path, plane: str) -> None:
    """Whatever plane was asked for; by `evaluate` in that of the truth."""
    path = write_nifti(tmp_path / "MR.nii.gz", VOXELS)
    write_nifti(tmp_path / "MR_gt.nii.gz", TRUTH)
    case, usual = read_with_truth(path, Reading(plane=plane)), read_with_truth(path)
    assert case.truth is not None and usual.truth is not None and case.truth.shape == case.shape
    assert case.geometry is not None and np.array_equal(case.geometry.to_file(case.truth), TRUTH)


@pytest.mark.parametrize(("intercept", "dtype"), [(-45000, np.int16), (1000, np.int32)])
def test_intensities_beyond_the_stored_type_are_converted(tmp_path: Path, intercept: int, dtype: type) -> None:
    """40000 to 60000 less 45000, which 16 bits hold, or 1000 more, which they do not; no wider than that."""
    stored = (VOXELS.astype(np.uint16) % 200 * 100 + 40000).astype(np.uint16)
    image = nibabel.nifti1.Nifti1Image(stored, AFFINE)
    image.to_filename(tmp_path / "CT_a.nii")
    content = bytearray((tmp_path / "CT_a.nii").read_bytes())
    content[112:120] = np.array([1, intercept], np.float32).tobytes()  # scl_slope and scl_inter
    (tmp_path / "CT_a.nii").write_bytes(content)
    list(convert_all(tmp_path / "CT_a.nii", tmp_path / "hu", "nifti", Reading(), Prompting()))
    hu = nibabel.load(tmp_path / "hu" / "CT_a.nii.gz")
    assert np.array_equal(np.asarray(hu.dataobj), stored.astype(np.int64) + intercept)
    assert hu.get_data_dtype() == dtype


def test_of_several_volumes_one_is_chosen(tmp_path: Path) -> None:
    """Counted from 0; which one is told."""
    four = np.stack([VOXELS, VOXELS[::-1]], axis=-1)
    write_nifti(tmp_path / "MR.nii.gz", four)
    second = read_input(tmp_path / "MR.nii.gz", Reading(volume=1))
    assert np.array_equal(second.image, read_input(write_nifti(tmp_path / "MR_1.nii", VOXELS[::-1])).image)
    assert "volume 1 of 2" in str(second.notes[0])
    with pytest.raises(CaseError, match="--volume 2 is none of them"):
        read_input(tmp_path / "MR.nii.gz", Reading(volume=2))


def test_scores_do_not_depend_on_the_form_of_the_label_maps(tmp_path: Path) -> None:
    """NIfTI against NIfTI, in another orientation, against npz; one that lies elsewhere is named and scores 0."""
    pytest.importorskip("SimpleITK", reason="needs SimpleITK (extra itk), which is not there")
    import SimpleITK

    truth = np.where(TRUTH == 3, 1, np.where(TRUTH == 7, 2, 0)).astype(np.uint8)
    guess = np.roll(truth, 1, axis=0)
    write_nifti(tmp_path / "truths" / "CT_a.nii.gz", truth)
    write_nifti(tmp_path / "other" / "CT_a_gt.nii", truth)
    write_nifti(tmp_path / "other" / "CT_a.nii", VOXELS)
    turned = nibabel.as_closest_canonical(nibabel.nifti1.Nifti1Image(guess, AFFINE))
    write_nifti(tmp_path / "nifti" / "CT_a.nii.gz", np.asarray(turned.dataobj), turned.affine)
    shown = read_label_map(tmp_path / "nifti" / "CT_a.nii.gz").labels
    for folder, key, labels in (("npz", "segs", shown), ("npz_truths", "gts", shown)):
        (tmp_path / folder).mkdir()
        if key == "gts":
            labels = read_label_map(tmp_path / "truths" / "CT_a.nii.gz").labels
        np.savez(tmp_path / folder / "CT_a.npz", **{key: labels, "spacing": [1.0, 2.0, 3.0]})
    (tmp_path / "nrrd").mkdir()
    image = SimpleITK.ReadImage(str(tmp_path / "nifti" / "CT_a.nii.gz"))
    SimpleITK.WriteImage(image, str(tmp_path / "nrrd" / "CT_a.nrrd"))
    scores = [
        evaluate(tmp_path / segs, tmp_path / truths).cases[0]
        for segs in ("nifti", "npz", "nrrd")
        for truths in ("truths", "other", "npz_truths")
    ]
    assert [score.error for score in scores] == [None] * 9
    assert 0.5 < scores[0].dsc < 1 and len({(score.dsc, score.nsd, score.nsd_official) for score in scores}) == 1
    moved = AFFINE.copy()
    moved[2, 3] = 3
    write_nifti(tmp_path / "moved" / "CT_a.nii.gz", guess, moved)
    (score,) = evaluate(tmp_path / "moved", tmp_path / "truths").cases
    assert score.dsc == 0 and score.error and "lies 3.0 mm beside the truth" in score.error


def test_cases_check_says_what_is_odd_about_a_scan(tmp_path: Path) -> None:
    """No boxes; a truth that lies elsewhere; nothing."""
    path = write_nifti(tmp_path / "MR_a.nii.gz", VOXELS)
    assert [finding.key for finding in check_case(path)] == ["boxes"]
    truth = write_nifti(tmp_path / "MR_a_gt.nii.gz", np.where(TRUTH == 3, 1, 0).astype(np.uint8))
    assert check_case(path) == []
    write_nifti(truth, TRUTH, AFFINE + np.eye(4)[:, ::-1] * [0, 0, 0, 5])
    (finding,) = check_case(path)
    assert finding.key == "gts" and finding.severity == "error" and "beside the image" in finding.message
    write_nifti(tmp_path / "b.nii", VOXELS)
    (tmp_path / "b.csv").write_text("0,0,0,9,9,3\n")
    (finding,) = check_case(tmp_path / "b.nii")
    assert finding.severity == "warning" and "modality is stated nowhere" in finding.message


def test_cases_convert_goes_there_and_back(tmp_path: Path) -> None:
    """NIfTI to npz: greys, boxes around the truth's labels, spacing; back to NIfTI: the same voxels."""
    path = write_nifti(tmp_path / "in" / "MR_a.nii.gz", VOXELS)
    write_nifti(tmp_path / "in" / "MR_a_gt.nii.gz", TRUTH)
    assert [error for _, error in convert_all(path, tmp_path / "npz", "npz", Reading(), Prompting())] == [None]
    there = read_with_truth(tmp_path / "npz" / "MR_a.npz")
    scan = read_with_truth(path)
    assert scan.truth is not None and there.truth is not None
    assert np.array_equal(there.image, scan.image) and there.spacing_mm == (3.0, 2.0, 1.0)
    assert np.array_equal(there.truth == 2, scan.truth == 7)
    assert there.boxes.tolist() == [[5, 10, 1, 14, 29, 3], [20, 10, 2, 24, 29, 2]]
    done = list(convert_all(tmp_path / "npz", tmp_path / "back", "nifti", Reading(), Prompting()))
    assert [file.name for file, _ in done] == ["MR_a.nii.gz", "MR_a_gt.nii.gz", "MR_a.json"]
    again = read_label_map(tmp_path / "back" / "MR_a_gt.nii.gz")
    assert np.array_equal(again.labels, there.truth) and again.spacing_mm == there.spacing_mm
    image = nibabel.load(tmp_path / "back" / "MR_a.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj).T, there.image)
    assert len(json.loads((tmp_path / "back" / "MR_a.json").read_text())["boxes"]) == 2
    assert np.array_equal(read_input(tmp_path / "back" / "MR_a.nii.gz").image, there.image)  # not scaled once more


@pytest.mark.parametrize("intercept", [-1024, 0.5])
def test_a_converted_scan_keeps_its_intensities(tmp_path: Path, intercept: float) -> None:
    """HU of CT, whole numbers where they are; with a window, greys that are not windowed again when they are read."""
    path = tmp_path / "CT_a.nii"
    image = nibabel.nifti1.Nifti1Image(VOXELS.astype(np.int16), AFFINE)
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([2, intercept], np.float32).tobytes()  # scl_slope and scl_inter
    path.write_bytes(content)
    list(convert_all(path, tmp_path / "hu", "nifti", Reading(), Prompting()))
    hu = nibabel.load(tmp_path / "hu" / "CT_a.nii.gz")
    assert np.array_equal(np.asarray(hu.dataobj), VOXELS.astype(np.int16) * 2.0 + intercept)
    assert hu.get_data_dtype() == (np.int16 if intercept == -1024 else np.float64)
    assert np.array_equal(read_input(tmp_path / "hu" / "CT_a.nii.gz").image, read_input(path).image)
    list(convert_all(path, tmp_path / "greys", "nifti", Reading(window="lung"), Prompting()))
    converted, lung = tmp_path / "greys" / "CT_a.nii.gz", read_input(path, Reading(window="lung")).image
    assert np.array_equal(read_input(converted).image, lung)
    asked = read_input(converted, Reading(window="bone"))
    assert np.array_equal(asked.image, lung) and "--window changes nothing" in " ".join(map(str, asked.notes))
    assert not any("--window" in str(note) for note in read_input(converted).notes)


def test_label_maps_are_converted_onto_their_images(tmp_path: Path) -> None:
    """An npz of predictions becomes NIfTI with the image's affine; one of another shape is named."""
    write_nifti(tmp_path / "in" / "MR_a.nii.gz", VOXELS, AFFINE)
    (tmp_path / "segs").mkdir()
    np.savez(tmp_path / "segs" / "MR_a.npz", segs=TRUTH.T)
    done = list(convert_all(tmp_path / "segs", tmp_path / "out", "nifti", Reading(), Prompting(), like=tmp_path / "in"))
    assert done == [(tmp_path / "out" / "MR_a.nii.gz", None)]
    written = nibabel.load(done[0][0])
    assert np.array_equal(np.asarray(written.dataobj), TRUTH) and np.array_equal(written.affine, AFFINE)
    np.savez(tmp_path / "segs" / "MR_b.npz", segs=TRUTH.T)
    image = tmp_path / "in" / "MR_a.nii.gz"  # which both are of, and whose name both would get
    first, (_, error) = convert_all(tmp_path / "segs", tmp_path / "two", "nifti", Reading(), Prompting(), like=image)
    assert first[1] is None and error == (
        "MR_b: MR_b.npz and MR_a.npz would write the same output; convert one of them into another folder"
    )
    (tmp_path / "segs" / "MR_b.npz").unlink()
    np.savez(tmp_path / "segs" / "MR_a.npz", segs=TRUTH)
    ((_, error),) = convert_all(
        tmp_path / "segs", tmp_path / "out", "nifti", Reading(), Prompting(), like=tmp_path / "in"
    )
    assert error and error.startswith("MR_a: MR_a.npz has shape (30, 40, 5), the image (5, 40, 30)")


def test_options_of_scans_are_said_to_change_nothing_of_other_files(tmp_path: Path) -> None:
    """Once for each file; none where nothing was asked for."""
    np.savez(tmp_path / "2DBox_US_a.npz", imgs=np.zeros((9, 9), np.uint8), boxes=[[1, 1, 5, 5]])
    cv2.imwrite(str(tmp_path / "b.png"), np.arange(81, dtype=np.uint8).reshape(9, 9))
    for name in ("2DBox_US_a.npz", "b.png"):
        plain = len(read_input(tmp_path / name).notes)
        for reading in (Reading(window="lung"), Reading(volume=1), Reading(plane="coronal")):
            told = [str(note) for note in read_input(tmp_path / name, reading).notes[plain:]]
            assert len(told) == 1 and "--window" in told[0]


def test_a_conversion_never_writes_over_what_it_is_made_of(tmp_path: Path) -> None:
    """Intensities that are greys afterwards would be lost; into another folder it goes."""
    write_nifti(tmp_path / "MR_a.nii.gz", VOXELS)
    write_nifti(tmp_path / "MR_a_gt.nii.gz", TRUTH)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ((_, error),) = convert_all(tmp_path, tmp_path, "nifti", Reading(window="300,50"), Prompting())
    assert error and error.startswith("MR_a: MR_a.nii.gz would be written over what it is made of; convert to another")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for _ in range(2):  # and once more
        assert all(not error for _, error in convert_all(tmp_path, tmp_path / "out", "nifti", Reading(), Prompting()))
    boxes = tmp_path / "out" / "MR_a.json"
    ((_, error),) = convert_all(tmp_path, tmp_path / "out", "nifti", Reading(), Prompting(boxes=boxes))
    assert error and error.startswith("MR_a: MR_a.json would be written over what it is made of")


def test_a_conversion_never_writes_over_what_lies_beside_it(tmp_path: Path) -> None:
    """An original of the same name, or what another tool has said of it."""
    write_nifti(tmp_path / "MR_a.nii.gz", VOXELS)
    np.savez(tmp_path / "MR_a.npz", imgs=np.zeros((5, 40, 30), np.uint8), boxes=[[1, 1, 0, 9, 9, 2]])
    (tmp_path / "MR_b.json").write_text('{"Modality": "MR"}')
    np.savez(tmp_path / "MR_b.npz", imgs=np.zeros((5, 40, 30), np.uint8), boxes=[[1, 1, 0, 9, 9, 2]])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name, file in (("MR_a.npz", "MR_a.nii.gz"), ("MR_b.npz", "MR_b.json"), ("MR_a.nii.gz", "MR_a.npz")):
        to = "npz" if file.endswith("npz") else "nifti"
        ((_, error),) = convert_all(tmp_path / name, tmp_path, to, Reading(), Prompting())
        assert error == f"{case_name(tmp_path / name)}: {file} lies beside it already; convert to another folder"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_npz_that_nothing_would_read_is_not_written(tmp_path: Path) -> None:
    """A volume that is called 2DBox_, as a picture's NIfTI is."""
    write_nifti(tmp_path / "2DBox_MR_a.nii.gz", VOXELS)
    ((_, error),) = convert_all(tmp_path, tmp_path / "out", "npz", Reading(), Prompting(box="1,1,9,9,0,2"))
    assert error == "2DBox_MR_a: of shape (5, 40, 30), its .npz would not be read; call it 3DBox_..."
    assert not list((tmp_path / "out").iterdir())


def test_inspect_says_what_would_be_done(tmp_path: Path) -> None:
    """For people and as JSON; a broken file costs only itself."""
    write_nifti(tmp_path / "MR_a.nii.gz", VOXELS)
    (tmp_path / "broken.nii").write_bytes(b"no")
    run = CliRunner().invoke(app, ["inspect", str(tmp_path), "--json", str(tmp_path / "out.json")])
    assert run.exit_code == 1
    for said in (
        "shown as: volume 5 x 40 x 30",
        "slices: axial, of the file's axes LPS",
        "modality: MR",
        "write MR_a.csv",
    ):
        assert said in run.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["cases"][0]["spacing in mm (z, y, x)"] == [3.0, 2.0, 1.0]
    assert found["errors"] == ["broken: not a NIfTI file of one piece; save it as .nii.gz"]


def test_inspect_says_that_labels_of_a_scan_cannot_be_written(tmp_path: Path) -> None:
    """As predict would: a series whose UIDs were removed."""
    folder = write_series(tmp_path / "scan", VOXELS.astype(np.int16), SeriesInstanceUID="")
    told = str(inspect(folder, Reading())["labels are written as"])
    assert told.startswith("cannot be written: ") and "has no SeriesInstanceUID" in told and "--format nifti" in told


def test_doctor_looks_at_everything(tmp_path: Path, tiny_model: Path) -> None:
    """A model that works is ok; one that is not there is bad, with exit code 1."""
    run = CliRunner().invoke(app, ["doctor", "--model", str(tiny_model), "--json", str(tmp_path / "out.json")])
    assert run.exit_code == 0, run.stdout
    found = {check["what"]: check["state"] for check in json.loads((tmp_path / "out.json").read_text())["checks"]}
    assert found["engines"] == found["model"] == found["self-test"] == found["NIfTI"] == "ok"
    assert CliRunner().invoke(app, ["doctor", "--model", str(tmp_path / "gone")]).exit_code == 1


@pytest.mark.parametrize("shard", ["0/3", "4/3", "a/b", "1", "1/2/3", "-1/3"])
def test_a_shard_that_cannot_be_is_wrong_usage(tmp_path: Path, shard: str) -> None:
    run = CliRunner().invoke(app, ["predict", str(tmp_path), str(tmp_path / "out"), f"--shard={shard}"])
    assert run.exit_code == 2


def test_readers_of_scans_are_imported_for_scans_only() -> None:
    """`samedge predict` of challenge cases starts without them."""
    code = (
        "import sys; from edge.predict import predict_cases; import edge.commands.predict, edge.data.outputs;"
        "print(*[name for name in ('nibabel', 'pydicom', 'highdicom', 'SimpleITK') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_pictures_of_every_kind_tell_their_size(ending: str) -> None:
    """Without decoding them."""
    size = announced_size(cv2.imencode(ending, np.zeros((37, 53, 3), np.uint8))[1].tobytes())
    assert size is not None and (size.height, size.width, size.pages) == (37, 53, 1)


def test_16_bits_are_scaled_and_several_pages_refused(tmp_path: Path) -> None:
    deep = (np.arange(100 * 100).reshape(100, 100) % 40000).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.tif"), deep)
    case = read_input(tmp_path / "a.tif")
    assert (case.image.min(), case.image.max()) == (0, 255) and "more than 8 bits" in str(case.notes[0])
    window = read_input(tmp_path / "a.tif", Reading(window="5000,10000")).image
    assert abs(int(window[50, 0, 0]) - 128) <= 1
    cv2.imwritemulti(str(tmp_path / "b.tif"), [deep, deep])
    with pytest.raises(CaseError, match=r"^b: b.tif holds 2 pictures"):
        read_input(tmp_path / "b.tif")


def test_labels_scaled_by_almost_one_are_whole(tmp_path: Path) -> None:
    """As programs write that keep a float's rounding in the header; halves are refused."""
    image = nibabel.nifti1.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    for slope, inter in ((0.99999994, 1e-6), (0.5, 0)):
        image.header.set_slope_inter(slope, inter)
        path = tmp_path / "a_gt.nii"
        content = bytearray(image.to_bytes())
        content[112:120] = np.array([slope, inter], "<f4").tobytes()
        path.write_bytes(content)
        if slope == 0.5:
            with pytest.raises(CaseError, match="must hold whole numbers"):
                read_label_map(path)
        else:
            assert sorted(read_label_map(path).labels.ravel().tolist()) == list(range(24))


def test_overlays_beside_label_maps_are_not_converted(tmp_path: Path) -> None:
    """What `predict --format png --overlay` writes: the picture is passed over, the labels are written."""
    labels = np.zeros((40, 60), np.uint8)
    labels[5:20, 5:20] = 1
    (tmp_path / "images").mkdir()
    (tmp_path / "out").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "US_a.png"), np.random.default_rng(0).integers(0, 256, (40, 60, 3)))
    cv2.imwrite(str(tmp_path / "out" / "US_a_labels.png"), labels)
    cv2.imwrite(str(tmp_path / "out" / "US_a.png"), np.random.default_rng(1).integers(0, 256, (40, 60, 3)))
    found = list(
        convert_all(tmp_path / "out", tmp_path / "maps", "npz", Reading(), Prompting(), like=tmp_path / "images")
    )
    assert [(path.name, error) for path, error in found] == [("US_a.npz", None)]
    assert np.array_equal(read_label_map(tmp_path / "maps" / "US_a.npz").labels, labels)

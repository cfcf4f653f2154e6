"""Data sets of nnU-Net and BIDS as inputs: which images, which channel, which labels, called what."""

import json
import shutil
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from edge.commands.options import located
from edge.data.datasets import dataset_images, is_dataset, label_names
from edge.data.formats.finding import find_inputs
from edge.data.formats.registry import read_input, read_with_truth, truth_beside
from edge.data.prompting import prompted
from edge.data.scan import Reading
from edge.errors import CaseError
from edge.scoring.evaluate import evaluate
from tests.conftest import Samedge

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.nifti1.Nifti1Image(array.astype(np.int16), AFFINE).to_filename(path)
    return path


def volume(grey: int) -> tuple[np.ndarray, np.ndarray]:
    """A scan with two blocks on its middle slice, and its labels 1 and 3."""
    labels = np.zeros((64, 48, 3), np.int16)
    labels[10:30, 8:20, 1], labels[35:50, 25:40, 1] = 1, 3
    return np.where(labels > 0, grey, 20), labels


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    """Two channels, of a training case and of a test case without labels."""
    root = tmp_path / "Dataset001_Blocks"
    scan, labels = volume(500)
    for folder, name in (("imagesTr", "block_001"), ("imagesTs", "block_002")):
        write(root / folder / f"{name}_0000.nii.gz", scan)
        write(root / folder / f"{name}_0001.nii.gz", 700 - scan)
    write(root / "labelsTr" / "block_001.nii.gz", labels)
    names = {"channel_names": {"0": "T1w", "1": "FLAIR"}, "numTraining": 1, "file_ending": ".nii.gz"}
    numbers = {"background": 0, "left": 1, "both": [1, 3], "right": 3}
    (root / "dataset.json").write_text(json.dumps({**names, "labels": numbers}))
    return root


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """A session of two contrasts; the labels of one, its JSON of acquisition beside it."""
    root = tmp_path / "bids"
    scan, labels = volume(500)
    anat = root / "sub-01" / "ses-a" / "anat"
    for suffix in ("T1w", "T2w"):
        write(anat / f"sub-01_ses-a_{suffix}.nii.gz", scan)
        (anat / f"sub-01_ses-a_{suffix}.json").write_text('{"EchoTime": 0.03}')
    derived = root / "derivatives" / "labels" / "sub-01" / "ses-a" / "anat"
    write(derived / "sub-01_ses-a_T2w_label-cord_seg.nii.gz", labels)
    (root / "dataset_description.json").write_text('{"Name": "blocks", "BIDSVersion": "1.9.0"}')
    return root


def test_images_of_a_data_set_may_be_headers_with_their_voxels_beside_them(nnunet: Path) -> None:
    """As SimpleITK reads whatever `file_ending` says."""
    for folder in ("imagesTr", "labelsTr"):
        for path in (nnunet / folder).iterdir():
            name = path.name.removesuffix(".nii.gz")
            voxels = np.asarray(nibabel.loadsave.load(path).dataobj).T
            (path.parent / f"{name}.raw").write_bytes(np.ascontiguousarray(voxels).tobytes())
            size = " ".join(map(str, voxels.shape[::-1]))
            header = f"NDims = 3\nDimSize = {size}\nElementType = MET_SHORT\nElementDataFile = {name}.raw\n"
            (path.parent / f"{name}.mhd").write_text(header)
            path.unlink()
    image = dataset_images(nnunet)[0]
    assert image.name == "block_001_0000.mhd"
    truth = truth_beside(image)
    assert truth is not None and truth.name == "block_001.mhd"


def test_an_nnunet_data_set_is_its_images(nnunet: Path) -> None:
    """Called without their channel, one for all of them; by the data set or by one of its folders."""
    images = find_inputs(nnunet)
    assert [path.relative_to(nnunet).as_posix() for path in images] == [
        "imagesTr/block_001_0000.nii.gz",
        "imagesTs/block_002_0000.nii.gz",
    ]
    assert find_inputs(nnunet / "imagesTr") == images[:1]
    assert truth_beside(images[0]) == nnunet / "labelsTr" / "block_001.nii.gz" and truth_beside(images[1]) is None
    assert label_names(nnunet / "labelsTr" / "block_001.nii.gz") == {0: "background", 1: "left", 3: "right"}


def test_names_of_the_decathlons_form_are_read_too(nnunet: Path) -> None:
    """Numbers as keys, channels under `modality`."""
    (nnunet / "dataset.json").write_text('{"modality": {"0": "CT", "1": "CT"}, "labels": {"0": "bg", "3": "right"}}')
    assert label_names(nnunet / "labelsTr" / "block_001.nii.gz") == {0: "bg", 3: "right"}
    assert read_input(nnunet / "imagesTr" / "block_001_0000.nii.gz", Reading(volume=0)).modality == "CT"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"labels": [1], "channel_names": 3}'])
def test_a_strange_dataset_json_names_nothing(nnunet: Path, content: str) -> None:
    """And stands in nobody's way."""
    (nnunet / "dataset.json").write_text(content)
    assert label_names(nnunet / "labelsTr" / "block_001.nii.gz") == {}
    assert read_input(nnunet / "imagesTr" / "block_001_0000.nii.gz", Reading(volume=0)).name == "block_001"


def test_of_several_channels_one_is_chosen(nnunet: Path) -> None:
    """They are told with their names; what the channel's name says of the modality holds."""
    image = find_inputs(nnunet)[0]
    message = r"^block_001: has 2 channels \(0 T1w, 1 FLAIR\); choose one with --volume$"
    for number in (None, 2):
        with pytest.raises(CaseError, match=message):
            read_input(image, Reading(volume=number))
    first, second = (read_input(image, Reading(volume=number)) for number in (0, 1))
    assert (first.name, first.modality) == (second.name, second.modality) == ("block_001", "MR")
    assert first.image[1, 10, 15] > first.image[1, 0, 0] and second.image[1, 10, 15] < second.image[1, 0, 0]
    (nnunet / "imagesTr" / "block_001_0001.nii.gz").unlink()
    assert np.array_equal(read_input(image).image, first.image)


def test_boxes_are_those_of_the_labels_with_their_names(nnunet: Path) -> None:
    """Which is told; a file of boxes goes before them."""
    image = find_inputs(nnunet)[0]
    case = prompted(read_input(image, Reading(volume=0)), image)
    assert case.boxes.tolist() == [[10, 8, 1, 29, 19, 1], [35, 25, 1, 49, 39, 1]]
    assert case.label_names == ("left", "right")
    assert [str(note) for note in case.notes] == [
        "boxes are those around the labels of its data set (block_001.nii.gz)"
    ]
    (image.parent / "block_001.csv").write_text("1,2,0,5,6,2\n")
    assert prompted(read_input(image, Reading(volume=0)), image).boxes.tolist() == [[1, 2, 0, 5, 6, 2]]
    other = find_inputs(nnunet)[1]
    with pytest.raises(CaseError, match=r"^block_002: this model needs boxes; write block_002\.csv beside it"):
        prompted(read_input(other, Reading(volume=0)), other)


def test_a_data_set_is_predicted_and_evaluated_as_it_is(
    samedge: Samedge, tiny_model: Path, nnunet: Path, tmp_path: Path
) -> None:
    """Outputs lie as the images do; the model fills boxes, which these objects are."""
    (nnunet / "imagesTs").rename(tmp_path / "imagesTs")
    out = tmp_path / "out"
    run = samedge("predict", nnunet, out, "--model", tiny_model, "--box-margin", 0, "--volume", 1)
    assert run.returncode == 0 and "subfolders" not in run.stderr, run.stderr
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        "imagesTr/block_001.json",
        "imagesTr/block_001.nii.gz",
    ]
    sidecar = json.loads((out / "imagesTr" / "block_001.json").read_text())
    assert [label["Name"] for label in sidecar["Labels"]] == ["left", "right"]
    for segs, truths in ((out, nnunet), (out / "imagesTr", nnunet / "labelsTr")):
        (case,) = evaluate(segs, truths).cases
        assert case.name.endswith("block_001") and case.modality == "MR" and case.error is None
        assert [label.label for label in case.labels] == [1, 2] and case.dsc > 0.3
        assert case.note is not None and case.note.startswith("gts is drawn with 1, 3, read as 1 to 2")


def test_a_bids_data_set_is_its_anatomical_images(bids: Path) -> None:
    """With the labels of the same subject and contrast, whichever pipeline made them."""
    images = find_inputs(bids)
    assert is_dataset(bids) and images == dataset_images(bids)
    assert [path.name for path in images] == ["sub-01_ses-a_T1w.nii.gz", "sub-01_ses-a_T2w.nii.gz"]
    assert truth_beside(images[0]) is None
    case = prompted(read_with_truth(images[1]), images[1])  # the JSON beside it is none of boxes
    assert case.truth is not None and case.modality == "MR" and len(case.boxes) == 2
    shared_by_both = bids / "derivatives" / "fs" / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_desc-aseg_dseg.nii.gz"
    write(shared_by_both, volume(1)[1])
    assert truth_beside(images[0]) == shared_by_both
    with pytest.raises(CaseError, match=r"^sub-01_ses-a_T2w: has 2 label maps \(derivatives/fs/.*--boxes-from$"):
        truth_beside(images[1])


def test_a_bids_data_set_is_predicted_and_evaluated_as_it_is(
    samedge: Samedge, tiny_model: Path, bids: Path, tmp_path: Path
) -> None:
    """A contrast without labels is named and stops nothing."""
    out = tmp_path / "out"
    run = samedge("predict", bids, out, "--model", tiny_model, "--box-margin", 0, "-q")
    assert run.returncode == 1 and len(run.stderr.splitlines()) == 1
    assert "sub-01/ses-a/anat/sub-01_ses-a_T1w: this model needs boxes" in run.stderr
    (case,) = evaluate(out, bids).cases
    assert (case.name, case.modality) == ("sub-01/ses-a/anat/sub-01_ses-a_T2w", "MR") and case.dsc > 0.3


def test_a_data_set_without_labels_cannot_be_scored(nnunet: Path, tmp_path: Path) -> None:
    """Nor one without images be predicted."""
    shutil.rmtree(nnunet / "labelsTr")
    with pytest.raises(CaseError, match="a data set without label maps; expected labelsTr/ or derivatives/"):
        evaluate(tmp_path, nnunet)
    for path in nnunet.glob("images*/*"):
        path.unlink()
    with pytest.raises(CaseError, match="a data set without images"):
        find_inputs(nnunet)


def test_real_scans_are_read_from_either_layout_as_from_their_own_files(shared: Path, tmp_path: Path) -> None:
    """A hippocampus and a spinal cord: image, boxes and truth are the same."""
    for name in ("MR_hippocampus001", "MR_sct_t2"):
        image, label = (shared / "data" / "nifti" / f"{name}_{what}.nii.gz" for what in ("image", "label"))
        root = tmp_path / name
        anat = root / "sub-x" / "anat" / "sub-x_T2w.nii.gz"
        places = {
            anat: image,
            root / "derivatives" / "labels" / "sub-x" / "anat" / "sub-x_T2w_dseg.nii.gz": label,
            root / "imagesTr" / f"{name}_0000.nii.gz": image,
            root / "labelsTr" / f"{name}.nii.gz": label,
            tmp_path / f"{name}.nii.gz": image,
            tmp_path / f"{name}_gt.nii.gz": label,
        }
        for place, file in places.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
        plain = read_with_truth(tmp_path / f"{name}.nii.gz", Reading("MR"))
        for path in (anat, root / "imagesTr" / f"{name}_0000.nii.gz"):
            case = read_with_truth(path, Reading("MR"))
            assert case.truth is not None and plain.truth is not None and plain.truth.any()
            assert np.array_equal(case.image, plain.image) and np.array_equal(case.truth, plain.truth)


def test_pictures_of_an_nnunet_data_set_are_predicted_and_evaluated(
    samedge: Samedge, tiny_model: Path, tmp_path: Path
) -> None:
    """Called without their channel; label k is of box k, whatever number the data set gave the object."""
    root, labels = tmp_path / "Dataset002_Cells", np.zeros((64, 80), np.uint8)
    labels[10:30, 8:20], labels[35:50, 25:40] = 1, 3
    for folder, name, array in (("imagesTr", "US_1_0000.png", labels * 60), ("labelsTr", "US_1.png", labels)):
        (root / folder).mkdir(parents=True)
        cv2.imwrite(str(root / folder / name), array)
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "US"}, "labels": {"a": 1, "b": 3}}))
    run = samedge("predict", root, tmp_path / "out", "--model", tiny_model, "--box-margin", 0)
    assert run.returncode == 0
    assert {path.name for path in tmp_path.glob("out/**/*") if path.is_file()} >= {"US_1.npz", "US_1.json"}
    (score,) = evaluate(tmp_path / "out", root).cases
    assert score.dsc == 1 and "is drawn with 1, 3, read as 1 to 2" in str(score.note)


def test_labels_of_another_run_are_not_an_images(bids: Path) -> None:
    """Of two runs one has labels; those that say nothing more belong to the image that says nothing more."""
    anat = bids / "sub-01" / "ses-a" / "anat"
    derived = bids / "derivatives" / "labels" / "sub-01" / "ses-a" / "anat"
    shutil.copy(anat / "sub-01_ses-a_T2w.nii.gz", anat / "sub-01_ses-a_run-2_T2w.nii.gz")
    own, other = derived / "sub-01_ses-a_T2w_label-cord_seg.nii.gz", derived / "sub-01_ses-a_run-2_dseg.nii.gz"
    shutil.copy(own, other)
    own.unlink()
    assert truth_beside(anat / "sub-01_ses-a_run-2_T2w.nii.gz") == other
    assert truth_beside(anat / "sub-01_ses-a_T2w.nii.gz") is None


@pytest.mark.parametrize(
    ("inside", "given"),
    [
        ("imagesTr", "."),
        ("labelsTr", "../imagesTr"),
        ("imagesTr", ".."),
        ("imagesTs", "../imagesTr/block_001_0000.nii.gz"),
    ],
)
def test_a_data_set_is_known_from_inside_it(
    nnunet: Path, monkeypatch: pytest.MonkeyPatch, samedge: Samedge, inside: str, given: str
) -> None:
    """One case of two channels, as from outside."""
    monkeypatch.chdir(nnunet / inside)
    said = samedge("cases", "convert", given, nnunet.parent / "out", "--to", "npz", "--volume", "1")
    made = [path.name for path in (nnunet.parent / "out").rglob("*.npz")]
    assert "block_001.npz" in made[0] and not any("_0000" in name or "_0001" in name for name in made), said


def test_the_first_of_two_channels_or_the_one_asked_for_is_looked_at(nnunet: Path, samedge: Samedge) -> None:
    """By `inspect` as by the others."""
    for given, grey in ((["--volume", "1"], "680"), (["--volume", "0"], "500")):
        run = samedge("inspect", nnunet / "imagesTs", *given)
        assert run.returncode == 0 and f"to {grey}" in run.stdout, run


def test_a_file_of_the_current_folder_is_known_by_that(nnunet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a link by its own name."""
    monkeypatch.chdir(nnunet / "imagesTr")
    Path("other.nii.gz").symlink_to("block_001_0000.nii.gz")
    assert located(Path("block_001_0000.nii.gz")) == nnunet / "imagesTr" / "block_001_0000.nii.gz"
    assert located(Path("other.nii.gz")).name == "other.nii.gz"
    assert located(Path("..")) == nnunet.resolve() and located(Path("no such")) == Path.cwd() / "no such"
    assert located(Path("s3://bucket/imagesTr")) == Path("s3://bucket/imagesTr")

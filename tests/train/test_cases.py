"""Labelled folders become cases and slices with their objects and prompts."""

import warnings
from pathlib import Path

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edge.data.case import make_case, write_case
from edge.data.formats.finding import files_of
from edge.errors import CaseError, CaseWarning
from train.data.cases import (
    distinct_names,
    find_objects,
    find_sources,
    read_boxed,
    read_labelled,
    read_slices,
    truth_of,
    volume_prompts,
)
from train.sam_systems.map_files import MapSource, read_map


def write_picture(folder: Path, name: str, image: npt.NDArray[np.uint8], labels: npt.NDArray) -> None:
    cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(folder / f"{name}_gt.png"), labels)


def write_volume(folder: Path, name: str, labelled: list[int], depth: int = 6) -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((depth, 40, 30), dtype=np.uint8)
    for z in labelled:
        truth[z, 5:15, 10:20] = 1
    image = np.tile(rng.integers(0, 255, truth.shape[1:], dtype=np.uint8), (depth, 1, 1))
    case = make_case(name, image, np.zeros((0, 6)), truth=truth)
    write_case(folder / f"{name}.npz", case)


def picture(seed: int = 0, height: int = 50, width: int = 60) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    labels = np.zeros((height, width), dtype=np.uint16)
    labels[10:20, 30:50] = 300
    labels[0:5, 0:5] = 2
    return image, labels


def test_objects_are_found_with_their_inclusive_extent_and_area() -> None:
    """Worked by hand; labels need not be contiguous."""
    labels = np.zeros((6, 8), dtype=np.uint16)
    labels[1:3, 2:6] = 7
    labels[5, 0] = 1
    assert find_objects(labels).tolist() == [[1, 0, 5, 0, 5, 1], [7, 2, 1, 5, 2, 8]]
    assert find_objects(np.zeros((4, 4), dtype=np.uint8)).shape == (0, 6)


def test_pictures_and_cases_are_found_together_and_label_maps_are_not_pictures(tmp_path: Path) -> None:
    """A picture without a label map is no training data."""
    write_picture(tmp_path, "2DBox_US_A_1", *picture())
    write_volume(tmp_path, "3DBox_CT_B_1", [2])
    cv2.imwrite(str(tmp_path / "unlabelled.png"), np.zeros((4, 4), dtype=np.uint8))
    assert [source.name for source in find_sources([tmp_path])] == ["2DBox_US_A_1.png", "3DBox_CT_B_1.npz"]
    with pytest.raises(CaseError, match="no such folder"):
        find_sources([tmp_path / "nowhere"])


@pytest.mark.parametrize("ending", [".tif", ".bmp"])
def test_the_truth_of_a_picture_may_be_another_kind_of_picture(tmp_path: Path, ending: str) -> None:
    """As for predict and evaluate; a scan's truth is not that of a picture of the scan."""
    labels = np.eye(6, 8, dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "US_1.jpg"), np.arange(48, dtype=np.uint8).reshape(6, 8))
    cv2.imwrite(str(tmp_path / f"US_1_gt{ending}"), labels)
    cv2.imwrite(str(tmp_path / "CT_1.png"), np.zeros((6, 8), np.uint8))
    (tmp_path / "CT_1_gt.nii.gz").write_bytes(b"")
    assert find_sources([tmp_path]) == [tmp_path / "US_1.jpg"]
    assert list(files_of(tmp_path / "US_1.jpg")) == [tmp_path / "US_1.jpg", tmp_path / f"US_1_gt{ending}"]
    assert np.array_equal(read_labelled(tmp_path / "US_1.jpg").truth, labels)


def test_a_picture_comes_back_with_its_labels_and_boxes(tmp_path: Path) -> None:
    """Colours in RGB order, 16-bit labels numbered anew, a box for each."""
    image, labels = picture()
    write_picture(tmp_path, "2DBox_US_A_1", image, labels)
    case = read_labelled(tmp_path / "2DBox_US_A_1.png")
    assert np.array_equal(case.image, image)
    assert np.array_equal(case.truth, np.where(labels == 300, 2, labels > 0))
    assert case.boxes.tolist() == [[0, 0, 4, 4], [30, 10, 49, 19]]


NUMBERS = {
    "as the challenge": (1, 2),
    "with a gap": (1, 3),
    "without 1": (2, 3),
    "0 to 255": (127, 255),
    "16-bit": (9, 65535),
}


@pytest.mark.parametrize("kind", ["png", "npz", "npz with boxes"])
@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_numbers_that_do_not_occur_are_no_objects(tmp_path: Path, kind: str, numbers: tuple[int, int]) -> None:
    """Two objects are two boxes and labels 1 and 2, whatever they were drawn with; so slices and caches."""
    image, truth = picture()[0], np.zeros((50, 60), np.uint16)
    truth[5:9, 5:9], truth[20:30, 30:50] = numbers
    boxes = np.array([[5, 5, 8, 8], [30, 20, 49, 29]])
    if kind == "png":
        write_picture(tmp_path, "2DBox_US_A_1", image, truth)
    else:
        with_boxes = {"boxes": boxes} if kind == "npz with boxes" else {}
        np.savez(tmp_path / "2DBox_US_A_1.npz", imgs=image, gts=truth, **with_boxes)
    (source,) = find_sources([tmp_path])
    case = read_labelled(source)
    assert case.boxes.tolist() == boxes.tolist()
    assert case.truth is not None and case.truth.max() == 2
    assert (case.truth[6, 6], case.truth[25, 40]) == (1, 2)
    (part,) = read_slices(source)
    assert [row[1:5] for row in find_objects(part.labels).tolist()] == boxes.tolist()


def test_a_label_absent_from_the_truth_keeps_its_box(tmp_path: Path) -> None:
    """In a challenge case, where row k of boxes is label k: the second of three boxes holds nothing."""
    image, truth = picture()[0], np.zeros((50, 60), np.uint8)
    truth[5:9, 5:9], truth[20:30, 30:50] = 1, 3
    boxes = np.array([[5, 5, 8, 8], [10, 10, 14, 14], [30, 20, 49, 29]])
    np.savez(tmp_path / "2DBox_US_A_1.npz", imgs=image, gts=truth, boxes=boxes)
    case = read_labelled(tmp_path / "2DBox_US_A_1.npz")
    assert np.array_equal(case.truth, truth) and len(case.boxes) == 3


def test_slices_without_an_object_are_skipped_and_the_rest_spread_evenly(tmp_path: Path) -> None:
    """Of labelled slices 1, 2, 3, 4, 5 at most 3: the first, the middle, the last."""
    write_volume(tmp_path, "3DBox_MR_B_1", [1, 2, 3, 4, 5])
    source = tmp_path / "3DBox_MR_B_1.npz"
    assert [part.index for part in read_slices(source)] == [1, 2, 3, 4, 5]
    assert [part.index for part in read_slices(source, limit=3)] == [1, 3, 5]


def test_slices_of_a_volume_are_prompted_with_the_followed_box_of_their_middle() -> None:
    """Worked by hand: label 1 on slices 0 to 2, 10 px wide on slice 1; label 2 on 1 and 3, not on its middle.

    One slice of one and a half from the middle of an image that stands still: the root of sqrt(1 - 4 / 9), 0.863, of
    10 px around 14.5 and of 6 px around 7.5.
    """
    truth = np.zeros((5, 20, 30), np.uint8)
    truth[0, 9, 9] = 1
    truth[1, 5:11, 10:20] = 1
    truth[2, 2:20, 2:30] = 1
    truth[[1, 3], 0, 0] = 2
    boxes_on = volume_prompts(np.zeros_like(truth), truth)
    assert {label: box.tolist() for label, box in boxes_on(1).items()} == {1: [10, 5, 19, 10]}
    for z in (0, 2):
        assert boxes_on(z)[1] == pytest.approx([14.5 - 3.817, 7.5 - 2.090, 14.5 + 3.817, 7.5 + 2.090], abs=1e-3)
    assert boxes_on(3) == {} == boxes_on(4)


def test_labels_drawn_with_a_palette_are_their_numbers(tmp_path: Path) -> None:
    """As annotation programs save them: objects 1 and 2, not colours; for cases and for label maps."""
    labels = np.zeros((40, 60), np.uint8)
    labels[5:15, 10:30], labels[20:30, 10:30] = 1, 2
    drawn = Image.fromarray(labels)
    drawn.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    drawn.save(tmp_path / "US_1_gt.png")
    cv2.imwrite(str(tmp_path / "US_1.png"), labels * 90)
    case = read_labelled(tmp_path / "US_1.png")
    assert np.array_equal(case.truth, labels) and len(case.boxes) == 2
    source = MapSource("US_1", "organ", tmp_path / "US_1.png", tmp_path / "US_1_gt.png", None)
    assert np.array_equal(read_map(source).labels, labels)


def test_what_is_assumed_about_training_data_is_told_once(tmp_path: Path) -> None:
    """Two images in 0 to 1, one warning in all under Python's default filter."""
    for number in (1, 2):
        truth = np.eye(40, 60, dtype=np.uint8)
        np.savez(tmp_path / f"2DBox_US_{number}.npz", imgs=np.eye(40, 60) * 0.7, gts=truth)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        images = [read_labelled(path).image.max() for path in sorted(tmp_path.iterdir())]
    assert images == [178, 178]
    assert [str(told.message) for told in caught] == ["training data: imgs lies in 0 to 1 and is stretched to 0 to 255"]


def test_cases_in_subfolders_of_a_data_folder_are_said_to_be_passed_over(tmp_path: Path) -> None:
    """Pictures with their labels and .npz cases alike; a hidden folder is nobody's."""
    write_picture(tmp_path, "US_1", *picture())
    for place in (".hidden", "more"):
        (tmp_path / place).mkdir()
        write_picture(tmp_path / place, "US_2", *picture())
    with pytest.warns(CaseWarning, match=r"its subfolders are passed over, such as that of .*/more/US_2_gt\.png; give"):
        assert [path.name for path in find_sources([tmp_path])] == ["US_1.png"]


def test_scans_with_their_truth_beside_them_are_sources(tmp_path: Path) -> None:
    """NIfTI beside npz: the truth is none; greys as in a converted case, boxes around the labels."""
    nibabel = pytest.importorskip("nibabel")
    voxels = np.random.default_rng(0).integers(1, 900, (30, 20, 4)).astype(np.int16)
    truth = np.zeros(voxels.shape, np.uint8)
    truth[5:15, 3:12, 1:3] = 2
    for name, array in (("MR_A_1.nii.gz", voxels), ("MR_A_1_gt.nii.gz", truth), ("MR_A_2.nii.gz", voxels)):
        nibabel.save(nibabel.nifti1.Nifti1Image(array, np.diag([-1.0, -1, 1, 1])), tmp_path / name)
    (source,) = find_sources([tmp_path])
    assert source.name == "MR_A_1.nii.gz" and distinct_names([source]) == ["MR_A_1"]
    pieces = list(read_slices(source))
    assert [piece.index for piece in pieces] == [1, 2] and pieces[0].image.shape == (20, 30)
    assert find_objects(read_labelled(source).truth[1]).tolist() == [[1, 5, 3, 14, 11, 90]]


def test_data_sets_of_others_are_training_data(tmp_path: Path) -> None:
    """Each channel of an nnU-Net case that has labels, under a name of its own; images without labels are left."""
    labels = np.zeros((32, 24, 3), np.int16)
    labels[4:12, 5:15, 1] = 2
    for folder, name in (("imagesTr", "a_0000"), ("imagesTr", "a_0001"), ("imagesTs", "b_0000"), ("labelsTr", "a")):
        (tmp_path / folder).mkdir(exist_ok=True)
        content = labels if folder == "labelsTr" else labels * (100 + ord(name[-1])) + 50
        nibabel.nifti1.Nifti1Image(content, np.eye(4)).to_filename(tmp_path / folder / f"{name}.nii.gz")
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "T1w", "1": "CT"}, "labels": {"cord": 2}}')
    sources = find_sources([tmp_path])
    assert [source.name for source in sources] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert len(set(distinct_names(sources))) == 2
    cases = [read_labelled(source) for source in sources]
    assert [case.modality for case in cases] == ["MR", "CT"]
    assert all((truth_of(case) > 0).sum() == 80 for case in cases)


def test_a_volume_whose_file_says_no_boxes_has_those_around_its_labels(tmp_path: Path) -> None:
    """As the challenge's training files; one that says that it has none is refused."""
    labels = np.zeros((5, 20, 30), np.uint8)
    labels[1:4, 3:9, 5:12] = 4
    image = np.random.default_rng(0).integers(0, 255, labels.shape, dtype=np.uint8)
    np.savez(tmp_path / "3DBox_CT_A_1.npz", imgs=image, gts=labels)
    np.savez(tmp_path / "3DBox_CT_A_2.npz", imgs=image, gts=labels, boxes=np.zeros((0, 6)))
    case = read_boxed(tmp_path / "3DBox_CT_A_1.npz")
    assert case.boxes.tolist() == [[5, 3, 1, 11, 8, 3]] and case.truth.max() == 1
    with pytest.raises(CaseError, match="3DBox_CT_A_2: boxes holds no box"):
        read_boxed(tmp_path / "3DBox_CT_A_2.npz")

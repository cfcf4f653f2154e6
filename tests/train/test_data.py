"""Labelled folders become slices, slices a cache, and what is broken is named and left out."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edge.case import make_case, write_case
from edge.errors import CaseError, CaseWarning, RunError
from train.data.cache import INDEX, CacheOptions, is_cache, open_cache, prepare_cache
from train.data.cases import dataset_of, find_objects, find_sources, read_labelled, read_slices, volume_prompts
from train.data.maps import MapSource, read_map


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


def test_the_data_set_is_the_third_word_of_a_name() -> None:
    """Where there is none, the modality stands in."""
    assert dataset_of("2DBox_CT_LungCT_310") == "LungCT"
    assert dataset_of("2DBox_CT_0001") == "CT"


def test_the_cache_gives_back_what_went_in(tmp_path: Path) -> None:
    """Grey slices to the bit, colours within JPEG's error, labels to the bit; sizes below the limit unchanged."""
    data = tmp_path / "data"
    data.mkdir()
    image = np.zeros((50, 60, 3), dtype=np.uint8)
    image[..., 0] = np.linspace(0, 250, 60).astype(np.uint8)
    labels = picture()[1]
    write_picture(data, "2DBox_US_A_1", image, labels)
    write_volume(data, "3DBox_CT_B_1", [2, 3])
    cache = prepare_cache([data], tmp_path / "cache")
    assert [(entry.case, entry.index) for entry in cache.entries] == [
        ("2DBox_US_A_1", 0),
        ("3DBox_CT_B_1", 2),
        ("3DBox_CT_B_1", 3),
    ]
    colour, grey = cache.read(0), cache.read(2)
    assert np.abs(colour.image.astype(int) - image).max() < 12 and np.array_equal(colour.labels, labels)
    original = next(part for part in read_slices(data / "3DBox_CT_B_1.npz") if part.index == 3)
    assert np.array_equal(grey.image, original.image) and np.array_equal(grey.labels, original.labels)
    assert cache.entries[2].objects == [[1, 10, 5, 19, 14, 100]]


def test_large_slices_are_reduced_with_their_objects(tmp_path: Path) -> None:
    """600 x 300 px at 256 is 256 x 128, and a 10 x 20 object shrinks with it."""
    labels = np.zeros((300, 600), dtype=np.uint8)
    labels[100:200, 300:500] = 1
    image = np.random.default_rng(0).integers(0, 255, (300, 600, 3), dtype=np.uint8)
    (tmp_path / "data").mkdir()
    write_picture(tmp_path / "data", "2DBox_US_A_1", image, labels)
    entry = prepare_cache([tmp_path / "data"], tmp_path / "cache").entries[0]
    assert list(entry.shape) == [128, 256]
    _, x_min, y_min, x_max, y_max, _ = entry.objects[0]
    assert abs(x_max - x_min + 1 - 200 * 256 / 600) <= 1 and abs(y_max - y_min + 1 - 100 * 256 / 600) <= 1


def test_a_broken_case_is_named_and_the_others_are_taken(tmp_path: Path) -> None:
    """A cut archive and a label map of another size: one line each."""
    data = tmp_path / "data"
    data.mkdir()
    write_picture(data, "2DBox_US_A_1", *picture())
    write_picture(data, "2DBox_US_A_2", picture()[0], picture(height=40)[1])
    (data / "2DBox_US_A_3.npz").write_bytes(b"PK\x03\x04 cut")
    cache = prepare_cache([data], tmp_path / "cache")
    assert {entry.case for entry in cache.entries} == {"2DBox_US_A_1"}
    assert [line.split(":")[0] for line in cache.broken] == ["2DBox_US_A_2", "2DBox_US_A_3"]


def test_a_half_written_cache_is_completed_and_a_whole_one_is_read(tmp_path: Path) -> None:
    """Without their indices, a shard is made again; with them, the source is not opened any more."""
    data = tmp_path / "data"
    data.mkdir()
    write_picture(data, "2DBox_US_A_1", *picture())
    first = prepare_cache([data], tmp_path / "cache")
    (first.folder / INDEX).unlink()
    (first.folder / "shard-00000.json").unlink()
    (first.folder / "shard-00000.bin").write_bytes(b"half")
    again = prepare_cache([data], tmp_path / "cache")
    assert again.entries == first.entries and np.array_equal(again.read(0).labels, picture()[1])
    written = (again.folder / "shard-00000.bin").stat().st_mtime_ns
    assert prepare_cache([data], tmp_path / "cache").entries == first.entries
    assert (again.folder / "shard-00000.bin").stat().st_mtime_ns == written


def test_other_data_or_options_are_another_cache(tmp_path: Path) -> None:
    """A changed file, an added one, another size: none is mistaken for the cache before."""
    data = tmp_path / "data"
    data.mkdir()
    write_picture(data, "2DBox_US_A_1", *picture())
    hashes = {prepare_cache([data], tmp_path / "cache").content_hash}
    hashes.add(prepare_cache([data], tmp_path / "cache", CacheOptions(side_px=40)).content_hash)
    write_picture(data, "2DBox_US_A_2", *picture(1))
    hashes.add(prepare_cache([data], tmp_path / "cache").content_hash)
    write_picture(data, "2DBox_US_A_2", *picture(2))
    hashes.add(prepare_cache([data], tmp_path / "cache").content_hash)
    assert len(hashes) == 4


def test_data_sets_can_be_left_out(tmp_path: Path) -> None:
    """By the third word of the name."""
    data = tmp_path / "data"
    data.mkdir()
    write_picture(data, "2DBox_US_A_1", *picture())
    write_picture(data, "2DBox_US_B_1", *picture(1))
    cache = prepare_cache([data], tmp_path / "cache").without(["A"])
    assert [entry.case for entry in cache.entries] == ["2DBox_US_B_1"]


def test_prepared_data_needs_neither_its_sources_nor_its_place(tmp_path: Path) -> None:
    """Moved elsewhere with the sources gone, it is the same cache; of another format or cut, it is refused."""
    data = tmp_path / "data"
    data.mkdir()
    write_picture(data, "2DBox_US_A_1", *picture())
    write_volume(data, "3DBox_CT_B_1", [2, 3])
    made = prepare_cache([data], tmp_path / "cache", CacheOptions(side_px=40))
    shutil.rmtree(data)
    carried = made.folder.rename(tmp_path / "carried")
    found = open_cache(carried)
    assert replace(found, folder=made.folder) == made and is_cache(carried) and not is_cache(tmp_path)
    assert found.read(0).labels.shape == (33, 40)
    (carried / "shard-00000.bin").write_bytes(b"")
    with pytest.raises(RunError, match="damaged"):
        found.read(0)
    (carried / "shard-00000.json").write_text("[]")
    with pytest.raises(RunError, match=r"carried: prepared data that cannot be read .*prepare it again"):
        open_cache(carried)
    (carried / INDEX).write_text('{"format": 1}')
    with pytest.raises(RunError, match="another version"):
        open_cache(carried)


def test_grey_slices_that_need_not_be_exact_take_less_room(tmp_path: Path) -> None:
    """Within JPEG's error; labels stay exact."""
    (tmp_path / "data").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (3, 96, 96), dtype=np.uint8)
    image = np.stack([cv2.GaussianBlur(part, (9, 9), 3) for part in noise])
    truth = np.zeros(image.shape, dtype=np.uint8)
    truth[1, 20:50, 30:70] = 3
    write_case(tmp_path / "data" / "3DBox_CT_A_1.npz", make_case("3DBox_CT_A_1", image, np.zeros((0, 6)), truth=truth))
    exact, close = (
        prepare_cache([tmp_path / "data"], tmp_path / "cache", CacheOptions(exact=exact)) for exact in (True, False)
    )
    assert np.array_equal(exact.read(0).image, image[1])
    assert close.entries[0].image[1] < 0.6 * exact.entries[0].image[1]
    assert 0 < np.abs(close.read(0).image.astype(int) - image[1]).max() < 12
    assert np.array_equal(close.read(0).labels, truth[1])


def test_a_held_out_case_never_changes_sides(tmp_path: Path) -> None:
    """Adding data moves no case between training and validation."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(12):
        write_picture(data, f"2DBox_US_A_{number}", *picture(number))
    kept, held = prepare_cache([data], tmp_path / "cache").split(0.5)
    assert 0 < len(held) < 12 and not {entry.case for entry in kept.entries} & set(held)
    for number in range(12, 16):
        write_picture(data, f"2DBox_US_A_{number}", *picture(number))
    _, later = prepare_cache([data], tmp_path / "cache").split(0.5)
    assert set(held) == {name for name in later if int(name.split("_")[-1]) < 12}


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


def test_the_cache_keeps_each_objects_prompt_in_its_own_pixels(tmp_path: Path) -> None:
    """Of a picture the object's extent; of a volume its followed box, halved with the slices."""
    write_picture(tmp_path, "2DBox_US_A_1", *picture())
    write_volume(tmp_path, "3DBox_CT_B_1", [1, 2, 3])
    cache = prepare_cache([tmp_path], tmp_path / "cache", CacheOptions(side_px=20))
    prompts = {(entry.case, entry.index): np.array(entry.prompts) for entry in cache.entries}
    objects = {(entry.case, entry.index): np.array(entry.objects) for entry in cache.entries}
    assert np.array_equal(prompts["2DBox_US_A_1", 0], objects["2DBox_US_A_1", 0][:, 1:5])
    # the box is x 10 to 19, y 5 to 14 on 40 x 30 px: on slice 2 from edge 10 to 20 and 5 to 15, halved
    assert prompts["3DBox_CT_B_1", 2].tolist() == [[5, 2.5, 9, 6.5]]
    assert prompts["3DBox_CT_B_1", 1][0] == pytest.approx(
        [(14.5 - 3.817) / 2, (9.5 - 3.817) / 2, 18.317 / 2 - 0.5, 13.317 / 2 - 0.5], abs=6e-3
    )


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

"""Labelled folders become prepared data: whole or not at all, carried anywhere, and what is broken is named."""

import pickle
import shutil
from pathlib import Path

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from edge.errors import CaseError, RunError
from train.data import preparing
from train.data.cases import volume_prompts
from train.data.prepared import INDEX, LABELS, PIXELS, PREDICTED, is_prepared, open_prepared

PACK_ALL = preparing._pack_all  # as it is before any test replaces it
Picture = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def noise(seed: int, height: int = 50, width: int = 60) -> Picture:
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    labels = np.zeros((height, width), np.uint8)
    labels[10:20, 30:50] = 7
    return image, labels


def test_prepared_data_gives_back_what_went_in(prepare, picture: Picture, tube: Picture) -> None:
    """Pixels and labels to the bit, greys as one channel; objects with their extents over all slices."""
    grey = np.repeat(noise(0)[0][..., :1], 3, axis=2)
    data = prepare({"2DBox_US_A_1": picture, "2DBox_US_A_2": (grey, noise(0)[1]), "3DBox_CT_B_1": tube})
    assert [entry.name for entry in data.cases] == ["2DBox_US_A_1", "2DBox_US_A_2", "3DBox_CT_B_1"]
    assert all(map(np.array_equal, data.slice(0, 0), picture))
    assert np.array_equal(data.slice(1, 0)[0], grey[..., :1])
    assert np.array_equal(data.volume(2)[0][..., 0], tube[0]) and np.array_equal(data.volume(2)[1], tube[1])
    assert np.array_equal(data.slice(2, 3)[0][..., 0], tube[0][3]) and np.array_equal(data.slice(2, 3)[1], tube[1][3])
    assert data.objects[:, :8].tolist() == [
        [0, 1, 0, 40, 30, 0, 49, 49],
        [0, 2, 0, 70, 50, 0, 77, 57],
        [1, 7, 0, 10, 30, 0, 19, 49],
        [2, 1, 2, 20, 14, 10, 31, 41],
    ]
    assert data.tracked[data.objects[1, 8]].tolist() == [50, 70, 57, 77]


def test_an_object_of_a_volume_has_the_box_that_the_runtime_tracks_on_every_slice(prepare, tube: Picture) -> None:
    """As `volume_prompts` gives them; on the middle slice its own extent."""
    data = prepare({"3DBox_CT_B_1": tube})
    boxes_on, first = volume_prompts(*tube), int(data.objects[0, 8])
    found = data.tracked[first : first + 9]
    assert found == pytest.approx(np.array([boxes_on(z)[1] for z in range(2, 11)]), abs=1e-4)
    assert found[4].tolist() == [22, 20, 33, 31]


def test_large_images_are_reduced_with_their_objects_and_say_their_scale(prepare) -> None:
    """1024 x 400 px becomes 512 x 200; a 200 x 100 object a 100 x 50 one."""
    image, labels = noise(0, 400, 1024)
    labels[:] = 0
    labels[100:200, 300:500] = 1
    data = prepare({"2DBox_US_A_1": (image, labels)})
    assert data.cases[0].shape == (1, 200, 512) and data.cases[0].scale == 0.5
    assert data.objects[0, :8].tolist() == [0, 1, 0, 50, 150, 0, 99, 249]


def test_what_is_broken_or_shows_nothing_is_named_and_the_rest_taken(prepare, tmp_path: Path) -> None:
    """A cut archive, a constant image, objects of 4 px in an image and in a volume: one line each."""
    flat, small, deep = (noise(1)[0] * 0, noise(1)[1]), noise(2), np.zeros((3, 20, 20), np.uint8)
    small[1][:] = 0
    small[1][3:5, 3:5] = 1
    deep[1, 3:5, 3:5] = 1
    volume = np.random.default_rng(0).integers(0, 255, deep.shape, dtype=np.uint8)
    drawn = {"2DBox_US_A_1": noise(0), "2DBox_US_A_2": flat, "2DBox_US_A_3": small, "3DBox_CT_A_1": (volume, deep)}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "2DBox_US_A_4.npz").write_bytes(b"PK\x03\x04 cut")
    data = prepare(drawn)
    assert [entry.name for entry in data.cases] == ["2DBox_US_A_1"]
    assert [line.split(":")[0] for line in data.broken] == [
        "2DBox_US_A_2", "2DBox_US_A_3", "2DBox_US_A_4", "3DBox_CT_A_1",
    ]  # fmt: skip
    assert "constant" in data.broken[0] and "smaller than 6 px" in data.broken[1] and "smaller" in data.broken[3]


def test_a_folder_without_a_usable_case_leaves_nothing_behind(prepare, tmp_path: Path) -> None:
    """Neither prepared data nor half of it."""
    with pytest.raises(CaseError, match=r"no usable case; 2DBox_US_A_1: the image is constant"):
        prepare({"2DBox_US_A_1": (noise(1)[0] * 0, noise(1)[1])})
    assert not list((tmp_path / "prepared").iterdir())


def test_other_data_is_other_prepared_data_and_the_same_is_not_made_again(prepare, monkeypatch) -> None:
    """A changed file, an added one: neither is mistaken for what was there; unchanged, no source is opened."""
    first = prepare({"2DBox_US_A_1": noise(0)})
    changed = prepare({"2DBox_US_A_1": noise(1)})
    added = prepare({"2DBox_US_A_2": noise(2)})
    assert len({each.folder for each in (first, changed, added)}) == 3
    monkeypatch.setattr(preparing, "_pack_all", lambda *_: pytest.fail("made again"))
    again = preparing.prepare([first.folder.parents[1] / "data"], first.folder.parent)
    assert again.folder == added.folder


@pytest.mark.parametrize("ending", [".png", ".nii.gz"])
def test_labels_that_were_corrected_are_prepared_again(tmp_path: Path, ending: str) -> None:
    """They lie in a file of their own, beside an image that stays as it was."""
    image, labels = noise(0)
    write = write_picture if ending == ".png" else write_nifti
    write(tmp_path / f"US_A_1{ending}", image)
    write(tmp_path / f"US_A_1_gt{ending}", labels)
    before = preparing.prepare([tmp_path], tmp_path / "prepared")
    assert preparing.prepare([tmp_path], tmp_path / "prepared").folder == before.folder
    write(tmp_path / f"US_A_1_gt{ending}", np.roll(labels, 3, axis=1) * 2)
    after = preparing.prepare([tmp_path], tmp_path / "prepared")
    assert after.folder != before.folder and after.objects[0].tolist() != before.objects[0].tolist()


def write_picture(path: Path, array: np.ndarray) -> None:
    cv2.imwrite(str(path), array)


def write_nifti(path: Path, array: np.ndarray) -> None:
    grey = array[..., 0] if array.ndim == 3 else array
    nibabel.save(nibabel.nifti1.Nifti1Image(np.stack([grey] * 4, axis=-1), np.eye(4)), path)


def test_two_runs_that_prepare_the_same_data_at_once_both_get_it(prepare, tmp_path: Path, monkeypatch) -> None:
    """The second finds the first one's folder in its way, and takes it."""
    made = prepare({"2DBox_US_A_1": noise(0)})
    seen = iter([False, True])
    monkeypatch.setattr(preparing, "is_prepared", lambda _: next(seen))
    assert preparing.prepare([tmp_path / "data"], tmp_path / "prepared").folder == made.folder
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == [made.folder.name]


def test_prepared_data_needs_neither_its_sources_nor_its_place(prepare, tmp_path: Path, picture: Picture) -> None:
    """Moved elsewhere with the sources gone, it is the same; cut, damaged or of another format, it is refused."""
    made = prepare({"2DBox_US_A_1": picture})
    shutil.rmtree(tmp_path / "data")
    carried = made.folder.rename(tmp_path / "carried")
    found = open_prepared(carried)
    assert is_prepared(carried) and not is_prepared(tmp_path)
    assert np.array_equal(found.objects, made.objects) and np.array_equal(found.slice(0, 0)[0], picture[0])
    for name in (PIXELS, LABELS):
        whole = (carried / name).read_bytes()
        (carried / name).write_bytes(whole[:-1])
        with pytest.raises(RunError, match=rf"carried: .*{name} has {len(whole) - 1} of {len(whole)} bytes.*again"):
            open_prepared(carried)
        (carried / name).write_bytes(whole)
    (carried / INDEX).write_text('{"format": 1}')
    with pytest.raises(RunError, match="another version"):
        open_prepared(carried)
    (carried / INDEX).write_text("[]")
    with pytest.raises(RunError, match=r"carried: prepared data that cannot be read .*prepare it again"):
        open_prepared(carried)


def predictions(folder: Path, **found: np.ndarray) -> Path:
    folder.mkdir()
    for name, labels in found.items():
        np.savez_compressed(folder / f"{name}.npz", segs=labels)
    return folder


def test_what_a_model_found_is_kept_beside_the_labels(prepare, tmp_path: Path, picture: Picture, tube: Picture) -> None:
    """To the bit, of the volumes that it was asked for, carried and pickled; other predictions are other data."""
    drawn = {"2DBox_US_A_1": picture, "3DBox_CT_B_1": tube, "3DBox_CT_B_2": tube}
    found = np.roll(tube[1], 3, axis=2)
    plain = prepare(drawn)
    assert plain.predicted(2) is None
    data = prepare(drawn, predictions(tmp_path / "own", **{"3DBox_CT_B_2": found}))
    assert data.folder != plain.folder and data.content_hash != plain.content_hash
    for each in (data, pickle.loads(pickle.dumps(data)), open_prepared(data.folder), data.without(["A"])):
        assert np.array_equal(each.predicted(2), found) and not each.predicted(1).any() and each.with_predicted == 1
        assert each.predicted(0).shape == (1, *picture[1].shape) and np.array_equal(each.volume(2)[1], tube[1])
    other = prepare(drawn, predictions(tmp_path / "later", **{"3DBox_CT_B_2": found, "3DBox_CT_B_1": found}))
    assert other.folder != data.folder and np.array_equal(other.predicted(1), found)
    (other.folder / PREDICTED).write_bytes(b"")
    with pytest.raises(RunError, match=r"predicted.u16 has 0 of"):
        open_prepared(other.folder)


def test_a_volume_whose_object_a_model_missed_is_prepared_without_that(prepare, tmp_path: Path, tube: Picture) -> None:
    """And the others with theirs; a prediction for several cases is for none of them."""
    drawn, missed = {"3DBox_CT_B_1": tube, "3DBox_CT_B_2": tube}, np.zeros_like(tube[1])
    data = prepare(drawn, predictions(tmp_path / "own", **{"3DBox_CT_B_1": missed, "3DBox_CT_B_2": tube[1]}))
    assert data.with_predicted == 1 and not data.predicted(0).any() and data.predicted(1).any()
    shutil.copytree(tmp_path / "data", tmp_path / "more")
    with pytest.raises(RunError, match=r"3DBox_CT_B_1\.npz: 2 cases of the data are called so"):
        preparing.prepare([tmp_path / "data", tmp_path / "more"], tmp_path / "prepared", tmp_path / "own")


def test_predictions_that_do_not_belong_to_the_volumes_are_refused(prepare, tmp_path: Path, tube: Picture) -> None:
    """Of another shape, of no volume of the data, cut: each named, and nothing is left half prepared."""
    for folder, found, words in (
        ("small", {"3DBox_CT_B_1": tube[1][:5]}, r"3DBox_CT_B_1: .*\(5, 60, 60\), the volume \(13, 60, 60\)"),
        ("other", {"3DBox_CT_B_7": tube[1]}, "no label map of any volume"),
        ("wrong", {"3DBox_CT_B_1": tube[1] * 2}, "wrong: agrees with no truth anywhere; label k"),
    ):
        with pytest.raises((CaseError, RunError), match=words):
            prepare({"3DBox_CT_B_1": tube}, predictions(tmp_path / folder, **found))
    (predictions(tmp_path / "cut") / "3DBox_CT_B_1.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CaseError, match="3DBox_CT_B_1"):
        prepare({"3DBox_CT_B_1": tube}, tmp_path / "cut")
    assert not list((tmp_path / "prepared").iterdir())
    prepare({"3DBox_CT_B_1": tube})
    with pytest.raises(RunError, match="no such folder: no label map of any volume"):  # whatever was prepared before
        prepare({"3DBox_CT_B_1": tube}, tmp_path / "no such folder")


def test_data_sets_can_be_left_out_and_a_held_out_case_never_changes_sides(prepare) -> None:
    """By the third word of the name; adding data moves no case between training and validation."""
    drawn = {f"2DBox_US_{'AB'[number % 2]}_{number}": noise(number) for number in range(12)}
    data = prepare(drawn)
    assert {entry.name.split("_")[2] for entry in data.without(["A"]).used} == {"B"}
    kept, held = data.split(0.5)
    assert 0 < len(held) < 12 and {entry.name for entry in kept.used} == set(drawn) - set(held)
    assert all(kept.cases[case].name not in held for case in kept.objects[:, 0])
    _, later = prepare({f"2DBox_US_A_{number}": noise(number) for number in range(12, 16)}).split(0.5)
    assert set(held) == {name for name in later if int(name.split("_")[-1]) < 12}


def test_several_processes_prepare_what_one_does(prepare, tmp_path: Path, picture: Picture, tube: Picture) -> None:
    """Real ones, in the order of the names."""
    one = prepare({"2DBox_US_A_1": picture, "3DBox_CT_B_1": tube})
    done: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "_pack_all", PACK_ALL)
        several = preparing.prepare([tmp_path / "data"], tmp_path / "other", progress=lambda k, n: done.append((k, n)))
    assert (several.cases, several.broken, several.content_hash) == (one.cases, one.broken, one.content_hash)
    assert np.array_equal(several.objects, one.objects) and np.array_equal(several.tracked, one.tracked)
    assert (several.folder / PIXELS).read_bytes() == (one.folder / PIXELS).read_bytes()
    assert done == [(1, 2), (2, 2)]


def test_a_picture_with_its_labels_beside_it_is_prepared_in_colours(prepare, tmp_path: Path, picture: Picture) -> None:
    """RGB, not OpenCV's order."""
    image, labels = picture
    image[..., 0] //= 2
    (tmp_path / "data").mkdir()
    cv2.imwrite(str(tmp_path / "data" / "2DBox_US_A_1.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(tmp_path / "data" / "2DBox_US_A_1_gt.png"), labels)
    assert np.array_equal(prepare({}).slice(0, 0)[0], image)

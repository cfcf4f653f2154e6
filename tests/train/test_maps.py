"""Images with label maps: found in three layouts, changed together, made into samples; folds."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import CaseError, RunError
from train.data.folds import make_folds, read_fold, write_fold
from train.recipe import load_recipe
from train.sam_systems.augment import Changes, Picture, augment
from train.sam_systems.batch import collate_sam
from train.sam_systems.map_files import choose_groups, classes, find_maps, instances, read_map, with_objects
from train.sam_systems.map_task import MapOptions, MapSamples, as_validated, make_map_sample, map_options

LABELS = np.zeros((40, 60), np.int32)
LABELS[5:15, 10:20], LABELS[20:32, 30:54] = 700, 3  # 10 x 10 and 12 rows x 24 columns


def picture() -> Picture:
    image = np.full((40, 60, 3), (200, 120, 160), np.uint8)
    image[LABELS > 0] = (60, 20, 90)
    return Picture(image, LABELS, np.ones((40, 60), bool))


def write_nuinsseg(root: Path) -> Path:
    """Two organs; the first has an ambiguous area, the second an empty label map beside a good one."""
    for organ, names in (("human kidney", ["human_kidney_01"]), ("mouse spleen", ["mouse_spleen_1", "mouse_spleen_2"])):
        for folder in ("tissue images", "label masks modify", "vague areas/mask binary"):
            (root / organ / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            labels = LABELS if not name.endswith("2") else np.zeros_like(LABELS)
            cv2.imwrite(str(root / organ / "tissue images" / f"{name}.png"), picture().image[..., ::-1])
            cv2.imwrite(str(root / organ / "label masks modify" / f"{name}.tif"), labels.astype(np.uint16))
    vague = np.zeros((40, 60), np.uint8)
    vague[:, 50:] = 255
    cv2.imwrite(str(root / "human kidney" / "vague areas" / "mask binary" / "human_kidney_01.png"), vague)
    return root


def options(*overrides: str) -> MapOptions:
    return map_options(load_recipe("nuinsseg-mobilesam", ["image_size=128", "mask_px=60", *overrides]))


def test_nuinsseg_is_read_by_organ_with_its_ambiguous_areas(tmp_path: Path) -> None:
    """Labels above 255 survive; what is ambiguous does not count; the empty map is dropped and named."""
    found = find_maps([write_nuinsseg(tmp_path)])
    assert [(source.name, source.group) for source in found] == [
        ("human_kidney_01", "human kidney"),
        ("mouse_spleen_1", "mouse spleen"),
        ("mouse_spleen_2", "mouse spleen"),
    ]
    first = read_map(found[0])
    assert np.array_equal(first.labels, LABELS) and tuple(first.image[0, 0]) == (200, 120, 160)
    assert first.counted[:, :50].all() and not first.counted[:, 50:].any()
    kept, left_out = with_objects(found, "combine_all")
    assert [source.name for source in kept] == ["human_kidney_01", "mouse_spleen_1"]
    assert left_out == ["mouse_spleen_2: its label map holds nothing to learn"]
    assert [source.name for source in with_objects(found, "3")[0]] == ["human_kidney_01", "mouse_spleen_1"]
    assert with_objects(found, "4")[0] == []


def test_a_folder_of_pairs_and_flat_challenge_pictures(tmp_path: Path) -> None:
    """images/ with labels/ by name; pictures with `_gt.png` beside them, grouped by data set."""
    for folder, name in (("pairs/images", "a"), ("pairs/labels", "a"), ("pairs/images", "lonely")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / folder / f"{name}.png"), LABELS.astype(np.uint16))
    (tmp_path / "flat").mkdir()
    for end, array in (("", picture().image), ("_gt", LABELS.astype(np.uint16))):
        cv2.imwrite(str(tmp_path / "flat" / f"2DBox_Microscopy_DSB2018_1{end}.png"), array)
    found = find_maps([tmp_path / "pairs", tmp_path / "flat"])
    assert [source.name for source in found] == ["a", "2DBox_Microscopy_DSB2018_1"]
    assert np.array_equal(read_map(found[1]).labels, LABELS)
    assert [source.name for source in choose_groups(found, ["DSB2018"], [])] == ["2DBox_Microscopy_DSB2018_1"]
    with pytest.raises(RunError, match="only: no image of DSB; there are DSB2018"):
        choose_groups(found, ["DSB"], [])


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    """Label maps in colour or of another size; a folder with nothing; a name that comes twice."""
    root = write_nuinsseg(tmp_path / "one")
    label = root / "human kidney" / "label masks modify" / "human_kidney_01.tif"
    cv2.imwrite(str(label), np.dstack([np.eye(40, 60, dtype=np.uint8), *np.zeros((2, 40, 60), np.uint8)]))
    with pytest.raises(CaseError, match="is coloured; save its labels as numbers"):
        read_map(find_maps([root])[0])
    cv2.imwrite(str(label), np.zeros((41, 60), np.uint8))
    with pytest.raises(CaseError, match=r"human_kidney_01: .*of one size, got \(40, 60\), \(41, 60\)"):
        read_map(find_maps([root])[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaseError, match="no"):
        find_maps([tmp_path / "empty"])
    with pytest.raises(CaseError, match="2 images have this name"):
        find_maps([root, root])


def test_targets_make_classes_and_instances() -> None:
    """All labels together, each its own channel (the last takes the rest), one label's connected parts."""
    assert np.array_equal(classes(LABELS, "combine_all", 2), LABELS > 0)
    assert set(np.unique(classes(LABELS, "multi_all", 5))) == {0, 3, 4}
    assert np.array_equal(classes(LABELS, "3", 1), LABELS == 3)
    two = LABELS.copy()
    two[0, 0] = 3
    assert instances(two, "3").max() == 2 and instances(two, "combine_all") is two


def test_a_sample_is_laid_out_as_the_network_sees_it() -> None:
    """60 x 40 into squares of 128 and 60: rows 0 to 39 count; SAM's colours; the answer at its place."""
    sample = make_map_sample(picture(), options(), np.random.default_rng(0))
    assert sample.images.shape == (1, 3, 128, 128) and sample.classes.shape == (1, 60, 60)
    assert np.array_equal(sample.classes[0, :40], LABELS > 0)
    assert sample.counted[:40].all() and not sample.counted[40:].any() and not sample.classes[0, 40:].any()
    assert sample.images[0, :, 0, 0] == pytest.approx((np.array([200, 120, 160]) - [123.675, 116.28, 103.53]) / [
        58.395, 57.12, 57.375], abs=1e-5)  # fmt: skip
    assert sample.points.shape == (1, 0, 2) and sample.boxes.shape == (1, 0)


def test_prompts_ask_for_objects_one_by_one() -> None:
    """Both: a box around each (x 10 to 19 of 60, so times 128 / 60) and a point inside; targets are the objects."""
    both = as_validated(
        map_options(load_recipe("nuinsseg-sam-vit-b", ["prompt=hybrid", "image_size=128", "mask_px=60"]))
    )
    sample = make_map_sample(picture(), both, np.random.default_rng(1))
    order = np.argsort(sample.boxes[:, 0])
    scale = 128 / 60
    expected = np.array([[10, 5, 19, 14], [30, 20, 53, 31]]) * scale
    assert sample.boxes[order] == pytest.approx(expected, abs=1e-4)
    assert [int(sample.classes[place].sum()) for place in order] == [100, 288]
    for place in order:
        x, y = (sample.points[place, 0] / scale).round().astype(int)
        assert sample.classes[place, y, x] == 1
    point = make_map_sample(
        picture(), options("head=decoder", "prompt=point", "train_beside=[]"), np.random.default_rng(1)
    )
    assert point.points.shape == (2, 1, 2) and point.boxes.shape == (2, 0)


def test_a_batch_joins_samples_of_different_numbers_of_objects() -> None:
    """One image with two prompts and one with one: three answers, each on its own image."""
    both = map_options(load_recipe("nuinsseg-sam-vit-b", ["prompt=box", "image_size=64", "mask_px=32"]))
    only = Picture(picture().image, np.where(LABELS == 3, 3, 0), picture().counted)
    samples = [make_map_sample(part, as_validated(both), np.random.default_rng(0)) for part in (picture(), only)]
    batch = collate_sam(samples)
    assert batch.image_of_answer.tolist() == [0, 0, 1] and batch.target_of_answer.tolist() == [0, 1, 2]
    assert batch.sample_of_target.tolist() == [0, 0, 1] and batch.boxes.shape == (3, 4)
    assert batch.prompts.points is None and batch.classes.shape == (3, 32, 32)


def test_changes_keep_image_and_labels_together() -> None:
    """Dark pixels are the labelled ones before and after flips, crops and turns; what turns in is not counted."""
    changes = Changes(flip=0.5, rotation_rad=0.4, resized_crop=0.5)
    uncounted = 0
    for seed in range(20):
        changed = augment(picture(), changes, np.random.default_rng(seed))
        dark = (changed.image[..., 0] < 130) & changed.counted
        assert np.mean(dark == ((changed.labels > 0) & changed.counted)) > 0.98
        assert set(np.unique(changed.labels)) <= {0, 3, 700}
        assert not changed.image[~changed.counted].any() or (~changed.counted).mean() < 0.35
        uncounted += int((~changed.counted).sum())
    assert uncounted > 0


def test_colours_change_by_chance_and_labels_do_not() -> None:
    """Equalised, jittered, noisy; the same generator gives the same picture; without changes nothing changes."""
    changes = Changes(equalise=0.5, colour_jitter=0.3, noise=0.5)
    first, again, other = (augment(picture(), changes, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.image, again.image) and not np.array_equal(first.image, other.image)
    assert np.array_equal(first.labels, LABELS)
    assert np.array_equal(augment(picture(), Changes(), np.random.default_rng(0)).image, picture().image)


def test_an_epoch_shows_every_image_once_and_repeats_exactly(tmp_path: Path) -> None:
    """A position depends on seed, epoch and itself alone."""
    sources = with_objects(find_maps([write_nuinsseg(tmp_path)]), "combine_all")[0]
    first, again = (MapSamples(sources, options("flip=0.5"), 7, 3) for _ in range(2))
    assert np.array_equal(first[1].images, again[1].images)
    counts = [MapSamples(sources, options(), 7, epoch)[0].counted.sum() for epoch in range(12)]
    assert len(set(counts)) == 2  # the ambiguous one and the other both come first in some epoch


def test_folds_hold_each_name_out_once(tmp_path: Path) -> None:
    """7 of one group and 4 of another in 3 folds; stratified: 2-3 and 1-2 each; lists come back as written."""
    names = [f"a{k}" for k in range(7)] + [f"b{k}" for k in range(4)]
    groups = [name[0] for name in names]
    folds = make_folds(names, groups, 3, 42, stratify=True)
    assert sorted(name for fold in folds for name in fold.validation) == sorted(names)
    assert all(fold.training == frozenset(names) - fold.validation for fold in folds)
    held = [sorted(name[0] for name in fold.validation) for fold in folds]
    assert all(2 <= part.count("a") <= 3 and 1 <= part.count("b") <= 2 for part in held)
    assert folds == make_folds(names, groups, 3, 42, stratify=True) != make_folds(names, groups, 3, 43, stratify=True)
    write_fold(tmp_path, 0, folds[0], dict(zip(names, groups, strict=True)))
    assert read_fold(tmp_path, 0) == folds[0]
    with pytest.raises(RunError, match="at most the 11"):
        make_folds(names, groups, 12, 0, stratify=False)

"""Walks show slices, neighbours and masks that belong together, and say how far it is to the end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.data.extent import box_of
from edge.prompts.propagation import NEAREST, mask_value
from train.data import walks
from train.data.batch import ViewSample
from train.data.walks import UNKNOWN, Walk, draw_walk, make_walk

CHANCE = np.random.default_rng


@pytest.fixture
def clean(plain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks as drawn; ends known, walks along the slices, one slice a step."""
    monkeypatch.setattr(walks, "damage", lambda mask, _: np.where(mask >= 128, 255, 0).astype(np.uint8))
    for name, value in (("RANGE_KNOWN", 1.0), ("OTHER_AXIS", 0.0), ("TWO_SLICES", 0.0)):
        monkeypatch.setattr(walks, name, value)


def walk(step: int = 1, *, end: int = 10, known: bool = True) -> Walk:
    return Walk(np.zeros((13, 4, 4), np.uint8), np.zeros((13, 4, 4), np.uint16), 1, 6, end, step, known)


def test_a_masks_value_says_how_much_of_the_way_is_left() -> None:
    """By hand: 216 at the middle, 64 where nothing is left; from slice 6 to 10 there are 4.5 steps, 0.5 at the end."""
    assert [mask_value(left) for left in (-1, 0, 0.5, 1, 2)] == [64, 64, 140, 216, 216]
    assert [walk().mask_value(z) for z in (6, 7, 10)] == [216, round(64 + 152 * 3.5 / 4.5), round(64 + 152 * 0.5 / 4.5)]
    assert walk(-1, end=2).mask_value(5) == walk().mask_value(7)
    assert walk(known=False).mask_value(7) == UNKNOWN == 255 and NEAREST == 64


def test_the_slice_before_is_towards_the_middle_and_never_beyond_it() -> None:
    """Upwards and downwards."""
    assert [walk().before(z, 2) for z in (10, 8, 7, 6)] == [8, 6, 6, 6]
    assert [walk(-1, end=2).before(z) for z in (2, 5, 6)] == [3, 6, 6]
    assert (walk().steps, walk(-1, end=2).steps, walk(-1, end=6).steps) == (4, 4, 0)


def test_walks_go_from_the_middle_to_either_end_of_the_range(prepare, tube) -> None:
    """Slices 2 to 10: from 6 to 10 or 2; where the range is not known, one slice further, within the volume."""
    data = prepare({"3DBox_CT_B_1": tube})
    drawn = [draw_walk(data, 0, CHANCE(seed)) for seed in range(300)]
    with_end = {(found.middle, found.end, found.step) for found in drawn if found.range_known}
    without_end = {(found.middle, found.end, found.step) for found in drawn if not found.range_known}
    assert with_end == {(6, 10, 1), (6, 2, -1)} and without_end == {(6, 11, 1), (6, 1, -1)}
    assert np.mean([found.range_known for found in drawn]) == pytest.approx(0.85, abs=0.06)
    data.objects[0, [2, 5]] = 0, 12
    assert {draw_walk(data, 0, CHANCE(seed)).end for seed in range(60)} == {0, 12}


def test_an_object_of_one_slice_does_not_walk(prepare, tube) -> None:
    """Nor one of two slices towards the nearer end, where the middle is."""
    data = prepare({"3DBox_CT_B_1": tube})
    data.objects[0, [2, 5]] = 6, 6
    assert {draw_walk(data, 0, CHANCE(seed)) for seed in range(20)} == {None}
    data.objects[0, [2, 5]] = 6, 7
    ends = [draw_walk(data, 0, CHANCE(seed)) for seed in range(60)]
    assert {found.end for found in ends if found and found.range_known} == {7} and None in ends


def test_deep_volumes_are_walked_along_other_axes_too(prepare) -> None:
    """A ball in 30 slices: three of ten along y or x, and the sample's planes are then of that axis."""
    grid = np.mgrid[:30, :40, :50] - np.array([15, 20, 25])[:, None, None, None]
    labels = (np.square(grid).sum(axis=0) < 81).astype(np.uint8)
    data = prepare({"3DBox_CT_B_1": (np.where(labels, 200, 10).astype(np.uint8), labels)})
    shapes = [draw_walk(data, 0, CHANCE(seed)).labels.shape for seed in range(300)]
    assert set(shapes) == {(30, 40, 50), (40, 30, 50), (50, 30, 40)}
    assert np.mean([shape[0] == 30 for shape in shapes]) == pytest.approx(0.7, abs=0.08)
    shallow = labels[6:25]
    data = prepare({"3DBox_CT_B_1": (np.where(shallow, 200, 10).astype(np.uint8), shallow)})
    assert {draw_walk(data, 0, CHANCE(seed)).labels.shape for seed in range(60)} == {(19, 40, 50)}


def brightness(pixels: np.ndarray) -> int:
    """Which slice of the tube a plane shows: it is 100 + 10z bright."""
    return round((int(pixels.max()) - 100) / 10)


def shift(one: np.ndarray, other: np.ndarray, direction: int) -> float:
    """How far the second mask lies to the right of the first, px, by the side that stays in the view."""
    side = 0 if direction > 0 else 2
    return float(box_of(other >= 128)[side] - box_of(one >= 128)[side])


def steps(data, unrolled: bool, count: int = 60) -> list[ViewSample]:
    found = [make_walk(data, 0, 56, 0.0, CHANCE(seed), unrolled=unrolled) for seed in range(count)]
    assert None not in found
    return [sample for sample in found if sample is not None]


def test_a_step_shows_a_slice_its_neighbour_and_the_neighbours_mask(prepare, tube, clean) -> None:
    """The tube moves by 2 px a slice: the target lies that much further on than the mask."""
    seen = set()
    for sample in steps(prepare({"3DBox_CT_B_1": tube}), unrolled=False):
        z, near = brightness(sample.pixels[0]), brightness(sample.pixels[1])
        direction = 1 if z > 6 else -1
        seen.add(z)
        assert near == z - direction and sample.masked and sample.span == (0, 255)
        mask, scale = sample.pixels[2], 56 / round(12 / 0.72)
        assert set(np.unique(mask)) == {0, walk(direction, end=6 + 4 * direction).mask_value(z)}
        given = np.where(mask > 0, 255, 0)
        assert shift(given, sample.target, direction) == pytest.approx(2 * direction * scale, abs=1)
        assert (sample.pixels[1][given == 255] > 50).all() and (sample.pixels[0][sample.target == 255] > 50).all()
        assert sample.prompt.tolist() == box_of(given > 0).tolist()
    assert seen == {2, 3, 4, 5, 7, 8, 9, 10}


def test_beyond_the_end_of_a_range_that_is_not_known_nothing_is_asked_for(prepare, tube, clean, monkeypatch) -> None:
    """On slices 1 and 11 the target is empty, and the mask that is given is drawn at 255."""
    monkeypatch.setattr(walks, "RANGE_KNOWN", 0.0)
    ends = 0
    for sample in steps(prepare({"3DBox_CT_B_1": tube}), unrolled=False):
        beyond = sample.pixels[0].max() <= 100
        ends += beyond
        assert sample.target.any() != beyond and set(np.unique(sample.pixels[2])) == {0, 255}
    assert 5 < ends < 30  # of 60: one slice of five


def test_a_step_over_two_slices_shows_the_one_before_the_one_between(prepare, tube, clean, monkeypatch) -> None:
    """Towards the middle, where the walk begins."""
    monkeypatch.setattr(walks, "TWO_SLICES", 1.0)
    for sample in steps(prepare({"3DBox_CT_B_1": tube}), unrolled=False):
        assert abs(brightness(sample.pixels[0]) - brightness(sample.pixels[1])) == 2


def test_two_steps_ask_for_the_neighbour_first(prepare, tube, clean) -> None:
    """From the slice before it, or on the middle slice from a box; then for the next slice, with its mask value."""
    kinds = set()
    for sample in steps(prepare({"3DBox_CT_B_1": tube}), unrolled=True):
        assert sample.next_slice is not None and sample.next_target is not None
        first, second = brightness(sample.pixels[0]), brightness(sample.next_slice)
        direction = 1 if second > 6 else -1
        way, scale = walk(direction, end=6 + 4 * direction), 56 / round(12 / 0.72)
        assert second == first + direction and sample.mask_value == way.mask_value(second)
        assert shift(sample.target, sample.next_target, direction) == pytest.approx(2 * direction * scale, abs=1)
        assert (sample.pixels[0][sample.target == 255] > 50).all()
        kinds.add(sample.masked)
        if first == 6:
            assert not sample.masked and np.array_equal(sample.pixels[0], sample.pixels[2])
            margin = 0.15 * 12 * scale
            inner = box_of(sample.target >= 128) + np.array([1, 1, -1, -1]) * margin
            assert np.abs(sample.prompt - inner).max() <= 1
        else:
            assert sample.masked and brightness(sample.pixels[1]) == first - direction
            assert set(np.unique(sample.pixels[2])) == {0, way.mask_value(first)}
    assert kinds == {False, True}


def test_a_gap_in_an_object_gives_no_step_after_it(prepare, tube, clean) -> None:
    """Without label on slice 8, the step to 9 has no mask to be given; that to 8 asks for nothing."""
    image, labels = tube
    labels[8] = 0
    data = prepare({"3DBox_CT_B_1": (image, labels)})
    found = [make_walk(data, 0, 56, 0.0, CHANCE(seed), unrolled=False) for seed in range(80)]
    shown = {brightness(sample.pixels[0]) for sample in found if sample is not None}
    assert None in found and 9 not in shown and {8, 10, 7} <= shown
    assert all(not s.target.any() for s in found if s is not None and brightness(s.pixels[0]) == 8)


def test_given_masks_are_damaged(prepare, tube) -> None:
    """Of some tens of steps the most are not the neighbour's mask; prompts are the given mask's extent."""
    data = prepare({"3DBox_CT_B_1": tube})
    found = [make_walk(data, 0, 56, 0.5, CHANCE(seed), unrolled=False) for seed in range(40)]
    samples = [sample for sample in found if sample is not None]
    assert all(sample.prompt.tolist() == box_of(sample.pixels[2] > 0).tolist() for sample in samples)
    areas = {np.count_nonzero(sample.pixels[2]) for sample in samples}
    assert len(samples) > 30 and len(areas) > 20


@pytest.fixture
def own(tmp_path: Path, tube) -> Path:
    """What a model found in the tube: its left half on slices 2 to 8, on 9 and 10 something else."""
    found = np.zeros_like(tube[1])
    for z in range(2, 9):
        found[z, 20:32, 10 + 2 * z : 16 + 2 * z] = 1
    found[9:11, 50:60, 50:60] = 1
    folder = tmp_path / "own"
    folder.mkdir()
    np.savez_compressed(folder / "3DBox_CT_B_1.npz", segs=found)
    return folder


@pytest.mark.parametrize("unrolled", [False, True])
def test_steps_begin_with_the_mask_that_a_model_found(prepare, tube, own, clean, monkeypatch, unrolled) -> None:
    """The half of the tube where it is; the whole one, on slices where the model was lost; never for a middle's box."""
    monkeypatch.setattr(walks, "OWN_MASK", 1.0)
    monkeypatch.setattr(walks, "draw_walk", upwards)
    side, seen = 56 / round(12 / 0.72), set()
    for sample in steps(prepare({"3DBox_CT_B_1": tube}, own), unrolled=unrolled):
        if not sample.masked:
            left, _, right, _ = box_of(sample.target > 0)  # on the middle slice: its box, in a view around that
            assert (left + right) / 2 == pytest.approx(27.5, abs=1.5)
            continue
        given, near = sample.pixels[2], brightness(sample.pixels[1])
        seen.add(near)
        half = 6 <= near <= 8
        shape = box_of(given > 0)[2:] - box_of(given > 0)[:2] + 1
        assert shape[1] / shape[0] == pytest.approx(2 if half else 1, abs=0.2)
        assert sample.prompt.tolist() == box_of(given > 0).tolist()
        if not half:
            assert shape == pytest.approx(12 * side, abs=1.5)
    assert seen == ({6, 7, 8} if unrolled else {6, 7, 8, 9})


def upwards(data, row: int, chance: np.random.Generator) -> Walk | None:
    """A walk of `draw_walk`, drawn until it goes up."""
    while (found := draw_walk(data, row, chance)) is None or found.step < 0:
        pass
    return found


def test_a_share_of_steps_begins_with_predicted_masks(prepare, tube, own, clean, monkeypatch) -> None:
    """Three of five, of those that can."""
    monkeypatch.setattr(walks, "draw_walk", upwards)
    found = steps(prepare({"3DBox_CT_B_1": tube}, own), unrolled=False, count=200)
    widths = [np.subtract(*box_of(s.pixels[2] > 0)[[2, 0]]) for s in found if 6 <= brightness(s.pixels[1]) <= 8]
    assert np.mean(np.array(widths) < 0.75 * max(widths)) == pytest.approx(0.6, abs=0.1)


def test_walks_along_other_axes_have_no_predicted_masks(prepare, tmp_path: Path) -> None:
    """The prediction is of a walk along the slices."""
    grid = np.mgrid[:30, :40, :50] - np.array([15, 20, 25])[:, None, None, None]
    labels = (np.square(grid).sum(axis=0) < 81).astype(np.uint8)
    np.savez(tmp_path / "3DBox_CT_B_1.npz", segs=labels)
    data = prepare({"3DBox_CT_B_1": (np.where(labels, 200, 10).astype(np.uint8), labels)}, tmp_path)
    drawn = [draw_walk(data, 0, CHANCE(seed)) for seed in range(60)]
    assert {(walk.labels.shape[0] == 30, walk.predicted is not None) for walk in drawn} == {
        (True, True),
        (False, False),
    }


def test_a_predicted_mask_is_given_where_it_is_near_the_true_one(prepare, tube, own) -> None:
    """Otherwise, and without any, the true one is; so is it where a hundredth of the object was found."""
    data = prepare({"3DBox_CT_B_1": tube}, own)
    walk_up = upwards(data, 0, CHANCE(0))
    assert [walk_up.own_mask(z) is not None for z in range(6, 11)] == [True, True, True, False, False]
    assert np.array_equal(walk_up.own_mask(7), np.load(own / "3DBox_CT_B_1.npz")["segs"][7] == 1)
    assert replace(walk_up, predicted=None).own_mask(7) is None
    assert replace(walk_up, label=2).own_mask(7) is None
    speck = np.zeros_like(walk_up.predicted)
    speck[7, 25, 30] = 1
    assert replace(walk_up, predicted=speck).own_mask(7) is None
    assert replace(walk_up, predicted=np.ones_like(speck)).own_mask(7).all()
    assert upwards(prepare({"3DBox_CT_B_1": tube}), 0, CHANCE(0)).predicted is None


def test_a_walk_is_of_its_own_label() -> None:
    """Others on the slice are background."""
    labels = np.zeros((13, 4, 4), np.uint16)
    labels[6, 0, 0], labels[6, 1, 1] = 1, 2
    assert np.argwhere(replace(walk(), labels=labels).mask(6)).tolist() == [[0, 0]]

"""Instance metrics: small maps by hand, a slow second opinion on 200 random ones, and speed."""

import math
import time

import numpy as np
import pytest

from edge.errors import CaseError
from edge.scoring.instances import InstanceScores, instances_from_mask, score_instances


def strip(*runs: tuple[int, int]) -> np.ndarray:
    """A map of one row from (label, length) runs."""
    return np.concatenate([np.full(length, label) for label, length in runs])[None].astype(np.int32)


BY_HAND = {
    "negative": (
        strip((-1, 4), (0, 2), (3, 4)),
        strip((5, 4), (0, 2), (-7, 4)),
        # a number below 0 is an instance like any other, and 0 the background
        (1, 1, 1, 1, 1, 1),
    ),
    # truth, prediction, (dice, iou, aji, pq, sq, rq)
    "touching": (
        strip((1, 4), (2, 4), (0, 2)),
        strip((1, 3), (2, 5), (0, 2)),
        # pairs: 1-1 3/4, 2-2 4/5 (1-2 1/8): AJI 7 / 9
        (1, 1, 7 / 9, 0.775, 0.775, 1),
    ),
    "split": (
        strip((1, 10), (0, 2)),
        strip((1, 6), (2, 4), (0, 2)),
        # best 6/10, the other half is nobody's: AJI 6 / (10 + 4); one match of 0.6, one false positive
        (1, 1, 6 / 14, 0.6 * 2 / 3, 0.6, 2 / 3),
    ),
    "merged": (
        strip((1, 6), (2, 4), (0, 2)),
        strip((1, 10), (0, 2)),
        # both take it: AJI (6 + 4) / (10 + 10); it matches the larger with 0.6, the other is missed
        (1, 1, 10 / 20, 0.6 * 2 / 3, 0.6, 2 / 3),
    ),
    "missed": (
        strip((1, 4), (0, 1), (2, 5)),
        strip((1, 4), (0, 6)),
        # dice 2 * 4 / (9 + 4); AJI 4 / (4 + 5)
        (8 / 13, 4 / 9, 4 / 9, 2 / 3, 1, 2 / 3),
    ),
    "spurious": (
        strip((1, 4), (0, 6)),
        strip((7, 4), (0, 1), (9, 3), (0, 2)),
        (8 / 11, 4 / 7, 4 / 7, 2 / 3, 1, 2 / 3),
    ),
    "empty": (
        strip((1, 4), (0, 2), (2, 2)),
        strip((0, 8)),
        # all of it missed: 0 of 6 px, no match of 2
        (0, 0, 0, 0, 0, 0),
    ),
    "half": (
        strip((1, 4), (0, 4)),
        strip((0, 2), (1, 4), (0, 2)),
        # IoU 2/6 is taken by AJI but is no match
        (0.5, 1 / 3, 1 / 3, 0, 0, 0),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_scores_worked_out_by_hand(name: str) -> None:
    """Touching, split, merged, missed, spurious, empty, and an overlap too small to match."""
    truth, prediction, expected = BY_HAND[name]
    assert score_instances(truth, prediction) == InstanceScores(*(pytest.approx(value) for value in expected))


def test_empty_sides() -> None:
    """Both empty: nothing to say. One empty: all is wrong."""
    empty, one = np.zeros((3, 4), np.uint8), np.eye(3, 4, dtype=np.uint8)
    assert all(map(math.isnan, score_instances(empty, empty).as_dict().values()))
    for truth, prediction in ((empty, one), (one, empty)):
        assert set(score_instances(truth, prediction).as_dict().values()) == {0.0}


def test_maps_of_two_shapes_are_refused() -> None:
    """A prediction at another size is not quietly broadcast."""
    with pytest.raises(CaseError, match="one shape"):
        score_instances(np.ones((1, 4), int), np.ones((4, 4), int))


def slow_scores(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, ...]:
    """The definitions with sets of pixels and two loops."""
    ours = [set(np.flatnonzero(truth.ravel() == label)) for label in sorted(set(truth.ravel()) - {0})]
    theirs = [set(np.flatnonzero(prediction.ravel() == label)) for label in sorted(set(prediction.ravel()) - {0})]
    all_ours, all_theirs = set().union(*ours), set().union(*theirs)
    shared = len(all_ours & all_theirs)
    inter = union = 0
    taken, matches = set(), []
    for mine in ours:
        ious = [len(mine & other) / len(mine | other) for other in theirs]
        matches += [iou for iou in ious if iou > 0.5]
        if not ious or max(ious) == 0:
            union += len(mine)
            continue
        partner = ious.index(max(ious))
        taken.add(partner)
        inter += len(mine & theirs[partner])
        union += len(mine | theirs[partner])
    union += sum(len(other) for number, other in enumerate(theirs) if number not in taken)
    positive = len(matches)
    rq = positive / (positive + (len(theirs) - positive) / 2 + (len(ours) - positive) / 2)
    sq = sum(matches) / positive if positive else 0.0
    dice, iou = 2 * shared / (len(all_ours) + len(all_theirs)), shared / len(all_ours | all_theirs)
    return dice, iou, inter / union, sq * rq, sq, rq


def random_map(rng: np.random.Generator) -> np.ndarray:
    """Overlapping rectangles with gaps in their numbering."""
    labels = np.zeros((24, 24), np.int32)
    for label in rng.choice(np.arange(1, 300), rng.integers(1, 9), replace=False):
        y, x, height, width = rng.integers(0, 18, 2).tolist() + rng.integers(1, 10, 2).tolist()
        labels[y : y + height, x : x + width] = label
    return labels


def test_200_random_maps_agree_with_a_slow_implementation() -> None:
    """Predictions are the truth shifted and partly painted over, or another map."""
    rng = np.random.default_rng(0)
    matched = 0
    for number in range(200):
        truth = random_map(rng)
        prediction = random_map(rng)
        if number % 2:
            moved = np.roll(truth, rng.integers(-1, 2, 2), axis=(0, 1))
            prediction = np.where(prediction % 5 == 1, prediction, moved)
        found = score_instances(truth, prediction)
        assert tuple(found.as_dict().values()) == pytest.approx(slow_scores(truth, prediction), abs=1e-12)
        matched += found.pq > 0
    assert matched > 60  # or the test would say little


def test_700_instances_on_1024_x_1024_take_less_than_a_second() -> None:
    """Discs on a grid, the prediction shifted by 3 px; processor time, which other programs do not lengthen."""
    y, x = np.mgrid[:1024, :1024]
    cell = (y // 38) * 27 + x // 38 + 1
    truth = np.where((y % 38 - 19) ** 2 + (x % 38 - 19) ** 2 < 200, cell, 0)
    start = time.process_time()
    scores = score_instances(truth, np.roll(truth, 3, axis=1))
    assert time.process_time() - start < 1
    assert len(np.unique(truth)) > 700 and 0.5 < scores.aji < 1 and scores.rq > 0.99


def discs(*centres: tuple[int, int], radius: int = 9) -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in centres], axis=0)


def test_components_and_watershed() -> None:
    """Two discs that touch are one component, and two after the split; a thin line stays one; no pixel is lost."""
    mask = discs((20, 16), (20, 32), (20, 54))
    mask[44, 5:40] = True
    whole, cut = instances_from_mask(mask), instances_from_mask(mask, split=True)
    assert whole.max() == 3 and cut.max() == 4
    assert np.array_equal(whole > 0, mask) and np.array_equal(cut > 0, mask)
    assert cut[20, 16] != cut[20, 32] and whole[20, 16] == whole[20, 32]
    assert len(np.unique(cut[44, 5:40])) == 1
    areas = np.bincount(cut.ravel())[[cut[20, 16], cut[20, 32]]]
    assert abs(int(areas[0]) - int(areas[1])) < 0.1 * areas.sum()


@pytest.mark.parametrize("split", [False, True])
def test_a_mask_of_nothing_or_everything(split: bool) -> None:
    """No instance; one instance."""
    assert instances_from_mask(np.zeros((8, 9), bool), split=split).max() == 0
    assert np.array_equal(instances_from_mask(np.ones((8, 9), bool), split=split), np.ones((8, 9)))

"""Scores of instances (nuclei, cells) against the truth: Dice, IoU, AJI, PQ, SQ, RQ; instances from a binary mask.

    dice, iou  of the two foregrounds, whatever their instances
    aji        each true instance takes the predicted one of highest IoU (the lower label where two are equal; one may
               be taken twice): sum of intersections over sum of unions plus the areas of what nobody took
               (Kumar et al., IEEE TMI 2017)
    sq, rq     pairs of IoU above 0.5 match: SQ is their mean IoU, RQ = TP / (TP + FP / 2 + FN / 2), PQ = SQ x RQ
               (Kirillov et al., CVPR 2019)

All are fractions, 0 to 1. With both sides empty all are NaN; with one side empty, or nothing matched, SQ, RQ and PQ
are 0.
"""

from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import CaseError
from edge.scoring.score import NAN, dice

MATCH_IOU = 0.5  # above it a pair matches; no instance can be in two such pairs
MAX_COUNTED_LABEL = 2**24  # above it labels are sorted, which takes longer than counting them
MIN_PEAK_PX = 2.0  # watershed: how deep inside its instance a seed lies at least

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class InstanceScores:
    """One image; the module's docstring says what the six numbers are."""

    dice: float
    iou: float
    aji: float
    pq: float
    sq: float
    rq: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def score_instances(truth: Labels, prediction: Labels) -> InstanceScores:
    """Score two instance maps (H, W) of one shape; 0 is background, labels need not be consecutive.

    Raises:
        CaseError: the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise CaseError(f"instance maps must have one shape, got {truth.shape} and {prediction.shape}")
    ours, our_areas = _ranked(truth)
    theirs, their_areas = _ranked(prediction)
    if not len(our_areas) and not len(their_areas):
        return InstanceScores(NAN, NAN, NAN, NAN, NAN, NAN)
    pairs = _overlaps(ours, theirs, our_areas, their_areas)
    sq, rq = _panoptic(pairs, len(our_areas), len(their_areas))
    foreground = float(dice(ours > 0, theirs > 0))
    return InstanceScores(
        dice=foreground,
        iou=foreground / (2 - foreground),
        aji=_aggregated_jaccard(pairs, our_areas, their_areas),
        pq=sq * rq,
        sq=sq,
        rq=rq,
    )


def instances_from_mask(mask: npt.NDArray[np.bool_], *, split: bool = False) -> npt.NDArray[np.int32]:
    """Instances (H, W), 1 to N, of a binary mask: its connected components (8 neighbours).

    Args:
        split: cut components that touch at their waists, by a watershed from the peaks of the distance to background.
    """
    components = np.asarray(
        cv2.connectedComponents(mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1], np.int32
    )
    return _split(mask, components) if split else components


@dataclass(frozen=True)
class _Overlaps:
    """Pairs of a true and a predicted instance that share pixels."""

    ours: npt.NDArray[np.intp]  # index of the true instance, from 0
    theirs: npt.NDArray[np.intp]
    shared: npt.NDArray[np.int64]  # px
    union: npt.NDArray[np.int64]  # px

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        return self.shared / self.union


def _ranked(labels: Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Each pixel's instance, 1 to N in label order and 0 for background, and the areas (N,) in px."""
    if labels.min(initial=0) < 0 or labels.max(initial=0) > MAX_COUNTED_LABEL:
        numbers, places = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
        instance = np.where(numbers == 0, 0, np.cumsum(numbers != 0))  # 0 stays the background, whatever is below it
        labels = instance[places[:-1]].reshape(labels.shape)
    indices = labels.astype(np.intp)
    areas = np.bincount(indices.ravel(), minlength=1)
    present = np.flatnonzero(areas[1:]) + 1
    ranks = np.zeros(len(areas), np.intp)
    ranks[present] = np.arange(1, len(present) + 1)
    return ranks[indices], areas[present]


def _overlaps(
    ours: npt.NDArray[np.intp],
    theirs: npt.NDArray[np.intp],
    our_areas: npt.NDArray[np.int64],
    their_areas: npt.NDArray[np.int64],
) -> _Overlaps:
    both = (ours > 0) & (theirs > 0)
    width = max(1, len(their_areas))
    keys, shared = np.unique((ours[both] - 1) * width + theirs[both] - 1, return_counts=True)
    rows, columns = np.divmod(keys, width)
    return _Overlaps(rows, columns, shared, our_areas[rows] + their_areas[columns] - shared)


def _panoptic(pairs: _Overlaps, true_count: int, predicted_count: int) -> tuple[float, float]:
    matched = pairs.iou[pairs.iou > MATCH_IOU]
    if not len(matched):
        return 0.0, 0.0
    return float(matched.mean()), 2 * len(matched) / (true_count + predicted_count)  # TP + FP/2 + FN/2 is their mean


def _aggregated_jaccard(
    pairs: _Overlaps, our_areas: npt.NDArray[np.int64], their_areas: npt.NDArray[np.int64]
) -> float:
    order = np.lexsort((pairs.theirs, -pairs.iou, pairs.ours))  # by true instance, its best partner first
    best = order[np.flatnonzero(np.diff(pairs.ours[order], prepend=-1))]
    lonely = our_areas.sum() - our_areas[pairs.ours[best]].sum()
    untaken = np.delete(their_areas, np.unique(pairs.theirs[best])).sum()
    return float(pairs.shared[best].sum() / (pairs.union[best].sum() + lonely + untaken))


def _split(mask: npt.NDArray[np.bool_], components: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Watershed from seeds: plateaus of the smoothed distance to background that no neighbour exceeds."""
    padded = np.pad(mask.astype(np.uint8), 1)  # the image's edge is background too
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    smooth = cv2.GaussianBlur(distance, (0, 0), 1.0)
    peaks = (smooth >= cv2.dilate(smooth, np.ones((7, 7), np.uint8)) - 1e-3) & (distance >= MIN_PEAK_PX)
    seeds = cv2.connectedComponents(cv2.dilate(peaks.astype(np.uint8), np.ones((3, 3), np.uint8)), ltype=cv2.CV_32S)[1]
    seeds[~mask] = 0
    seeded = np.unique(components[seeds > 0])
    unseeded = mask & ~np.isin(components, seeded)  # too thin for a peak: whole components stay
    relief = cv2.cvtColor((255 - 255 * smooth / max(float(smooth.max()), 1e-6)).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    outside = int(seeds.max()) + 1
    markers = np.where(mask & ~unseeded, seeds, outside).astype(np.int32)
    grown = np.asarray(cv2.watershed(relief, markers.copy()), np.int32)
    grown[(grown == outside) | ~mask | unseeded] = 0
    grown[unseeded] = outside + components[unseeded]
    return _filled(grown, mask)


def _filled(instances: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """The watershed's borders (-1), and what it gave to the outside, to the neighbour of the highest label; 1 to N."""
    filled = np.maximum(instances, 0).astype(np.float32)  # exact below 2^24; cv2.dilate has no int32
    while (bare := mask & (filled == 0)).any():
        grown = cv2.dilate(filled, np.ones((3, 3), np.uint8))
        if not grown[bare].any():
            break
        filled[bare] = grown[bare]
    return _ranked(filled.astype(np.int32))[0].astype(np.int32)

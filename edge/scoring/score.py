"""Scores of a label map against the truth: DSC and NSD, as the challenge computes them and as they should be.

    dsc            official: mean over labels 1 to the truth's highest; NaN when one of them is on neither side
    nsd_official   official, quirks kept: a 2D image is a volume one voxel thick, `spacing` is used as it lies in the
                   file, and the score is 0 unless dsc is above 0.2 (so 0 where dsc is NaN)
    nsd            contours in 2D, spacing by its axes in 3D; mean over the labels on either side, a label on one side
                   only counts 0; NaN when both sides are empty

So an empty truth has dsc NaN and nsd_official 0; its nsd is NaN when the prediction is empty too, else 0. All are
fractions, 0 to 1. One difference from the public program is meant: there a truth that reaches label 255 in uint8 wraps
around and counts as empty.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.data.case import Spacing
from edge.data.labels import some
from edge.data.modality import modality_of
from edge.scoring.surface import normalized_surface_dice

TOLERANCE = 2.0  # mm in 3D, pixels in 2D; the challenge's, for every case
OFFICIAL_MIN_DSC = 0.2  # at or below it the public program gives NSD 0
NO_SPACING = "spacing is not stated or cannot be used, 1 mm assumed"
NAN = float("nan")


@dataclass(frozen=True)
class LabelScore:
    """One label that is on either side."""

    label: int
    dsc: float
    nsd_official: float  # 0 where the case's is
    nsd: float


@dataclass(frozen=True)
class CaseScore:
    """One case; the module's docstring says what the three numbers are."""

    name: str
    modality: str
    dsc: float
    nsd_official: float
    nsd: float
    labels: tuple[LabelScore, ...] = ()  # empty for a case that could not be scored
    error: str | None = None  # why it could not be scored
    note: str | None = None  # what was assumed


def dice(truth: npt.NDArray[np.bool_], prediction: npt.NDArray[np.bool_]) -> float:
    """DSC of two masks of one shape, 0 to 1; NaN when both are empty."""
    total = np.count_nonzero(truth) + np.count_nonzero(prediction)
    return 2 * np.count_nonzero(truth & prediction) / total if total else NAN


def mean_dice(truth: npt.NDArray, prediction: npt.NDArray) -> float:
    """Mean DSC over the labels on either side of two label maps of one shape; NaN when both are empty.

    Unlike the official dsc it passes over labels on neither side, and counts 0 for labels the truth does not have.
    """
    return mean_without_nan(_dice_by_label(*_count(truth, prediction))[1:])


def score_case(
    name: str,
    truth: npt.NDArray,
    prediction: npt.NDArray,
    spacing_mm: Spacing | None = None,
    *,
    file_spacing: Spacing | None = None,
) -> CaseScore:
    """Score two maps of unsigned integer labels, (H, W) in pixels or (D, H, W) in mm.

    Args:
        name: such as 3DBox_CT_0001; gives the modality.
        truth: label k belongs to box k.
        prediction: likewise; another shape than the truth's scores 0 and says so.
        spacing_mm: (z, y, x) of a volume; None: 1 mm each way, with a note. Not used in 2D.
        file_spacing: the numbers as they lie in the truth's file, for nsd_official; None: the contract's (x, y, z).
    """
    if prediction.shape != truth.shape:
        error = f"{name}: segs must have the shape of gts, {truth.shape}, got {prediction.shape}"
        return failed_case(name, error, 0.0)
    is_volume = truth.ndim == 3
    notes = [NO_SPACING] if is_volume and spacing_mm is None else []
    spacing_mm = spacing_mm or (1.0, 1.0, 1.0)
    file_spacing = file_spacing or spacing_mm[::-1]

    counts = _count(truth, prediction)
    notes += _odd_labels(*counts)
    dice_by_label = _dice_by_label(*counts)
    last = int(np.flatnonzero(counts[0][1:]).max(initial=-1)) + 1  # the truth's highest label; an int cannot wrap
    dsc = float(np.mean(dice_by_label[1 : last + 1])) if last else NAN
    passes = dsc > OFFICIAL_MIN_DSC  # False for NaN
    labels = []
    for label, ours, theirs in _masks(truth, prediction, counts[0] + counts[1]):
        nsd = normalized_surface_dice(ours, theirs, spacing_mm if is_volume else (1.0, 1.0), TOLERANCE)
        official = _nsd_official(ours, theirs, file_spacing) if passes else 0.0
        labels.append(LabelScore(label, float(dice_by_label[label]), official, nsd))
    nsd_official = sum(label.nsd_official for label in labels) / last if passes else 0.0
    nsd = mean_without_nan([label.nsd for label in labels])
    return CaseScore(name, modality_of(name), dsc, nsd_official, nsd, tuple(labels), note="; ".join(notes) or None)


def failed_case(name: str, error: str, value: float) -> CaseScore:
    """A case that could not be scored: `value` in every number (0: the prediction's fault; NaN: the truth's)."""
    return CaseScore(name, modality_of(name), value, value, value, error=error)


def _odd_labels(
    in_truth: npt.NDArray[np.int64], in_prediction: npt.NDArray[np.int64], _in_both: npt.NDArray[np.int64]
) -> Iterator[str]:
    """What is to be said of labels whose scores nobody would expect."""
    ours, theirs = (np.flatnonzero(counts[1:]) + 1 for counts in (in_truth, in_prediction))
    if not len(ours):
        yield "gts holds no object"
        return
    absent = np.setdiff1d(np.arange(1, ours[-1] + 1), np.union1d(ours, theirs))
    if len(absent):
        yield f"gts holds {some(ours)}, expected 1 to the number of boxes; no DSC, as {some(absent)} is on neither side"
    if len(theirs) and not len(np.intersect1d(ours, theirs)):
        yield f"gts holds {some(ours)}, segs {some(theirs)}: no label in common"


def mean_without_nan(values: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Mean of what is not NaN; NaN when nothing is left."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else NAN


def _nsd_official(truth: npt.NDArray[np.bool_], prediction: npt.NDArray[np.bool_], file_spacing: Spacing) -> float:
    if truth.ndim == 2:
        truth, prediction, file_spacing = truth[..., None], prediction[..., None], (1.0, 1.0, 1.0)
    return normalized_surface_dice(truth, prediction, file_spacing, TOLERANCE)


def _planes(labels: npt.NDArray) -> npt.NDArray:
    """(D, H, W) of a volume or image: what is counted plane by plane needs no volume-sized temporary."""
    return labels if labels.ndim == 3 else labels[None]


def _count(truth: npt.NDArray, prediction: npt.NDArray) -> tuple[npt.NDArray[np.int64], ...]:
    """Pixels of each label 0 to the highest in the truth, in the prediction, and in both at one place."""
    highest = max(int(truth.max(initial=0)), int(prediction.max(initial=0)))
    counts = np.zeros((3, highest + 1), np.int64)
    for ours, theirs in zip(_planes(truth), _planes(prediction), strict=True):
        for row, labels in zip(counts, (ours, theirs, ours[ours == theirs]), strict=True):
            row += np.bincount(labels.ravel(), minlength=highest + 1)
    return tuple(counts)


def _dice_by_label(
    in_truth: npt.NDArray[np.int64], in_prediction: npt.NDArray[np.int64], in_both: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """DSC of each label; NaN where it is on neither side."""
    total = in_truth + in_prediction
    return np.divide(2 * in_both, total, out=np.full(len(total), NAN), where=total > 0)


def _masks(
    truth: npt.NDArray, prediction: npt.NDArray, counts: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """Each label that counts, with its two masks cropped to where either is."""
    present = np.flatnonzero(counts)
    ranks = np.zeros(len(counts), np.intp)
    ranks[present] = np.arange(len(present))
    touched = _touched(truth, prediction, ranks)
    for label in present[present > 0].tolist():
        box = []
        for axis in touched[3 - truth.ndim :]:
            filled = np.flatnonzero(axis[:, ranks[label]])
            box.append(slice(int(filled[0]), int(filled[-1]) + 1))
        yield label, truth[tuple(box)] == label, prediction[tuple(box)] == label


def _touched(truth: npt.NDArray, prediction: npt.NDArray, ranks: npt.NDArray[np.intp]) -> list[npt.NDArray[np.bool_]]:
    """For z, y and x: which labels each index holds, (length, number of ranks). One pass for all labels."""
    depth, height, width = _planes(truth).shape
    on_z, on_y, on_x = (np.zeros((length, int(ranks.max()) + 1), np.bool_) for length in (depth, height, width))
    rows, columns = np.arange(height)[:, None], np.arange(width)
    for labels in (truth, prediction):
        for z, plane in enumerate(_planes(labels)):
            rank = ranks[plane]
            on_z[z, rank] = True
            on_y[rows, rank] = True
            on_x[columns, rank] = True
    return [on_z, on_y, on_x]

"""Scores of a folder of predictions: per case, per modality, mean over modalities.

A prediction that is missing, unreadable or of another shape scores 0 in every number and is named; a truth that cannot
be used scores NaN and is named; the rest go on. Means leave NaN out and say of how many cases. The overall mean is the
one the challenge's papers print: every modality present counts once.
"""

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from edge.data.case import find_cases
from edge.data.folders import label_of, labelled
from edge.data.formats.registry import LABEL_ENDINGS, apart_mm, is_truth, kind_of, read_label_map
from edge.data.labels import count_boxes, number_by_box
from edge.data.names import TRUTH, case_name
from edge.data.npz import write_whole
from edge.data.table import format_table
from edge.errors import CaseError, RunError
from edge.scoring.score import NAN, TOLERANCE, CaseScore, failed_case, mean_without_nan, score_case

TRUTHS = (".npz", ".nii", ".nii.gz", ".nrrd", ".mha", *(f"{TRUTH}{ending}" for ending in LABEL_ENDINGS))
METRICS = ("dsc", "nsd_official", "nsd")
SpacingOrder = Literal["xyz", "zyx"]


@dataclass(frozen=True)
class MeanScore:
    """Mean over cases, or over modalities."""

    name: str
    count: int
    dsc: float
    nsd_official: float
    nsd: float
    skipped: int  # how many of `count` have a NaN, which its column's mean leaves out


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` returns."""

    cases: tuple[CaseScore, ...]  # by name
    modalities: tuple[MeanScore, ...]  # by name
    mean: MeanScore  # over the modalities present, each counting once

    @property
    def failed(self) -> tuple[CaseScore, ...]:
        """The cases that could not be scored; each says why in `error`."""
        return tuple(case for case in self.cases if case.error)

    def rows(self) -> list[tuple[str, ...]]:
        """A table of texts: header, cases, modalities, overall mean. Name, count, then METRICS to 4 decimals."""
        cases = [(case.name, "", *_texts(case)) for case in self.cases]
        means = [(mean.name, str(mean.count), *_texts(mean)) for mean in (*self.modalities, self.mean)]
        return [("case", "count", *METRICS), *cases, *means]


def evaluate(
    segs_dir: Path,
    truths_dir: Path,
    *,
    workers: int = 1,
    tolerance: float = TOLERANCE,
    spacing_order: SpacingOrder = "xyz",
    modality: str | None = None,
    recursive: bool = False,
) -> Evaluation:
    """Score every truth of a folder against the prediction of the same name, each in any form of a label map.

    An `.npz` holds a truth as `gts` and a prediction as `segs`; the truth of `<name>` may be called `<name>_gt`.

    Args:
        segs_dir: folder of predictions; files without a truth are passed over.
        truths_dir: folder of truths, or one file; whole cases will do where they hold `gts`.
        workers: processes; with 1 no other is started. The result does not depend on it.
        tolerance: mm in 3D, pixels in 2D.
        spacing_order: what `spacing` means in the truth files; "xyz" is the challenge's contract.
        modality: of every case; None: what its name says.
        recursive: truths in the folders within `truths_dir` too, each against the prediction at the same place.

    Raises:
        CaseError: no truth at all. A single bad file is named in its `CaseScore` instead.
        RunError: a worker process died.
    """
    paths = _find_truths(truths_dir, recursive)
    score = partial(
        score_file, segs_dir, tolerance=tolerance, spacing_order=spacing_order, modality=modality, root=truths_dir
    )
    workers = min(workers, len(paths))
    if workers <= 1:
        return summarize([score(path) for path in paths])
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            return summarize(list(pool.map(score, paths)))
    except BrokenProcessPool:
        raise RunError("a scoring process died, most likely short of memory; use fewer workers") from None


def score_file(
    segs_dir: Path,
    truth_path: Path,
    *,
    tolerance: float = TOLERANCE,
    spacing_order: SpacingOrder = "xyz",
    modality: str | None = None,
    root: Path | None = None,
) -> CaseScore:
    """Score one truth file against its prediction; what cannot be read is told in the result. See `evaluate`.

    Args:
        root: the truth's place below it is the prediction's below `segs_dir`; None: right in it.
    """
    label = label_of(truth_path, root or truth_path.parent)
    if is_truth(truth_path):
        label = label.removesuffix(TRUTH)
    score = _score_file((segs_dir / label).parent, truth_path, tolerance, spacing_order)
    error = score.error and labelled(score.error, truth_path, label)
    return replace(score, name=label, modality=modality or score.modality, error=error)


def _find_truths(truths: Path, recursive: bool) -> list[Path]:
    """The label maps of a folder: an image beside a file with its truth is none."""
    found = find_cases(truths, TRUTHS, recursive=recursive)
    if not truths.is_dir():
        return found
    separate = {(path.parent, case_name(path).removesuffix(TRUTH)) for path in found if is_truth(path)}
    return [path for path in found if is_truth(path) or (path.parent, case_name(path)) not in separate]


def _score_file(segs_dir: Path, truth_path: Path, tolerance: float, spacing_order: SpacingOrder) -> CaseScore:
    name = case_name(truth_path)
    named = name.removesuffix(TRUTH) if is_truth(truth_path) else name
    in_npz = kind_of(truth_path) == "npz"
    try:
        truth_map = read_label_map(truth_path, "gts")
        truth, told = number_by_box(truth_map.labels, count_boxes(truth_path) if in_npz else 0)
        if name.startswith(("2D", "3D")) and not name.startswith(f"{truth.ndim}D"):
            raise CaseError(f"{name}: gts must be {name[:2]} as the name says, got shape {truth.shape}")
    except CaseError as error:
        return failed_case(name, f"{error} (truth)", NAN)
    try:
        prediction_path = _prediction(segs_dir, named)
        prediction = read_label_map(prediction_path, "segs")
        if far := apart_mm(truth_map.geometry, prediction.geometry):
            raise CaseError(
                f"{name}: {prediction_path.name} lies {far:.1f} mm beside the truth; resample it to its grid"
            )
    except CaseError as error:
        return failed_case(name, f"{error} (prediction)", 0.0)
    spacing_mm = truth_map.spacing_mm
    file_spacing = spacing_mm and spacing_mm[::-1]  # as an .npz has it, (x, y, z)
    if spacing_order == "zyx" and in_npz:
        spacing_mm = file_spacing
    labels = prediction.labels
    score = score_case(name, truth, labels, spacing_mm, file_spacing=file_spacing, tolerance=tolerance)
    return replace(score, note="; ".join(filter(None, [told and f"gts {told}", score.note])) or None)


def _prediction(segs_dir: Path, name: str) -> Path:
    """The label map of a case, an .npz before others; where there is none, that .npz."""
    paths = [segs_dir / f"{name}{ending}" for ending in (".npz", *LABEL_ENDINGS)]
    return next((path for path in [*paths, segs_dir / f"{name}_labels.png"] if path.is_file()), paths[0])


def summarize(cases: list[CaseScore]) -> Evaluation:
    """Means per modality, and over the modalities present."""
    names = sorted({case.modality for case in cases})
    modalities = [_mean_score(name, [case for case in cases if case.modality == name]) for name in names]
    return Evaluation(tuple(cases), tuple(modalities), _mean_score("mean over modalities", modalities))


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything as plain dictionaries and lists at full precision, for `edge.reports.report.write_json`."""
    return {**asdict(evaluation), "failed": [case.name for case in evaluation.failed]}


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """Write a row per case: file name as in the public program's table, METRICS to 4 decimals (NaN empty), why.

    Raises:
        RunError: the file cannot be written.
    """
    rows: list[tuple[str, ...]] = [("case", *METRICS, "modality", "error", "note")]
    for case in evaluation.cases:
        texts = ("" if text == "nan" else text for text in _texts(case))
        rows.append((f"{case.name}.npz", *texts, case.modality, case.error or "", case.note or ""))
    write_whole(path, format_table(rows))


def _mean_score(name: str, scores: list[CaseScore] | list[MeanScore]) -> MeanScore:
    columns = [[getattr(score, metric) for score in scores] for metric in METRICS]
    skipped = sum(any(map(math.isnan, values)) for values in zip(*columns, strict=True))
    dsc, nsd_official, nsd = map(mean_without_nan, columns)
    return MeanScore(name, len(scores), dsc, nsd_official, nsd, skipped)


def _texts(score: CaseScore | MeanScore) -> tuple[str, ...]:
    return tuple(f"{getattr(score, metric):.4f}" for metric in METRICS)

"""Scores of a folder of predictions: per case, per modality, mean over modalities.

A prediction that is missing, unreadable or of another shape scores 0 in every number and is named; a truth that cannot
be used scores NaN and is named; the rest go on. Means leave NaN out and say of how many cases. The overall mean is the
one the challenge's papers print: every modality present counts once.
"""

import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from edge.data.case import Spacing
from edge.data.datasets import dataset_modality
from edge.data.files import write_whole
from edge.data.folders import labelled
from edge.data.formats.registry import apart_mm, kind_of, plane_of, read_label_map
from edge.data.labels import number_by_box
from edge.data.modality import UNKNOWN
from edge.data.names import LABEL_MAPS, case_name
from edge.data.outputs import DICOM_ONLY, ENDINGS, SIDECAR
from edge.data.remote import absolute, first_on_disk, on_disk
from edge.data.table import format_table
from edge.errors import CaseError, RunError
from edge.scoring.score import NAN, CaseScore, failed_case, mean_without_nan, score_case
from edge.scoring.truths import WITH_LABELS, count_boxes_of, labels_of, truth_files

PREDICTIONS = (".npz", "_labels.png", *LABEL_MAPS)  # after a case's name; the first is taken: <name>.png may be an
# overlay
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
    skipped: dict[str, int]  # metric -> how many of `count` have NaN, which its mean leaves out


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
        """A table of texts: header, cases, modalities, overall mean. Name, count, then METRICS to 4 decimals, with how
        many of the count where a mean leaves some out.
        """
        cases = [(case.name, "", *_texts(case)) for case in self.cases]
        means = [(mean.name, str(mean.count), *_texts(mean)) for mean in (*self.modalities, self.mean)]
        return [("case", "count", *METRICS), *cases, *means]


def evaluate(
    segs_dir: Path,
    truths_dir: Path,
    *,
    workers: int = 1,
    dask: str | None = None,
    spacing_order: SpacingOrder = "xyz",
    modality: str | None = None,
    recursive: bool = False,
) -> Evaluation:
    """Score every truth of a folder against the prediction of the same name, each in any form of a label map.

    An `.npz` holds a truth as `gts` and a prediction as `segs`; the truth of `<name>` may be called `<name>_gt`.

    Args:
        segs_dir: folder of predictions, or its address; files without a truth are passed over.
        truths_dir: folder of truths, or one file; whole cases will do where they hold `gts`.
        workers: processes; with 1 no other is started. The result does not depend on it.
        dask: address of a Dask scheduler whose workers score instead; see `edge.cluster`.
        spacing_order: what `spacing` means in the truth files; "xyz" is the challenge's contract.
        modality: of every case; None: what its name says.
        recursive: truths in the folders within `truths_dir` too, each against the prediction at the same place.

    Raises:
        CaseError: no truth at all. A single bad file is named in its `CaseScore` instead.
        RunError: a worker process died.
    """
    truths = truth_files(truths_dir, recursive=recursive)
    given: dict[str, Any] = {"spacing_order": spacing_order, "modality": modality}
    return summarize(score_files(segs_dir, truths, workers=workers, dask=dask, **given))


def score_files(
    segs_dir: Path, truths: Mapping[str, Path], *, workers: int = 1, dask: str | None = None, **given: Any
) -> list[CaseScore]:
    """What `score_file` says of each truth, in their order; for the arguments see `evaluate`.

    Args: truths: what a case is called, and its truth.

    Raises:
        RunError: a worker process died.
    """
    score = partial(_score_item, segs_dir=absolute(segs_dir), **given)
    items = [(absolute(path), label) for label, path in truths.items()]
    if dask and items:
        return _scored_on_cluster(dask, score, items)
    if min(workers, len(items)) <= 1:
        return list(map(score, items))
    try:
        with ProcessPoolExecutor(min(workers, len(items)), mp_context=multiprocessing.get_context("spawn")) as pool:
            return list(pool.map(score, items))
    except BrokenProcessPool:
        raise RunError("a scoring process died, most likely short of memory; use fewer --workers") from None


def _scored_on_cluster(
    address: str, score: Callable[[tuple[Path, str]], CaseScore], items: Sequence[tuple[Path, str]]
) -> list[CaseScore]:
    from edge.cluster import spread

    found = dict(spread(address, score, items))
    for result in found.values():
        if isinstance(result, BaseException):
            raise RunError(f"a scoring worker died, most likely short of memory ({type(result).__name__})")
    return [found[number] for number in range(len(items))]


def _score_item(item: tuple[Path, str], segs_dir: Path, **given: Any) -> CaseScore:
    return score_file(segs_dir, *item, **given)


def score_file(
    segs_dir: Path,
    truth_path: Path,
    label: str | None = None,
    *,
    spacing_order: SpacingOrder = "xyz",
    modality: str | None = None,
) -> CaseScore:
    """Score one truth file against its prediction; what cannot be read is told in the result. See `evaluate`.

    Args:
        label: what the case is called, the prediction's place below `segs_dir` without its ending; None: the truth's
            name.
    """
    label = label or labels_of([truth_path], truth_path.parent)[0]
    score = _score_file(segs_dir, truth_path, label, spacing_order)
    error = score.error and labelled(score.error, truth_path, label)
    known = dataset_modality(truth_path) if score.modality == UNKNOWN else None
    return replace(score, name=label, modality=modality or known or score.modality, error=error)


def _score_file(segs_dir: Path, truth_path: Path, label: str, spacing_order: SpacingOrder) -> CaseScore:
    name = case_name(truth_path)
    with ExitStack() as stack:
        try:
            truth_file = stack.enter_context(on_disk(truth_path, beside=()))
        except CaseError as error:
            return failed_case(name, f"{error} (truth)", NAN)
        try:
            stem = stack.enter_context(first_on_disk(segs_dir / label, PREDICTIONS, beside=(SIDECAR,)))
        except CaseError as error:
            return failed_case(name, f"{error} (prediction)", 0.0)
        return _score_files(stem, truth_file, spacing_order)


def _score_files(stem: Path, truth_path: Path, spacing_order: SpacingOrder) -> CaseScore:
    name = case_name(truth_path)
    said = Path(f"{stem}{SIDECAR}")  # by predict, beside the prediction
    try:
        truth_map = read_label_map(truth_path, "gts")
        boxes = count_boxes_of(truth_path, said, truth_map.labels.ndim)
        truth, told = number_by_box(truth_map.labels, boxes)
        if name.startswith("2D") and truth.ndim == 3 and len(truth) == 1:  # as NIfTI has a flat image
            truth = truth[0]
        if name.startswith(("2D", "3D")) and not name.startswith(f"{truth.ndim}D"):
            raise CaseError(f"{name}: gts must be {name[:2]} as the name says, got shape {truth.shape}")
    except CaseError as error:
        return failed_case(name, f"{error} (truth)", NAN)
    try:
        prediction_path = prediction_file(stem)
        prediction = read_label_map(prediction_path, "segs", plane_of(truth_map.geometry))
        if far := apart_mm(truth_map.geometry, prediction.geometry):
            raise CaseError(
                f"{name}: {prediction_path.name} lies {far:.1f} mm beside the truth; resample it to its grid"
            )
    except CaseError as error:
        return failed_case(name, f"{error} (prediction)", 0.0)
    spacing_mm, file_spacing = spacings(truth_path, truth_map.spacing_mm, spacing_order)
    labels = prediction.labels[0] if prediction.labels.shape == (1, *truth.shape) else prediction.labels
    others = [
        path.name for ending in WITH_LABELS if (path := Path(f"{stem}{ending}")).is_file() and path != prediction_path
    ]
    passed_over = f"{prediction_path.name} is scored, not {', '.join(others)} beside it" if others else None
    score = score_case(name, truth, labels, spacing_mm, file_spacing=file_spacing)
    return replace(score, note="; ".join(filter(None, [told and f"gts {told}", passed_over, score.note])) or None)


def spacings(path: Path, spacing_mm: Spacing | None, order: SpacingOrder) -> tuple[Spacing | None, Spacing | None]:
    """A truth's spacing (z, y, x) in mm, and its numbers as they lie in an `.npz`, for nsd_official.

    Args:
        spacing_mm: as it was read, of an `.npz` as if that stored x, y, z.
        order: what an `.npz` stores; other files say it themselves.
    """
    in_file = spacing_mm and spacing_mm[::-1]
    return (in_file if order == "zyx" and kind_of(path) == "npz" else spacing_mm), in_file


def prediction_file(stem: Path) -> Path:
    """The label map of a case by its path without ending, an .npz before others; where there is none, that .npz.

    Raises:
        CaseError: there is a DICOM SEG or RTSTRUCT alone.
    """
    paths = [Path(f"{stem}{ending}") for ending in PREDICTIONS]
    if found := next(filter(Path.is_file, paths), None):
        return found
    if dicom := next(filter(Path.is_file, (Path(f"{stem}{ENDINGS[one]}") for one in DICOM_ONLY)), None):
        cure = "predict with --format nifti, or cases convert --to nifti"
        raise CaseError(f"{stem.name}: {dicom.name} is not scored; {cure}")
    return paths[0]


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
    columns = {metric: [getattr(score, metric) for score in scores] for metric in METRICS}
    skipped = {metric: sum(map(math.isnan, values)) for metric, values in columns.items()}
    return MeanScore(
        name, len(scores), **{key: mean_without_nan(values) for key, values in columns.items()}, skipped=skipped
    )


def _texts(score: CaseScore | MeanScore) -> tuple[str, ...]:
    return tuple(_text(score, metric) for metric in METRICS)


def _text(score: CaseScore | MeanScore, metric: str) -> str:
    text = f"{getattr(score, metric):.4f}"
    if isinstance(score, CaseScore) or not score.skipped[metric]:
        return text
    return f"{text} ({score.count - score.skipped[metric]} of {score.count})"

"""Overlays of the cases that went worst, kept as they come: any number of cases can pass, a few pictures stay."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.case import Case, make_case
from edge.data.folders import label_of
from edge.data.formats.finding import image_of
from edge.data.formats.registry import plane_of, read_input, read_label_map, read_with_truth
from edge.data.labels import number_by_box
from edge.data.names import BOX_FILES, LABEL_MAPS, TRUTH, is_channel
from edge.data.objects import labels_of_case
from edge.data.outputs import output_files
from edge.data.prompting import boxes_of_labels, prompted
from edge.data.remote import first_on_disk, on_disk
from edge.data.scan import Reading
from edge.errors import CaseError, SamedgeError
from edge.predict import Job, Prediction, output_folder
from edge.reports.page import picture
from edge.scoring.evaluate import PREDICTIONS, Evaluation, prediction_file
from edge.scoring.score import mean_dice
from edge.scoring.truths import truth_files

KEPT = 6  # cases with pictures on a page
TRUTHS = tuple(f"{TRUTH}{ending}" for ending in LABEL_MAPS)  # after a case's name


@dataclass(frozen=True)
class Shown:
    """One case on a page."""

    case: str
    figure: float  # by which it is among the worst; NaN: it has none
    said: str  # such as "DSC 0.512"
    pictures: list[dict[str, Any]]  # see `edge.reports.page.picture`


class Worst:
    """The cases of the lowest figures so far, the lowest first."""

    def __init__(self, count: int = KEPT) -> None:
        self._count = count
        self.shown: list[Shown] = []

    def wants(self, figure: float | None) -> bool:
        """Whether a case of this figure would be shown; those without one come last."""
        return len(self.shown) < self._count or _rank(figure) < _rank(self.shown[-1].figure)

    def keep(self, name: str, figure: float | None, said: str, case: Case, labels: npt.NDArray) -> None:
        """Draw a case, its truth too where it is known; without boxes, those around its objects."""
        if not self.wants(figure):
            return
        if not len(case.boxes):
            case = replace(case, boxes=boxes_of_labels(labels if case.truth is None else case.truth)[0])
        drawn = [] if case.truth is None else [picture("truth", case, case.truth)]
        drawn.append(picture("prediction", case, labels))
        shown = Shown(name, np.nan if figure is None else figure, said, drawn)
        self.shown = sorted([*self.shown, shown], key=lambda one: (_rank(one.figure), one.case))[: self._count]


def figure_of(case: Case, labels: npt.NDArray) -> tuple[float, str]:
    """How well a case went, 0 to 1, and that in words: DSC where its truth is known, else how full its boxes are."""
    if case.truth is not None:
        dsc = mean_dice(number_by_box(case.truth, len(case.boxes))[0], labels)
        return dsc, f"DSC {dsc:.3f}"
    if not len(case.boxes):
        return np.nan, ""
    corners = case.boxes.reshape(len(case.boxes), 2, -1)
    sizes = np.prod(np.floor(corners[:, 1]) - np.ceil(corners[:, 0]) + 1, axis=1).clip(1)
    found = np.bincount(labels.ravel(), minlength=len(case.boxes) + 1)[1 : len(case.boxes) + 1]
    share = float((found / sizes).min())
    return share, "a box without a mask" if share == 0 else f"a mask fills {100 * share:.0f} % of its box"


def _rank(figure: float | None) -> float:
    return np.inf if figure is None or figure != figure else figure


def worst_predictions(
    predictions: Sequence[Prediction], paths: Sequence[Path], outputs: Path, root: Path, job: Job
) -> list[Shown]:
    """The worst of what `samedge predict` did, read again from its inputs and outputs.

    Args: paths, outputs, root, job: as `edge.predict.predict_cases` was given them.
    """
    worst, by_name = Worst(), {label_of(path, root): path for path in paths}
    for prediction in predictions:
        if prediction.status != "done":
            continue
        source = by_name[prediction.name]
        output = output_files(source, output_folder(source, root, outputs), job.formats)[0]
        try:
            with on_disk(source, beside=(*BOX_FILES, *TRUTHS)) as path, on_disk(output, beside=()) as file:
                case = read_with_truth(path, job.reading)
                with suppress(CaseError):  # a model that needs no boxes
                    case = prompted(case, path, job.prompting)
                labels = labels_of_case(case, path, file)
        except CaseError:  # moved or changed since
            continue
        figure, said = figure_of(case, labels)
        worst.keep(prediction.name, figure, said, case, labels)
    return worst.shown


def worst_scores(evaluation: Evaluation, segs: Path, truths: Path, *, recursive: bool) -> list[Shown]:
    """The worst of what was scored, drawn over their images, or over black where there are none.

    Args: segs, truths, recursive: as `edge.scoring.evaluate.evaluate` was given them.
    """
    scored = {case.name: case.dsc for case in evaluation.cases if not case.error}
    files = truth_files(truths, recursive=recursive)
    worst = Worst()
    for name in sorted(scored, key=lambda one: _rank(scored[one])):
        if not worst.wants(scored[name]):
            break
        with on_disk(files[name], beside=()) as file, first_on_disk(segs / name, PREDICTIONS) as stem:
            truth_map = read_label_map(file, "gts")
            prediction = read_label_map(prediction_file(stem), "segs", plane_of(truth_map.geometry))
            case = _over_image(file, name, truth_map.labels, truths)
            labels = prediction.labels.reshape(case.shape)  # an image may be one slice of a NIfTI file
        worst.keep(name, scored[name], f"DSC {scored[name]:.3f}", case, labels)
    return worst.shown


def _over_image(truth_file: Path, name: str, truth: npt.NDArray, root: Path) -> Case:
    """The image that a truth is of, wherever it lies, with that truth."""
    image = image_of(truth_file, root)
    try:
        case = read_input(image, Reading(volume=0 if is_channel(image) else None)) if image else None
    except SamedgeError:
        case = None
    if case is None or case.shape[-2:] != truth.shape[-2:] or math.prod(case.shape) != truth.size:
        flat = truth.ndim == 3 and len(truth) == 1
        shape = truth.shape[1:] if flat else truth.shape
        blank = np.zeros(shape if len(shape) == 3 else (*shape, 3), np.uint8)
        case = make_case(name, blank, np.zeros((0, 2 * len(shape))), shaped=len(shape))
    truth = truth.reshape(case.shape)
    return replace(case, truth=truth, boxes=boxes_of_labels(truth)[0])

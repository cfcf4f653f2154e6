"""One page that stands alone of a run of `predict`, `evaluate` or `bench`: numbers, stages, the worst cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.predict import Prediction
from edge.reports.page import write_page
from edge.reports.report import count
from edge.reports.worst import Shown
from edge.scoring.evaluate import METRICS, Evaluation

SCORE_TITLES = ("DSC", "NSD official", "NSD")
STAGES = ("start", "load", "read", "preprocess", "encode", "decode", "restore+merge", "save")
COLOURS = ("#9aa5b1", "#6b7a8c", "#4f9d9a", "#8cc084", "#2458a6", "#6f9be0", "#c77f3a", "#a05a8a")  # of STAGES


@dataclass(frozen=True)
class Table:
    """Columns, title -> kind (`text`, `wrap`, `number`, `seconds`, `score`), and rows of as many values."""

    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class RunPage:
    """What a page says, from top to bottom."""

    title: str
    report: Mapping[str, Any]  # `created`, `machine`, and where it is known `engines`
    done: int
    failures: Sequence[str]  # one line each
    groups: Table  # a row for each modality, and one for all
    cases: Table
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of each run, seconds of each stage
    worst: Sequence[Shown] = ()
    worst_by: str = "lowest DSC first"


def write_run_page(path: Path, page: RunPage) -> None:
    """Write it as HTML.

    Raises:
        RunError: jinja2 is not installed, or the file cannot be written.
    """
    total = page.done + len(page.failures)
    verdict = f"{page.done} of {count(total, 'case', 's')} done" if page.failures else count(total, "case", "s")
    stages = {
        run: {name: seconds[name] for name in STAGES if seconds.get(name)} for run, seconds in page.stages.items()
    }
    used = {name for seconds in stages.values() for name in seconds}
    colours = {name: colour for name, colour in zip(STAGES, COLOURS, strict=True) if name in used}
    most = max((sum(seconds.values()) for seconds in stages.values()), default=0.0)
    write_page(path, "run.html", {"page": page, "verdict": verdict, "stages": stages, "most": most, "colours": colours})


def prediction_page(predictions: Sequence[Prediction], report: Mapping[str, Any], worst: Sequence[Shown]) -> RunPage:
    """Of `samedge predict`; `report` is the run's manifest."""
    done = [one for one in predictions if one.status == "done"]
    columns = {"case": "text", "size": "text", "boxes": "number", "slices": "number", "seconds": "seconds"}
    rows = [[one.name, " × ".join(map(str, one.shape)), one.boxes, one.slices, one.total_s] for one in done]
    groups = []
    for title, chosen in (("images", [one for one in done if len(one.shape) == 2]),
                          ("volumes", [one for one in done if len(one.shape) == 3]), ("all", done)):  # fmt: skip
        if chosen:
            seconds = sum(one.total_s for one in chosen)
            groups.append([title, len(chosen), sum(one.boxes for one in chosen), seconds, seconds / len(chosen)])
    group_columns = {
        "": "text", "cases": "number", "boxes": "number", "seconds": "seconds", "seconds a case": "seconds",
    }  # fmt: skip
    return RunPage(
        "samedge predict",
        {**report, "engines": [report["engine"]] if report.get("engine") else []},
        len(done),
        [one.error for one in predictions if one.error],
        Table(group_columns, groups),
        Table(columns, rows),
        {"all cases": summed([one.stage_s for one in done])},
        worst,
        "lowest DSC, or emptiest box, first",
    )


def evaluation_page(evaluation: Evaluation, report: Mapping[str, Any], worst: Sequence[Shown]) -> RunPage:
    """Of `samedge evaluate`; `report` is what its JSON file holds."""
    scores = dict.fromkeys(SCORE_TITLES, "score")
    means = [
        [mean.name, mean.count, *(getattr(mean, metric) for metric in METRICS)]
        for mean in (*evaluation.modalities, evaluation.mean)
    ]
    rows = [
        [case.name, case.modality, *(getattr(case, metric) for metric in METRICS), case.error or case.note or ""]
        for case in evaluation.cases
    ]
    prediction = report.get("prediction") or {}
    return RunPage(
        "samedge evaluate",
        {**report, "engines": [prediction["engine"]] if prediction.get("engine") else []},
        len(evaluation.cases) - len(evaluation.failed),
        [case.error for case in evaluation.failed if case.error],
        Table({"modality": "text", "cases": "number", **scores}, means),
        Table({"case": "text", "modality": "text", **scores, "remarks": "wrap"}, rows),
        worst=worst,
    )


def summed(stages: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds of each stage, of all that are given."""
    return {name: sum(one.get(name, 0.0) for one in stages) for name in STAGES}

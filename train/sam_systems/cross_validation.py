"""Cross-validation: one run per fold, the papers' table of folds, groups, mean and spread, with the papers' numbers."""

import csv
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.data.files import write_whole
from edge.data.table import format_table
from edge.errors import RunError
from train.data.folds import Fold, make_folds, read_fold, write_fold
from train.recipe import load_recipe
from train.records.records import VALIDATIONS
from train.records.start import HOW, RUN, check_base, check_recipe
from train.run import BEST_CASES, train
from train.tasks.build import members
from train.validation import CaseRow, mean_scores

FOLDS, GROUPS, BARS, CURVES, DONE = "folds.csv", "groups.csv", "folds.png", "folds_curves.png", "done"
PAPERS: dict[str, dict[str, float]] = {  # recipe -> score -> mean over the folds that its paper reports
    "nuinsseg-sam-vit-b": {"dice": 0.8911, "aji": 0.6971, "pq": 0.6715},
    "nuinsseg-sam-vit-h": {"dice": 0.8233, "aji": 0.6197, "pq": 0.5724},
    "nuinsseg-mobilesam": {"dice": 0.7968, "iou": 0.6743, "aji": 0.5178, "pq": 0.3579, "sq": 0.7384, "rq": 0.4812},
    "brats-sam-vit-b": {"loss": 0.02},
}


@dataclass(frozen=True)
class FoldReport:
    """Scores of the best weights of each fold on its own validation part."""

    folds: list[dict[str, float]]  # mean of each score, per fold
    groups: dict[str, dict[str, float]]  # organ, data set or subject -> mean of each score over all folds
    paper: dict[str, float]  # what the recipe's paper reports; empty: nothing known

    def mean(self) -> dict[str, float]:
        return {name: statistics.fmean(fold[name] for fold in self.folds) for name in self.folds[0]}

    def spread(self) -> dict[str, float]:
        """Standard deviation over the folds."""
        return {name: statistics.pstdev(fold[name] for fold in self.folds) for name in self.folds[0]}


def cross_validate(
    recipe: str,
    data: Sequence[Path],
    out: Path,
    *,
    folds: int,
    resume: bool = False,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> FoldReport:
    """Train and validate a recipe once per fold, each in `out/fold-<number>`, and write the report.

    Args:
        folds: how many; the recipe's `seed` draws them and `stratify` deals each group evenly.
        resume: pass over finished folds and go on with the one that was cut off.
        settings: as `train.run.train` takes them.

    Raises:
        RunError: the recipe has no folds, `out` holds some already, or as `train.run.train`.
        CaseError: no usable data.
    """
    chosen = load_recipe(recipe, overrides)
    if chosen.task == "views":
        raise RunError(f"{recipe}: folds are for the tasks maps and sequences; give --val or hold_out instead")
    if not resume and list(out.glob("fold-*")):
        raise RunError(f"{out}: holds folds already; go on with --resume, or give another folder")
    for number, fold in enumerate(_folds(recipe, data, out, folds, resume, overrides, say)):
        folder = out / f"fold-{number}"
        if (folder / DONE).exists():
            check_recipe(folder, chosen, HOW)
            check_base(folder, settings.get("base"))
            say(f"fold {number}: done before")
            continue
        say(f"fold {number}: {len(fold.training)} to train on, {len(fold.validation)} to validate on")
        going_on = (folder / RUN).exists()
        train(recipe, data, folder, fold=fold, resume=going_on, overrides=overrides, say=say, **settings)
        write_whole(folder / DONE, b"")
    report = read_report(out, folds, PAPERS.get(Path(recipe).stem, {}))
    _write_tables(out, report)
    draw_folds(out, report)
    return report


def read_report(out: Path, folds: int, paper: dict[str, float]) -> FoldReport:
    """The report of finished folds, from the scores they wrote."""
    by_fold = [read_cases(out / f"fold-{number}" / BEST_CASES) for number in range(folds)]
    groups: dict[str, list[CaseRow]] = {}
    for row in (row for rows in by_fold for row in rows):
        groups.setdefault(row.group, []).append(row)
    return FoldReport(
        [mean_scores(rows) for rows in by_fold],
        {name: mean_scores(rows) for name, rows in sorted(groups.items())},
        paper,
    )


def table(report: FoldReport) -> list[list[str]]:
    """Rows of texts: header, folds, mean, spread, the paper's."""
    names = list(report.folds[0])
    rows = [["fold", *names]]
    named = [(str(number), fold) for number, fold in enumerate(report.folds)]
    for name, scores in [*named, ("mean", report.mean()), ("spread", report.spread()), ("paper", report.paper)]:
        rows.append([name, *(f"{scores[score]:.4f}" if score in scores else "" for score in names)])
    return rows


def draw_folds(out: Path, report: FoldReport) -> None:
    """`folds.png`: a bar per fold and score, the paper's mean as a line; `folds_curves.png`: Dice over the steps."""
    from matplotlib.figure import Figure

    names = list(report.folds[0])
    figure = Figure(figsize=(2.4 * len(names), 3.2), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axis.bar(range(len(report.folds)), [fold[name] for fold in report.folds], color="tab:blue")
        axis.axhline(report.mean()[name], color="black", linewidth=1)
        if name in report.paper:
            axis.axhline(report.paper[name], color="tab:red", linewidth=1, linestyle="--")
        axis.set(title=name, xlabel="fold", xticks=range(len(report.folds)))
    figure.savefig(out / BARS, dpi=110)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for number in range(len(report.folds)):
        points = _validations(out / f"fold-{number}" / VALIDATIONS)
        if points:
            axis.plot(*zip(*points, strict=True), marker=".", label=f"fold {number}")
    axis.set(xlabel="step", ylabel="validation DSC")
    axis.legend()
    figure.savefig(out / CURVES, dpi=110)


def _folds(
    recipe: str,
    data: Sequence[Path],
    out: Path,
    count: int,
    resume: bool,
    overrides: Sequence[str],
    say: Callable[[str], None],
) -> list[Fold]:
    chosen = load_recipe(recipe, overrides)
    groups = members(chosen, data, say)
    if resume and are_drawn(out, groups, count):
        return [read_fold(out, number) for number in range(count)]
    folds = make_folds(list(groups), list(groups.values()), count, chosen.seed, stratify=chosen.stratify)
    for path in [*out.glob("train_fold_*.csv"), *out.glob("val_fold_*.csv")]:  # of another number, never trained by
        path.unlink()
    for number, fold in enumerate(folds):
        write_fold(out, number, fold, groups)
    return folds


def are_drawn(out: Path, names: Collection[str], count: int) -> bool:
    """Whether so many folds of these images or subjects lie in a folder; lists that nothing trained by count not.

    Raises:
        RunError: they are of another number, or of other data: one that is new or gone is named.
    """
    drawn = len(list(out.glob("val_fold_*.csv")))
    if drawn != count and any(out.glob("fold-*/")):
        raise RunError(f"{out}: holds {drawn} folds, not {count}; go on with --folds {drawn}, or give another folder")
    if drawn != count:
        return False
    fold = read_fold(out, 0)
    if other := (fold.training | fold.validation) ^ set(names):
        raise RunError(f"{out}: the folds were drawn of other data ({min(other)}); give the same, or another folder")
    return True


def read_cases(path: Path) -> list[CaseRow]:
    """The rows that `train.run.write_cases` wrote.

    Raises:
        RunError: there is no such file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise RunError(f"{path}: the fold has no scores ({error.strerror}); its validation part may be empty") from None
    kept = [{key: float(value or "nan") for key, value in row.items() if key not in ("case", "group")} for row in rows]
    return [CaseRow(row["case"], row["group"], scores) for row, scores in zip(rows, kept, strict=True)]


def _write_tables(out: Path, report: FoldReport) -> None:
    names = list(report.folds[0])
    groups = [[group, *(f"{scores[name]:.4f}" for name in names)] for group, scores in report.groups.items()]
    for path, rows in ((out / FOLDS, table(report)), (out / GROUPS, [["group", *names], *groups])):
        write_whole(path, format_table(rows))


def _validations(path: Path) -> list[tuple[int, float]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(int(row["step"]), float(row["dsc"])) for row in csv.DictReader(file) if row["modality"] == "mean"]

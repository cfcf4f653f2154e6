"""Search over a grid of a recipe's keys: every combination scored by a cross-validation, one table, one plot."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.data.files import write_whole
from edge.data.table import format_table
from edge.errors import RunError
from train.recipe import Recipe, load_recipe, parse_value, spell_value
from train.records.start import HOW, RECIPE, check_base, check_recipe
from train.sam_systems.cross_validation import are_drawn, cross_validate
from train.tasks.build import members

TABLE, PLOT, RESULT = "search.csv", "search.png", "result.json"


@dataclass(frozen=True)
class Trial:
    """One combination and what it scored."""

    values: dict[str, Any]  # key -> value
    score: float  # mean over the folds, higher is better
    spread: float  # standard deviation over the folds

    @property
    def name(self) -> str:
        return trial_name(self.values)


Objective = Callable[[dict[str, Any], Path], tuple[float, float]]  # values, folder -> score, spread


def split_grid(overrides: Sequence[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """The keys that are searched (a list is given where the recipe holds a single value), and the other overrides.

    Raises:
        RunError: nothing is searched, or an override is not key=value.
    """
    defaults = asdict(Recipe())
    grid: dict[str, list[Any]] = {}
    fixed = []
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise RunError(f"override {override!r} must be key=value")
        value = parse_value(text.strip())
        if isinstance(value, list) and not isinstance(defaults.get(key.strip()), tuple):
            grid[key.strip()] = value
        else:
            fixed.append(override)
    if not grid or not all(grid.values()):
        raise RunError("search needs at least one key=[value, value]; see the recipe's own comment for its paper's")
    return grid, fixed


def combinations(grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Every combination, the last key changing fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def trial_name(values: dict[str, Any]) -> str:
    """`lora_rank=8,lr=0.0003`: the trial's folder."""
    return ",".join(f"{key}={value}" for key, value in values.items()).replace("/", "_")


def search(grid: dict[str, list[Any]], out: Path, objective: Objective, say: Callable[[str], None]) -> list[Trial]:
    """Score every combination that has no result in `out` yet; best first, and as `search.csv` and `search.png`.

    The table and the plot are written after each trial, so that a search that is cut off can be looked at.
    """
    trials: list[Trial] = []
    for number, values in enumerate(every := combinations(grid)):
        folder = out / trial_name(values)
        known = folder / RESULT
        if known.exists():
            score, spread = json.loads(known.read_text(encoding="utf-8"))
        else:
            say(f"trial {number + 1} of {len(every)}: {trial_name(values)}")
            folder.mkdir(parents=True, exist_ok=True)
            score, spread = objective(values, folder)
            write_whole(known, json.dumps([score, spread]).encode())
        trials.append(Trial(values, score, spread))
        trials.sort(key=lambda trial: -trial.score)
        _write_table(out, trials)
        _draw(out, trials)
    return trials


def search_recipe(
    recipe: str,
    data: Sequence[Path],
    out: Path,
    *,
    folds: int,
    overrides: Sequence[str],
    say: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> list[Trial]:
    """Search a recipe by the mean validation Dice of `folds` folds; run again to go on where it was cut off.

    Raises:
        RunError, CaseError: as `cross_validate` and `split_grid`; a value that the recipe refuses, and trials of other
            overrides in `out`, before any training.
    """
    grid, fixed = split_grid(overrides)
    for values in combinations(grid):
        chosen = load_recipe(recipe, [*fixed, *_spelled(values)])
        trial = out / trial_name(values)
        for run in (path.parent for path in sorted(trial.glob(f"fold-*/{RECIPE}"))):
            check_recipe(run, chosen, HOW)
            check_base(run, settings.get("base"))
        if any(trial.glob("fold-*/")):
            are_drawn(trial, members(chosen, data, say), folds)

    def objective(values: dict[str, Any], folder: Path) -> tuple[float, float]:
        report = cross_validate(
            recipe, data, folder, folds=folds, resume=True, overrides=[*fixed, *_spelled(values)], say=say, **settings
        )
        return report.mean()["dice"], report.spread()["dice"]

    return search(grid, out, objective, say)


def table(trials: Sequence[Trial]) -> list[list[str]]:
    """Rows of texts: header, then the trials in their order."""
    keys = list(trials[0].values)
    body = [[*(str(t.values[key]) for key in keys), f"{t.score:.4f}", f"{t.spread:.4f}"] for t in trials]
    return [[*keys, "dice", "spread"], *body]


def _spelled(values: dict[str, Any]) -> list[str]:
    return [f"{key}={spell_value(value)}" for key, value in values.items()]


def _write_table(out: Path, trials: Sequence[Trial]) -> None:
    write_whole(out / TABLE, format_table(table(trials)))


def _draw(out: Path, trials: Sequence[Trial]) -> None:
    """Horizontal bars, the best on top, the spread over the folds as a whisker."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 0.3 * len(trials)), layout="constrained")
    axis = figure.subplots()
    places = range(len(trials))[::-1]
    scores, spreads = [trial.score for trial in trials], [trial.spread for trial in trials]
    axis.barh(places, scores, xerr=spreads, color="tab:blue")
    axis.set(xlabel="validation DSC, mean over the folds", yticks=places)
    axis.set_yticklabels([trial.name for trial in trials], fontsize="small")
    figure.savefig(out / PLOT, dpi=110)

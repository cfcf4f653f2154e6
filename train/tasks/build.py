"""A recipe's task on folders of data."""

from collections.abc import Sequence
from pathlib import Path

from edge.errors import CaseError
from train.data.folds import Fold, is_held_out
from train.data.maps import MapSource, choose_groups, find_maps, with_objects
from train.data.sequences import find_subjects
from train.display import Advance, Say, silent
from train.recipe import Recipe
from train.tasks.maps import MapTask
from train.tasks.sequences import SequenceTask
from train.tasks.task import Task
from train.tasks.views import make_view_task
from train.validate import spread


def make_task(
    recipe: Recipe,
    data: Sequence[Path],
    validation: Path | None,
    cache: Path,
    fold: Fold | None,
    say: Say,
    advance: Advance = silent,
) -> Task:
    """The task of a recipe.

    Args:
        validation: folder to validate on; None: the recipe's `hold_out` share of `data`.
        cache: where prepared data lies.
        fold: says what trains and what validates; overrides `validation`.

    Raises:
        CaseError: no usable data, or nothing in `validation` to validate on.
        RunError: `only` or `leave_out` name what is not there, or prepared data cannot be written.
    """
    task = _make_task(recipe, data, validation, cache, fold, say, advance)
    if recipe.validation_cases and not task.validates:
        if validation is not None:
            raise CaseError(f"{validation}: nothing in it to validate on, see the lines above; or validation_cases=0")
        say(f"no validation: hold_out={recipe.hold_out:g} takes none of the cases; give --val, or a larger share")
    return task


def _make_task(
    recipe: Recipe,
    data: Sequence[Path],
    validation: Path | None,
    cache: Path,
    fold: Fold | None,
    say: Say,
    advance: Advance,
) -> Task:
    if recipe.task == "views":
        return make_view_task(recipe, data, validation, cache, say, advance)
    if recipe.task == "sequences":
        subjects = find_subjects(data)
        held = find_subjects([validation]) if validation is not None and fold is None else None
        names = [subject.name for subject in subjects]
        fold = fold or (None if held is not None else hold_out(names, recipe))
        if fold is not None:
            held = [subject for subject in subjects if subject.name in fold.validation]
            subjects = [subject for subject in subjects if subject.name in fold.training]
        return SequenceTask(recipe, subjects, held or [], cache, say)
    sources = usable_maps(recipe, data, say)
    checked = None
    if validation is not None and fold is None:
        checked = usable_maps(recipe, [validation], say)
    else:
        fold = fold or hold_out([source.name for source in sources], recipe)
        checked = [source for source in sources if source.name in fold.validation]
        sources = [source for source in sources if source.name in fold.training]
    return MapTask(recipe, sources, spread(checked, recipe.validation_cases))


def usable_maps(recipe: Recipe, data: Sequence[Path], say: Say) -> list[MapSource]:
    """The images of the wanted groups that hold something to learn; the others are named."""
    sources, left_out = with_objects(choose_groups(find_maps(data), recipe.only, recipe.leave_out), recipe.target)
    for line in left_out:
        say(f"left out: {line}")
    return sources


def members(recipe: Recipe, data: Sequence[Path], say: Say) -> dict[str, str]:
    """What folds are drawn over: name of an image or subject -> its group."""
    if recipe.task == "sequences":
        return {subject.name: "subject" for subject in find_subjects(data)}
    return {source.name: source.group for source in usable_maps(recipe, data, say)}


def hold_out(names: Sequence[str], recipe: Recipe) -> Fold:
    """A share of the names validates, see `is_held_out`; none where nothing is to be validated."""
    share = recipe.hold_out if recipe.validation_cases else 0.0
    held = frozenset(name for name in names if is_held_out(name, share))
    return Fold(frozenset(names) - held, held)

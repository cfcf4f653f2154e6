"""A recipe's task on folders of data."""

from collections.abc import Sequence
from pathlib import Path

from edge.errors import CaseError, RunError
from train.data.folds import Fold, is_held_out
from train.recipe import Recipe
from train.records.display import Advance, Say, silent
from train.sam_systems.map_files import MapSource, choose_groups, find_maps, with_objects
from train.sam_systems.map_task import MapTask
from train.sam_systems.sequence_files import find_subjects
from train.sam_systems.sequence_task import SequenceTask
from train.tasks.task import Task
from train.tasks.views import make_view_task
from train.validation import spread

NONE_LEFT = "no case is left to train on: hold_out takes all of them; give --val, or a smaller share"


def make_task(
    recipe: Recipe,
    data: Sequence[Path],
    validation: Path | None,
    cache: Path,
    fold: Fold | None,
    say: Say,
    advance: Advance = silent,
    predicted: Path | None = None,
) -> Task:
    """The task of a recipe.

    Args:
        validation: folder to validate on; None: the recipe's `hold_out` share of `data`.
        cache: where prepared data lies.
        fold: says what trains and what validates; overrides `validation`.
        predicted: label maps that a model found in volumes of `data`, for a recipe with walks.

    Raises:
        CaseError: no usable data, or nothing in `validation` to validate on.
        RunError: `only` or `leave_out` name what is not there, prepared data cannot be written, or `predicted` comes
            with a recipe that has no walks.
    """
    if predicted and recipe.task != "views":
        raise RunError(f"{predicted}: predictions are for recipes that train on walks, as litemedsam-lora does")
    if recipe.task == "views":
        task: Task = make_view_task(recipe, data, validation, cache, say, advance, predicted)
    elif recipe.task == "sequences":
        task = _sequence_task(recipe, data, validation, cache, fold, say)
    else:
        task = _map_task(recipe, data, validation, fold, say)
    if recipe.validation_cases and not task.validates:
        if validation is not None:
            raise CaseError(f"{validation}: nothing in it to validate on, see the lines above; or validation_cases=0")
        say(f"no validation: hold_out={recipe.hold_out:g} takes none of the cases; give --val, or a larger share")
    return task


def _sequence_task(
    recipe: Recipe, data: Sequence[Path], validation: Path | None, cache: Path, fold: Fold | None, say: Say
) -> SequenceTask:
    subjects = find_subjects(data)
    if validation is not None and fold is None:
        return SequenceTask(recipe, subjects, find_subjects([validation]), cache, say)
    fold = fold or hold_out([subject.name for subject in subjects], recipe)
    held = [subject for subject in subjects if subject.name in fold.validation]
    training = [subject for subject in subjects if subject.name in fold.training]
    if not training:
        raise RunError(NONE_LEFT)
    return SequenceTask(recipe, training, held, cache, say)


def _map_task(recipe: Recipe, data: Sequence[Path], validation: Path | None, fold: Fold | None, say: Say) -> MapTask:
    sources = usable_maps(recipe, data, say)
    if validation is not None and fold is None:
        held = usable_maps(recipe, [validation], say)
    else:
        fold = fold or hold_out([source.name for source in sources], recipe)
        held = [source for source in sources if source.name in fold.validation]
        sources = [source for source in sources if source.name in fold.training]
    if not sources:
        raise RunError(NONE_LEFT)
    return MapTask(recipe, sources, spread(held, recipe.validation_cases))


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

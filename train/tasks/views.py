"""LiteMedSAM's task: views of images and of volumes, each with one prompt, of several sizes in a step."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from torch import nn
from torch.compiler import set_stance

from edge.data.case import Case
from edge.data.modality import dataset_in_name
from edge.data.names import address_of, case_name
from edge.errors import CaseError, RunError
from edge.views.ladder import ViewLadder
from train.data.batch import ViewBatch, ViewSample, collate
from train.data.cases import find_sources
from train.data.draws import ObjectDraws
from train.data.placement import BOX_SHARE
from train.data.prepared import Prepared, is_prepared, open_prepared
from train.data.preparing import prepare
from train.data.sampler import Layout
from train.data.samples import ViewSamples
from train.networks.litemedsam import LiteMedSAM
from train.recipe import Recipe
from train.records.display import Advance, Say
from train.tasks.task import DataFacts
from train.tasks.view_loss import ViewLoss
from train.validation import Validation, read_validation, validate

LEAST_SCALE = 0.85  # of the ladder that is validated; as `samedge export` has it


class ViewTask:
    """A `train.tasks.task.Task`."""

    def __init__(self, recipe: Recipe, data: Prepared, cases: Mapping[str, Case]) -> None:
        """Args: cases: to validate on. Raises: RunError: walks, and no volume to walk through."""
        self._recipe, self._data, self._cases = recipe, data, cases
        self._draws = ObjectDraws(data, recipe.sampling, recipe.shares)
        self._layout = Layout.of(recipe.views, recipe.walks)
        if self._layout.walks and not self._draws.has_volumes:
            raise RunError("walks: no case that trains is a volume to walk through; set walks={}")
        slices = sum(entry.shape[0] for entry in data.used)
        trained = "\n".join([data.content_hash, *(entry.name for entry in data.used)])
        sha256 = hashlib.sha256(trained.encode("utf-8", "surrogatepass")).hexdigest()
        self.facts = DataFacts(self._draws.counts, slices, data.broken, self._draws.shares, sha256)
        self.validates = bool(cases)

    def samples(self, epoch: int) -> ViewSamples:
        recipe = self._recipe
        return ViewSamples(self._data, self._draws, self._layout, recipe.flip, (recipe.seed, epoch))

    def kinds(self) -> list[int]:
        return [count for _, count in self._layout.groups]

    @staticmethod
    def collate(samples: list[ViewSample]) -> ViewBatch:
        return collate(samples)

    def loss(self, network: LiteMedSAM) -> nn.Module:
        return ViewLoss(network, self._recipe)

    def validate(self, network: LiteMedSAM) -> Validation:
        sizes = sorted({*self._layout.views, *self._layout.walks})
        ladder = ViewLadder(tuple(sizes), BOX_SHARE, LEAST_SCALE)
        with set_stance("force_eager") if self._recipe.compile else nullcontext():  # or every number of views compiles
            return validate(network, self._cases, ladder, walks=bool(self._layout.walks))


def make_view_task(
    recipe: Recipe,
    data: Sequence[Path],
    validation: Path | None,
    cache: Path,
    say: Say,
    advance: Advance,
    predicted: Path | None = None,
) -> ViewTask:
    """The task on folders of cases, or on one folder of prepared data (carried here or not).

    Args:
        validation: folder of labelled cases; None: the recipe's `hold_out` share of `data`.
        cache: where prepared data lies.
        predicted: as `train.data.preparing.prepare` takes it.

    Raises:
        CaseError: no usable data, or nothing in `validation` to validate on.
        RunError: a data set in `only` or `leave_out` that no case is of; prepared data that cannot be written or read,
            that comes with other data or with predictions, or has no cases beside it to validate on.
    """
    carried = next((folder for folder in data if is_prepared(folder)), None)
    where, wanted = carried and address_of(carried), recipe.validation_cases
    if carried and len(data) > 1:
        raise RunError(f"{where}: prepared data goes with no other --data; prepare the folders together")
    if carried and predicted:
        raise RunError(f"{where}: prepared data takes no --predicted; give that when it is prepared")
    if carried and wanted and validation is None:
        raise RunError(f"{where}: prepared data has no cases to validate on; give --val or validation_cases=0")
    if carried:
        prepared = open_prepared(carried)
    else:
        prepared = prepare(
            data, cache, predicted, progress=lambda done, total: advance("preparing data", done, total, "")
        )
    say(f"prepared data: {address_of(prepared.folder)}")
    if prepared.with_predicted:
        volumes = int((prepared.cases.depths > 1).sum())
        say(f"predictions: of {prepared.with_predicted} of {volumes} volumes")
    for line in prepared.broken:
        say(f"left out: {line}")
    prepared = prepared.without(_left_out(recipe, prepared))
    if not wanted:
        return ViewTask(recipe, prepared, {})
    if validation is not None:
        chosen = find_sources([validation])
    else:
        prepared, held = prepared.split(recipe.hold_out)
        chosen = [source for source in find_sources(data) if case_name(source) in held]
    return ViewTask(recipe, prepared, _validation_cases(recipe, validation, chosen, say))


def _validation_cases(recipe: Recipe, folder: Path | None, sources: Sequence[Path], say: Say) -> Mapping[str, Case]:
    """The cases to validate on, by names of their own.

    Raises:
        CaseError: none of the given folder can be; says why.
    """
    found = read_validation(sources, recipe.validation_cases, recipe.validation_slices)
    for line in found.left_out:
        say(f"not validated on: {line}")
    if folder is not None and not found.cases:
        raise CaseError(f"{folder}: no case to validate on; {found.left_out[0]}")
    return found.cases


def _left_out(recipe: Recipe, data: Prepared) -> set[str]:
    """Data sets that are not taken.

    Raises:
        RunError: a name in `only` or `leave_out` that no case has, or none is left.
    """
    present = {dataset_in_name(entry.name) for entry in data.used}
    for key, names in (("only", recipe.only), ("leave_out", recipe.leave_out)):
        if unknown := sorted(set(names) - present):
            raise RunError(f"{key}: no case of {', '.join(unknown)}; there are {', '.join(sorted(present))}")
    left_out = set(recipe.leave_out) | (present - set(recipe.only) if recipe.only else set())
    if left_out == present:
        raise RunError("only and leave_out leave no data set")
    return left_out

"""LiteMedSAM's task: several boxes of an image at once, any modality, validated by the runtime itself."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from edge.case import Case, modality_of
from edge.errors import CaseError, RunError
from train.data.cache import Cache, CacheOptions, is_cache, open_cache, prepare_cache
from train.data.cases import dataset_of, find_sources
from train.data.sampler import Draws
from train.data.samples import Batch, Sample, SampleOptions, Samples, collate
from train.display import Advance, Say
from train.losses import iou_loss, mask_loss, mean_over_images
from train.networks.litemedsam import FRAME_PX, LiteMedSAM
from train.recipe import Recipe
from train.tasks.task import DataFacts
from train.validate import Validation, read_validation, validate


class BoxTask:
    """A `train.tasks.task.Task`."""

    def __init__(self, recipe: Recipe, cache: Cache, cases: Mapping[str, Case]) -> None:
        self._recipe, self._cache, self._cases = recipe, cache, cases
        modalities = [modality_of(entry.case) for entry in cache.entries]
        self._draws = Draws(cache.entries, modalities, recipe.sampling, recipe.shares, seed=recipe.seed)
        counts = Counter(modality_of(name) for _, name in {(entry.source, entry.case) for entry in cache.entries})
        self.facts = DataFacts(
            dict(sorted(counts.items())), len(cache.entries), cache.broken, self._draws.shares, cache.content_hash
        )
        self.validates = bool(cases)

    def samples(self, epoch: int) -> Samples:
        return Samples(self._cache, self._draws, sample_options(self._recipe), epoch)

    @staticmethod
    def collate(samples: list[Sample]) -> Batch:
        return collate(samples)

    def lesson(self, network: LiteMedSAM) -> nn.Module:
        return BoxLesson(network, self._recipe)

    def validate(self, network: LiteMedSAM) -> Validation:
        return validate(network, self._cases, crops=self._recipe.crops)


class BoxLesson(nn.Module):
    """From a batch to its loss."""

    def __init__(self, network: LiteMedSAM, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self._mask_loss = mask_loss(recipe.loss, recipe.loss_weights)
        self._iou_weight = recipe.iou_weight

    def forward(self, batch: Batch) -> Tensor:
        return self.loss_of(self.network.image_encoder(batch.images), batch)

    def loss_of(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """What the decoder's answers on embeddings (B, C, h, w) of a batch's images cost."""
        corners = None if batch.masks.shape[-1] == FRAME_PX else batch.corners
        logits, predicted_iou = self.network.decode(embeddings, batch.boxes, batch.image_of_box, corners)
        logits, masks = logits.float(), batch.masks.float()
        losses = self._mask_loss(logits, masks, batch.boxes - batch.corners.repeat(1, 2)[batch.image_of_box])
        if self._iou_weight:
            losses = losses + self._iou_weight * iou_loss(predicted_iou.float(), logits, masks)
        return mean_over_images(losses, batch.image_of_box, len(batch.images))


def sample_options(recipe: Recipe) -> SampleOptions:
    """How the recipe cuts and augments samples."""
    return SampleOptions(
        boxes_per_image=recipe.boxes_per_image,
        jitter_px=recipe.jitter_px,
        region_px=recipe.region_px,
        zoom=recipe.zoom,
        flip=recipe.flip,
        intensity=recipe.intensity,
        crops=recipe.crops,
    )


def make_box_task(
    recipe: Recipe, data: Sequence[Path], validation: Path | None, cache: Path, say: Say, advance: Advance
) -> BoxTask:
    """The task on folders of cases, or on one folder of prepared data (a cache, carried here or not).

    Args:
        validation: folder of labelled cases; None: the recipe's `hold_out` share of `data`.
        cache: where prepared data lies.

    Raises:
        CaseError: no usable data, or nothing in `validation` to validate on.
        RunError: a data set in `only` or `leave_out` that no case is of; the cache cannot be written or read, was
            prepared with other options than the recipe's, or has no cases beside it to validate on.
    """
    options = CacheOptions(recipe.cache_px, recipe.slices_per_volume, recipe.cache_exact)
    wanted = recipe.validation_cases
    if carried := next((folder for folder in data if is_cache(folder)), None):
        prepared = _open_carried(carried, data, options)
    else:
        prepared = prepare_cache(
            data, cache, options, progress=lambda done, total: advance("preparing data", done, total, "")
        )
    say(f"prepared data: {prepared.folder}")
    for line in prepared.broken:
        say(f"left out: {line}")
    prepared = prepared.without(_left_out(recipe, prepared))
    if validation is not None:
        chosen = find_sources([validation])
    elif carried and wanted:
        raise RunError(f"{carried}: prepared data has no cases to validate on; give --val or validation_cases=0")
    else:
        prepared, held = prepared.split(recipe.hold_out if wanted else 0.0)
        chosen = [source for source in find_sources(data) if source.stem in held] if held else []
    return BoxTask(recipe, prepared, _validation_cases(recipe, validation, chosen, say) if wanted else {})


def _validation_cases(recipe: Recipe, folder: Path | None, sources: Sequence[Path], say: Say) -> Mapping[str, Case]:
    """The cases to validate on.

    Raises:
        CaseError: none of the given folder can be; says why.
    """
    found = read_validation(sources, recipe.validation_cases, recipe.validation_slices)
    for line in found.left_out:
        say(f"not validated on: {line}")
    if folder is not None and not found.cases:
        raise CaseError(f"{folder}: no case to validate on; {found.left_out[0]}")
    return found.cases


def _open_carried(folder: Path, data: Sequence[Path], options: CacheOptions) -> Cache:
    """Prepared data as the only data.

    Raises:
        RunError: other data beside it, or other options.
    """
    if len(data) > 1:
        raise RunError(f"{folder}: prepared data goes with no other --data; prepare the folders together")
    cache = open_cache(folder)
    if cache.options != options:
        was = f"cache_px={cache.options.side_px} slices_per_volume={cache.options.slices_per_volume}"
        raise RunError(f"{folder}: add {was} cache_exact={str(cache.options.exact).lower()}, as the data was prepared")
    return cache


def _left_out(recipe: Recipe, cache: Cache) -> set[str]:
    """Data sets that are not taken.

    Raises:
        RunError: a name in `only` or `leave_out` that no case has, or none is left.
    """
    present = {dataset_of(entry.case) for entry in cache.entries}
    for key, names in (("only", recipe.only), ("leave_out", recipe.leave_out)):
        if unknown := sorted(set(names) - present):
            raise RunError(f"{key}: no case of {', '.join(unknown)}; there are {', '.join(sorted(present))}")
    left_out = set(recipe.leave_out) | (present - set(recipe.only) if recipe.only else set())
    if left_out == present:
        raise RunError("only and leave_out leave no data set")
    return left_out

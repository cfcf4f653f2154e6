"""The BraTS recipe's task: a slice's sequences answered one by one with the truth's box, combined into one mask."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from edge.scoring.instances import score_instances
from edge.views.prepare import prepare
from edge.views.view import View
from train.optimisation.losses import map_loss
from train.recipe import Recipe
from train.sam_systems.batch import SamSample, SamTask, answer_targets, collate_sam, loss_of
from train.sam_systems.map_files import sources_hash
from train.sam_systems.map_task import MapOptions, as_validated, into_frame, map_options, prompts_for, to_image
from train.sam_systems.network import Sam
from train.sam_systems.sequence_files import (
    Subject,
    TumourSlice,
    choose_slices,
    common_size,
    prepare_slices,
    read_slice,
)
from train.tasks.task import DataFacts
from train.validation import CaseRow, Validation, spread, summarize


class SequenceTask(SamTask):
    """A `train.tasks.task.Task`. Validates on up to `validation_cases` tumour slices, evenly over subjects."""

    def __init__(
        self,
        recipe: Recipe,
        training: Sequence[Subject],
        validation: Sequence[Subject],
        cache: Path,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Raises: CaseError: a file cannot be read. RunError: the cache cannot be written."""
        super().__init__(recipe)
        self._options = map_options(recipe)
        prepared = prepare_slices(training, cache, say)
        self._draws = choose_slices(prepared, recipe.slices)
        self._size = common_size(prepared)
        held = prepare_slices(validation, cache, say) if recipe.validation_cases else []
        by_subject = [[part for part in held if part.subject == subject.name] for subject in validation]
        each = max(1, recipe.validation_cases // max(1, len(validation)))
        self._held = [part for parts in by_subject for part in spread(parts, each)]
        files = [path for subject in training for path in (*subject.sequences.values(), subject.truth)]
        names = sorted({subject.name for subject in validation})
        self.facts = DataFacts(
            {"subjects": len(training)}, len(self._draws), [], {"subjects": 1.0}, sources_hash(files, names)
        )
        self.validates = bool(self._held)

    def samples(self, epoch: int) -> Dataset:
        return SequenceSamples(self._draws, self._size, self._options, self._recipe.seed, epoch)

    @torch.inference_mode()
    def validate(self, network: Sam) -> Validation:
        """Dice, IoU and the recipe's loss of each slice; the group is the subject."""
        network.eval()
        device, loss = next(network.parameters()).device, map_loss(self._recipe.loss, self._recipe.loss_weights)
        rows = []
        for part in self._held:
            sample = make_slice_sample(part, self._size, as_validated(self._options), np.random.default_rng(0))
            batch = collate_sam([sample]).to(device)
            logits = answer_targets(network, batch)
            _, truth = read_slice(part, self._size)
            answer = to_image(logits, truth.shape)
            found = answer[0, 0] > 0 if answer.shape[1] == 1 else answer[0].argmax(axis=0) > 0
            scores = score_instances(truth, found.astype(np.uint8))
            row = {"dice": scores.dice, "iou": scores.iou, "loss": float(loss_of(loss, logits, batch))}
            rows.append(CaseRow(f"{part.subject}-{part.index:03d}", part.subject, row))
        return summarize(rows)


class SequenceSamples(Dataset):
    """The samples of one epoch by position: all draws in an order of the epoch's own, then again."""

    def __init__(
        self,
        draws: Sequence[Sequence[TumourSlice]],
        size: tuple[int, int],
        options: MapOptions,
        seed: int,
        epoch: int,
    ) -> None:
        self._draws, self._size, self._options, self._seed = draws, size, options, (seed, epoch)
        self._order = np.random.default_rng(self._seed).permutation(len(draws))

    def __getitem__(self, position: int) -> SamSample:
        chance = np.random.default_rng((*self._seed, position, 1))
        choices = self._draws[self._order[position % len(self._order)]]
        return make_slice_sample(choices[int(chance.integers(len(choices)))], self._size, self._options, chance)


def make_slice_sample(
    part: TumourSlice, size: tuple[int, int], options: MapOptions, chance: np.random.Generator
) -> SamSample:
    """One image per sequence, one target: the tumour, prompted by its own box (or point) on each of them."""
    images, tumour = read_slice(part, size)
    points, boxes = prompts_for([tumour > 0], options, chance)
    frame = View.letterbox(tumour.shape[0], tumour.shape[1], options.mask_px)
    return SamSample(
        images=np.stack([prepare(image, options.image_px, options.normalisation) for image in images]),
        classes=into_frame(tumour, frame)[None].astype(np.int64),
        counted=into_frame(np.ones(tumour.shape, np.bool_), frame),
        points=points,
        boxes=boxes,
    )

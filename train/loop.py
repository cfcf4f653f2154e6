"""The loop, to be read from top to bottom."""

import math
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader

from edge.errors import CaseError, RunError
from edge.system.cores import available_cores
from train.data.sampler import Batches
from train.networks.build import Network
from train.networks.parts import parameter_groups, set_training_mode
from train.optimisation.average import Average
from train.optimisation.schedule import Schedule
from train.recipe import Recipe
from train.records.display import silent
from train.records.records import Records
from train.records.state import Progress, State
from train.tasks.task import Task
from train.validation import Validation

SHOW_S = 1  # between two reports
RATE_S = 30  # the rate that is shown is that of the last so many seconds
SAVE_S = 300  # a killed run loses no more, however long its steps take
OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
Keep = Callable[[Network, Validation | None], None]  # keeps the network as the best so far, and what it scored


@dataclass(frozen=True)
class StepReport:
    """What a step did."""

    step: int
    steps: int
    loss: float
    lr: float
    samples_per_s: float  # over all processes
    gpu_mib: float | None  # peak; None on a CPU
    gpu_percent: int | None  # of the time that it was busy just now; None on a CPU, or where nobody can tell


def fit(
    fabric: Fabric,
    network: Network,
    recipe: Recipe,
    task: Task,
    out: Path,
    *,
    keep: Keep,
    resume: bool = False,
    report: Callable[[StepReport], None] = silent,
) -> Progress:
    """Train to the recipe's end, or to where `early_stop` ends it.

    Args:
        task: what is trained on and validated; without a validation the last weights are the best.
        out: the run's folder; `last.ckpt` and the records go there.
        keep: called with the network, on the first process, whenever it validates best.
        report: called on the first process, about once in SHOW_S and after the last step.

    Raises:
        CaseError: samples cannot be read any more; what was done is saved.
        RunError: a loss that is not finite, or `resume` without a checkpoint that fits.
    """
    optimizer = OPTIMIZERS[recipe.optimizer](parameter_groups(network, recipe), lr=recipe.lr)
    loss_of, optimizer = fabric.setup(task.loss(network), optimizer)
    per_epoch, total = steps_per_epoch(recipe, fabric.world_size), total_steps(recipe, fabric.world_size)
    progress = Progress()
    schedule = Schedule(optimizer, recipe, total, per_epoch)
    state = State(network, optimizer, schedule, Average(network, recipe.ema), progress)
    if resume:
        state.restore(out)
    records = Records(out, progress.step, recipe) if fabric.is_global_zero else None
    rate = _Rate(progress.step, recipe.batch * fabric.world_size)
    shown, saved = _Every(SHOW_S), _Every(SAVE_S)
    set_training_mode(network)
    if recipe.validate_at_start and progress.step == 0:
        _validate(fabric, state, task, records, keep)
    while not _is_over(progress, recipe, total):
        epoch, first = divmod(progress.step, per_epoch)
        for batch in read_batches(
            _loader(task, recipe, epoch, first, fabric), lambda: state.save(out) if records else None
        ):
            lr = state.schedule.lr
            loss = _step(fabric, loss_of, state, batch.to(fabric.device), recipe)
            done = progress.step == total
            if records:
                records.loss(progress.step, loss, lr)
            if done or progress.step % (recipe.validate_every or per_epoch) == 0:
                score = _validate(fabric, state, task, records, keep)
                state.schedule.take_error(1 - score if task.validates else loss)
                done = _is_over(progress, recipe, total)
            if records and shown.is_due(done):
                report(StepReport(progress.step, total, loss, lr, rate.per_s(progress.step), *_gpu_use(fabric)))
            if records and saved.is_due(done or progress.step % recipe.save_every == 0):
                state.save(out)
                records.show()
            if done:
                fabric.barrier()
                return progress
    return progress


def read_batches(loader: Iterable[Any], save: Callable[[], None]) -> Iterator[Any]:
    """Batches as they come; where a sample cannot be read, all that was done is saved before that is said.

    Raises:
        CaseError: in a line, without the traceback of the worker that it happened in.
    """
    try:
        yield from loader
    except CaseError as error:
        save()
        told = str(error).strip().split("\n")[-1].removeprefix(f"{CaseError.__module__}.CaseError: ")
        raise CaseError(f"{told}; then go on with --resume") from None


def _is_over(progress: Progress, recipe: Recipe, steps: int) -> bool:
    return progress.step >= steps or 0 < recipe.early_stop <= progress.validations_since_best


def _step(fabric: Fabric, loss_of: nn.Module, state: State, batch: Any, recipe: Recipe) -> float:
    """One optimiser step; returns the loss, averaged over the processes."""
    step = state.progress.step
    torch.manual_seed(hash((recipe.seed, step, fabric.global_rank)))  # dropout: the same after a resume
    loss = loss_of(batch)
    fabric.backward(loss)
    if recipe.clip_value:
        fabric.clip_gradients(loss_of, state.optimizer, clip_val=recipe.clip_value)
    if recipe.clip_norm:
        norm = fabric.clip_gradients(loss_of, state.optimizer, max_norm=recipe.clip_norm, error_if_nonfinite=False)
        # a step whose scaled gradients overflow is left out by the scaler, which then lowers its scale
        if norm is not None and not math.isfinite(norm.item()) and recipe.precision != "16-mixed":
            raise _diverged(step, loss.item())
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.average.update()
    state.schedule.step()
    state.progress.step += 1
    shown = torch.as_tensor(fabric.all_reduce(loss.detach())).item()
    if not math.isfinite(shown):
        raise _diverged(step, shown)
    return shown


def _diverged(step: int, loss: float) -> RunError:
    what = f"the loss is {loss:g}, it or its gradients are not finite"
    return RunError(f"step {step + 1}: {what}; lower lr, or set precision to 32-true")


def steps_per_epoch(recipe: Recipe, processes: int) -> int:
    """Optimiser steps of an epoch, the last short batch dropped, never none."""
    return max(1, recipe.epoch_samples // (recipe.batch * processes))


def total_steps(recipe: Recipe, processes: int) -> int:
    """Optimiser steps of the whole run."""
    return recipe.max_steps or recipe.epochs * steps_per_epoch(recipe, processes)


def _loader(task: Task, recipe: Recipe, epoch: int, first: int, fabric: Fabric) -> DataLoader:
    length = steps_per_epoch(recipe, fabric.world_size) * recipe.batch * fabric.world_size
    batches = Batches(length, recipe.batch, fabric.global_rank, fabric.world_size, first)
    workers = min(recipe.workers, available_cores())
    return make_loader(task, epoch, batches, workers, pin_memory=fabric.device.type == "cuda")


def make_loader(
    task: Task, epoch: int, batches: Iterable[list[int]], workers: int, *, pin_memory: bool = False
) -> DataLoader:
    """Batches of an epoch's samples at these positions, prepared by so many processes; 0: within this one.

    They are not forked from this process: there OpenCV would wait for threads that were not forked with it.
    """
    samples = task.samples(epoch)
    context = multiprocessing.get_context("forkserver") if workers else None
    if context is not None:
        context.set_forkserver_preload([type(samples).__module__])
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=task.collate,
        pin_memory=pin_memory,
        multiprocessing_context=context,
        worker_init_fn=_use_one_thread,
    )


def _use_one_thread(_worker: int) -> None:
    cv2.setNumThreads(1)  # there are as many processes as are wanted


def _validate(fabric: Fabric, state: State, task: Task, records: Records | None, keep: Keep) -> float:
    """The score of the averaged weights, found by the first process and sent to all; the best are kept."""
    score, on, progress, validation = 0.0, "", state.progress, None
    if records:
        state.average.swap()
        validation = task.validate(state.network) if task.validates else None
        if validation is not None:
            score, on = validation.dsc, validation.cases_hash
            records.validation(progress.step, validation)
    score, on = fabric.broadcast((score, on))
    progress.begin_anew_on(on)
    if records:
        if score > progress.best or validation is None:
            keep(state.network, validation)
        state.average.swap()
    if task.validates:
        progress.validations_since_best = 0 if score > progress.best else progress.validations_since_best + 1
    progress.best = max(progress.best, score)
    set_training_mode(state.network)
    return score


class _Rate:
    """How fast samples go."""

    def __init__(self, step: int, samples_per_step: int) -> None:
        self._samples = samples_per_step
        self._marks = deque([(time.monotonic(), step)])  # of the last RATE_S and the one before, at least two

    def per_s(self, step: int) -> float:
        """Over the last RATE_S, or since the last call where that is longer ago."""
        self._marks.append((time.monotonic(), step))
        while len(self._marks) > 2 and self._marks[-1][0] - self._marks[1][0] > RATE_S:
            self._marks.popleft()
        (since, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) * self._samples / max(now - since, 1e-9)


class _Every:
    """What is due whenever some seconds have passed since it was done."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def is_due(self, anyway: bool = False) -> bool:
        """Whether to do it now; True is taken as done."""
        if not anyway and time.monotonic() - self._last <= self._seconds:
            return False
        self._last = time.monotonic()
        return True


def _gpu_use(fabric: Fabric) -> tuple[float | None, int | None]:
    """Peak memory in MiB, and busy percent where NVIDIA's library is there to ask."""
    if fabric.device.type != "cuda":
        return None, None
    try:
        busy = torch.cuda.utilization(fabric.device)
    except (ImportError, RuntimeError):  # no pynvml, or a driver that does not say
        busy = None
    return torch.cuda.max_memory_allocated(fabric.device) / 2**20, busy

"""What a run would do, and with one small step measured, how long it would take."""

import time
from dataclasses import dataclass, replace
from itertools import count as numbers
from typing import Any

import torch
from lightning_fabric import Fabric

from edge.system.machine import peak_memory_mib, reset_peak_memory
from train.loop import make_loader, total_steps
from train.networks.build import Network
from train.networks.parts import count_parameters, set_training_mode
from train.recipe import Recipe
from train.tasks.task import DataFacts, Task

TIMED_S = 2.0  # of loading samples, for each number of workers
TIMED_WORKERS = (0, 2)  # 0: within the process itself
TIMED_SAMPLES = 2  # of each kind: a whole batch takes minutes on a CPU
KEPT_BY_OPTIMIZER = 2  # numbers per trainable parameter, Adam's
SLOW_S = 10.0  # a step that took longer is not repeated


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    parameters: int
    trainable: int
    cases: dict[str, int]  # modality -> training cases
    slices: int
    left_out: list[str]  # broken cases, one line each
    shares: dict[str, float]  # modality -> share of draws
    steps: int
    samples: int  # drawn over the whole run
    estimate: "Estimate | None" = None  # None unless asked for


@dataclass(frozen=True)
class Estimate:
    """What was measured on this machine."""

    device: str  # cpu or cuda
    samples: int  # that were measured; time and memory beyond the network's are scaled to the batch
    step_s: float
    memory_mib: float  # peak
    samples_per_s: dict[int, float]  # worker processes (0: the training process) -> samples prepared


def make_plan(recipe: Recipe, network: Network, facts: DataFacts, processes: int) -> Plan:
    """The plan of a run, without measurements."""
    total, trainable = count_parameters(network)
    steps = total_steps(recipe, processes)
    return Plan(
        parameters=total,
        trainable=trainable,
        cases=facts.cases,
        slices=facts.slices,
        left_out=facts.left_out,
        shares=facts.shares,
        steps=steps,
        samples=steps * recipe.batch * processes,
    )


def timed(plan: Plan, recipe: Recipe, network: Network, task: Task, fabric: Fabric) -> Plan:
    """The plan with the rate of the data, and time and memory of a step.

    Measured on a few samples of each kind that a batch has, and scaled to as many as it has.
    """
    rates = {workers: loading_rate(task, recipe.batch, workers, TIMED_S) for workers in TIMED_WORKERS}
    loss_of = task.loss(network.to(fabric.device))
    set_training_mode(network)
    samples, first, measured = task.samples(0), 0, 0
    seconds, memory_mib = 0.0, _memory_mib(fabric)
    for count in task.kinds():
        some = min(TIMED_SAMPLES, count)
        batch = task.collate([samples[position] for position in range(first, first + some)]).to(fabric.device)
        step_s, before, peak = _measure_step(loss_of, batch, fabric)
        seconds += step_s * count / some
        memory_mib += (peak - before) * count / some
        first, measured = first + count, measured + some
    memory_mib += plan.trainable * 4 / 2**20 * (KEPT_BY_OPTIMIZER + (recipe.ema > 0))
    return replace(plan, estimate=Estimate(fabric.device.type, measured, seconds, memory_mib, rates))


def _measure_step(loss_of: Any, batch: Any, fabric: Fabric) -> tuple[float, float, float]:
    """Seconds of the second of two steps, or of the first where that was slow; MiB before and at the peak."""
    reset_peak_memory()
    before, seconds = _memory_mib(fabric), 0.0
    for _ in range(2):
        start = time.perf_counter()
        with fabric.autocast():
            loss = loss_of(batch)
        loss.backward()
        loss.item()  # a GPU's work is done
        seconds = time.perf_counter() - start
        if seconds > SLOW_S:
            break
    return seconds, before, _memory_mib(fabric)


def _memory_mib(fabric: Fabric) -> float:
    """Peak so far: of the process, or on a GPU of what torch took there."""
    return torch.cuda.max_memory_allocated() / 2**20 if fabric.device.type == "cuda" else peak_memory_mib()


def loading_rate(task: Task, batch: int, workers: int, seconds: float) -> float:
    """Samples per second, batched, once the workers run, over so many seconds."""
    batches = (list(range(number * batch, (number + 1) * batch)) for number in numbers())
    loader = iter(make_loader(task, 0, batches, workers))
    next(loader)
    start, loaded = time.perf_counter(), 0
    while loaded == 0 or time.perf_counter() - start < seconds:
        next(loader)
        loaded += batch
    return loaded / (time.perf_counter() - start)

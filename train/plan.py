"""What a run would do, and with one step measured, how long it would take."""

import time
from dataclasses import asdict, dataclass

import torch

from edge.machine import peak_memory_mib
from train.loop import total_steps
from train.networks.build import Network
from train.networks.parts import count_parameters, set_training_mode
from train.recipe import Recipe
from train.tasks.task import DataFacts, Task

TIMED_S = 2.0  # of loading samples


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
    step_s: float | None  # measured here; None unless asked for
    memory_mib: float | None  # peak, measured with it
    samples_per_s: float | None  # prepared by one process from the cache, measured with it


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
        step_s=None,
        memory_mib=None,
        samples_per_s=None,
    )


def timed(plan: Plan, recipe: Recipe, network: Network, task: Task) -> Plan:
    """The plan with the second of two steps timed, the peak memory they took, and the rate of the data."""
    samples, start, loaded = task.samples(0), time.perf_counter(), 0
    while loaded == 0 or time.perf_counter() - start < TIMED_S:
        samples[loaded]
        loaded += 1
    rate = loaded / (time.perf_counter() - start)
    set_training_mode(network)
    lesson = task.lesson(network)
    batch = task.collate([samples[position] for position in range(recipe.batch)])
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision.startswith("bf16")):
            loss = lesson(batch)
        loss.backward()
        seconds = time.perf_counter() - start
    return Plan(**{**asdict(plan), "step_s": seconds, "memory_mib": peak_memory_mib(), "samples_per_s": rate})

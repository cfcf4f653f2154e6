"""What a run would do, and with one step measured, how long it would take."""

import time
from collections import Counter
from dataclasses import asdict, dataclass

import torch

from edge.case import modality_of
from edge.machine import peak_memory_mib
from train.cache import Cache
from train.loop import Lesson, total_steps
from train.network import LiteMedSAM
from train.parts import count_parameters, set_training_mode
from train.recipe import Recipe
from train.sampler import Draws
from train.samples import Batch, Samples

TIMED_SAMPLES = 64


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


def make_plan(recipe: Recipe, network: LiteMedSAM, cache: Cache, draws: Draws, processes: int) -> Plan:
    """The plan of a run, without measurements."""
    total, trainable = count_parameters(network)
    cases = Counter(modality_of(name) for name in {entry.case for entry in cache.entries})
    steps = total_steps(recipe, processes)
    samples = steps * recipe.batch * processes
    return Plan(
        total,
        trainable,
        dict(sorted(cases.items())),
        len(cache.entries),
        cache.broken,
        draws.shares,
        steps,
        samples,
        None,
        None,
        None,
    )


def timed(plan: Plan, recipe: Recipe, network: LiteMedSAM, samples: Samples) -> Plan:
    """The plan with the second of two steps on noise timed, the peak memory they took, and the rate of the data."""
    start = time.perf_counter()
    for position in range(TIMED_SAMPLES):
        samples[position]
    rate = TIMED_SAMPLES / (time.perf_counter() - start)
    set_training_mode(network)
    lesson, side = Lesson(network, recipe), recipe.region_px
    count = recipe.batch * recipe.boxes_per_image
    batch = Batch(
        images=torch.rand(recipe.batch, 3, side, side),
        boxes=torch.tensor([[side / 4, side / 4, side / 2, side / 2]]).repeat(count, 1),
        image_of_box=torch.arange(recipe.batch).repeat_interleave(recipe.boxes_per_image),
        corners=torch.zeros(recipe.batch, 2, dtype=torch.long),
        masks=torch.zeros(count, side, side, dtype=torch.bool),
    )
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision.startswith("bf16")):
            loss = lesson(batch)
        loss.backward()
        seconds = time.perf_counter() - start
    return Plan(**{**asdict(plan), "step_s": seconds, "memory_mib": peak_memory_mib(), "samples_per_s": rate})

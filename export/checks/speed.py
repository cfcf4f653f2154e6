"""How fast graphs are: `python -m export.checks.speed CHECKPOINT MODEL` compares a folder with the plain network.

As exported means: the training network converted to OpenVINO as it is. All graphs run in turn, so that a machine that
others use slows them alike; medians count.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edge.engines.model_folder import read_description
from edge.engines.openvino_import import import_openvino, openvino_core
from edge.engines.runtime import Engine, load_engine
from edge.errors import RunError
from edge.reports.report import print_rows
from edge.system.cores import available_cores
from edge.system.machine import describe_machine
from edge.views.planners import reach_within_boxes, widened
from train.networks.litemedsam import FRAME_PX, LiteMedSAM
from train.validation import TorchEngine

BOX_COUNTS = (1, 8, 32)
COMPARED_BOXES = 16
VIEWS = 8  # segmented together
ROUNDS = 5
MANY_ROUNDS, MOST_SECONDS = 15, 100  # where the ratios are the purpose, not a line in a description
NEAR_PX = reach_within_boxes(1.0)  # how far around a box a mask is looked for
EXPORT_SECONDS = 20  # where they are one; torch alone takes seconds a round


@dataclass(frozen=True)
class Speed:
    """One engine's medians, in ms."""

    engine: str
    ms_per_slice: float
    ms_per_box: dict[str, float]  # boxes of a third of the frame decoded at once -> ms for one of them
    ms_per_view: dict[str, float] = field(default_factory=dict)  # size -> ms to encode and decode one, VIEWS at once


def measure_speed(network: LiteMedSAM, engines: Mapping[str, Engine]) -> list[Speed]:
    """The network in torch and every engine, in turn."""
    tasks: dict[tuple[str, int], Callable[[], object]] = {}
    image, embedding, boxes = _example(max(BOX_COUNTS))
    ladder = next(iter(engines.values())).description.ladder
    sizes = ladder.sizes if ladder else ()
    runners = {"torch f32": TorchEngine(network, ladder), **engines}
    for title, engine in runners.items():
        tasks[title, 0] = partial(engine.encode, image)
        for count in BOX_COUNTS:
            tasks[title, count] = partial(engine.decode, embedding, boxes[:count], widened(boxes[:count], NEAR_PX))
        for size in sizes:
            tasks[title, -size] = partial(segment_views, engine, size)
    ms = run_in_turn(tasks, seconds=EXPORT_SECONDS)[0]
    return [
        Speed(
            title,
            ms[title, 0],
            {str(count): ms[title, count] / count for count in BOX_COUNTS},
            {str(size): ms[title, -size] / VIEWS for size in sizes},
        )
        for title in runners
    ]


def segment_views(engine: Engine, size: int) -> np.ndarray:
    """Logits of VIEWS views, each with a box of two thirds of its side."""
    rng = np.random.default_rng(2)
    images = rng.random((VIEWS, 3, size, size), dtype=np.float32)
    boxes = np.tile(np.array([size / 6, size / 6, size * 5 / 6, size * 5 / 6], np.float32), (VIEWS, 1))
    return engine.decode(engine.encode(images), boxes, widened(boxes, NEAR_PX))


def available_engines(folder: Path) -> dict[str, Engine]:
    """Backend and precision -> engine, for all that the folder has and this CPU can."""
    engines = {}
    description = read_description(folder)
    for backend in description.graphs:
        for precision in ("f32", "bf16", "int8"):
            if precision == "int8" and not description.int8_graphs.get(backend):
                continue
            try:
                engines[f"{backend} {precision}"] = load_engine(folder, backend=backend, precision=precision)
            except RunError:  # bf16 where the CPU or the engine has none
                continue
    return engines


def run_in_turn(
    tasks: dict[tuple[str, int], Callable[[], object]], rounds: int = ROUNDS, seconds: float = math.inf
) -> tuple[dict[tuple[str, int], float], int]:
    """Median ms of each task, and of how many runs: all once unmeasured, then one after the other, `rounds` times.

    Args:
        seconds: no round begins later than this.
    """
    times: dict[tuple[str, int], list[float]] = {key: [] for key in tasks}
    begin = time.perf_counter()
    for turn in range(rounds + 1):
        if turn > 1 and time.perf_counter() - begin > seconds:
            break
        for key, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:
                times[key].append(1000 * (time.perf_counter() - start))
    return {key: statistics.median(values) for key, values in times.items()}, len(next(iter(times.values())))


class _PlainDecoder(nn.Module):
    """The training network's decoder, every box on one image."""

    def __init__(self, network: LiteMedSAM) -> None:
        super().__init__()
        self.network = network

    def forward(self, embedding: Tensor, boxes: Tensor) -> Tensor:
        return self.network.decode(embedding, boxes, torch.zeros(boxes.shape[0], dtype=torch.long))[0]


def _as_exported(
    network: LiteMedSAM,
) -> tuple[Callable[[np.ndarray], object], Callable[[np.ndarray, np.ndarray], object]]:
    """Encoder and decoder of the training network as OpenVINO makes them of the plain modules, in float32.

    For one image and COMPARED_BOXES boxes: fixed sizes are the fastest such a graph can have.
    """
    openvino, core, grid = import_openvino(), openvino_core(), FRAME_PX // 4
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": available_cores()}
    image, embedding, boxes = (torch.from_numpy(array) for array in _example(COMPARED_BOXES))
    encoder = openvino.convert_model(network.image_encoder, example_input=image, input=[1, 3, FRAME_PX, FRAME_PX])
    decoder = openvino.convert_model(
        _PlainDecoder(network), example_input=(embedding, boxes), input=[[1, 256, grid, grid], [COMPARED_BOXES, 4]]
    )
    encode, decode = (core.compile_model(model, "CPU", settings) for model in (encoder, decoder))
    return (lambda images: encode([images])[0]), (lambda found, prompts: decode([found, prompts])[0])


def _example(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (1, 3, S, S), an embedding (1, 256, S / 4, S / 4) and boxes (count, 4)."""
    rng = np.random.default_rng(1)
    image = rng.random((1, 3, FRAME_PX, FRAME_PX), dtype=np.float32)
    embedding = rng.standard_normal((1, 256, FRAME_PX // 4, FRAME_PX // 4), dtype=np.float32)
    corners = rng.uniform(0, FRAME_PX / 2, (count, 2)).astype(np.float32)
    return image, embedding, np.concatenate([corners, corners + np.float32(FRAME_PX / 3)], axis=1)


def main() -> None:
    """Print encoder and decoder times and their ratios to the graph as exported in the first place."""
    from train.networks.checkpoint import load_checkpoint

    parser = argparse.ArgumentParser(prog="python -m export.checks.speed", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint that the model was exported from")
    parser.add_argument("model", type=Path, help="model folder")
    options = parser.parse_args()
    network = LiteMedSAM()
    load_checkpoint(network, options.checkpoint)
    encode, decode = _as_exported(network.eval())
    image, embedding, boxes = _example(COMPARED_BOXES)
    plain, whole, near = "as exported f32", COMPARED_BOXES, -1
    tasks: dict[tuple[str, int], Callable[[], object]] = {
        (plain, 0): lambda: encode(image),
        (plain, whole): lambda: decode(embedding, boxes),
    }
    engines = {title: engine for title, engine in available_engines(options.model).items() if "openvino" in title}
    ladder = next(iter(engines.values())).description.ladder
    sizes = ladder.sizes if ladder else ()
    for title, engine in engines.items():
        tasks[title, 0] = partial(engine.encode, image)
        tasks[title, whole] = partial(engine.decode, embedding, boxes)
        tasks[title, near] = partial(engine.decode, embedding, boxes, widened(boxes, NEAR_PX))
        for size in sizes:
            tasks[title, -size] = partial(segment_views, engine, size)
    ms, rounds = run_in_turn(tasks, MANY_ROUNDS, MOST_SECONDS)
    machine = describe_machine()
    print(f"{machine['cpu']}, {available_cores()} cores, {', '.join(machine['flags'])}; medians of {rounds}, ms")
    header = ["graph", "slice", "ratio", f"box, {whole} at once", "ratio", "near it", "ratio"]
    rows = [[*header, *(text for size in sizes for text in (f"view of {size} px and box", "ratio to slice"))]]
    for title in [plain, *engines]:
        pairs = [(0, 0, 1), (whole, whole, whole), (near, whole, whole), *((-size, 0, VIEWS) for size in sizes)]
        row = [
            (ms[title, own] / n, ms[title, own] / (n if their == 0 else 1) / ms[plain, their])
            for own, their, n in pairs
            if (title, own) in ms
        ]
        rows.append([title, *(text for value, ratio in row for text in (f"{value:.2f}", f"{ratio:.3f}"))])
        rows[-1] += [""] * (len(rows[0]) - len(rows[-1]))
    print_rows(rows)
    masks, own = np.asarray(decode(embedding, boxes)) > 0, engines["openvino f32"].decode(embedding, boxes) > 0
    print(f"equal pixels of {whole} masks, whole frames, openvino f32: {np.mean(masks == own):.4%}")


if __name__ == "__main__":
    main()

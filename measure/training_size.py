"""What training on many cases takes before its first step: `python -m measure.training_size`.

A prepared set of many small images, made up, whose pixels are 8 x 8: what grows with their number is the index, the
tables of what is drawn, and what a worker process is given.
"""

import argparse
import json
import pickle
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge.choices import MODALITIES
from edge.reports.report import now, print_rows, write_json
from edge.system.machine import describe_machine
from train.data.draws import ObjectDraws
from train.data.prepared import FORMAT, INDEX, LABELS, OBJECTS, PIXELS, TRACKED, open_prepared
from train.data.sampler import BALANCED_SHARES

SIDE_PX, SETS = 8, 5  # of an image; data sets of each modality
DRAWS = 20_000
Size = dict[str, Any]


def make_set(folder: Path, count: int) -> None:
    """A prepared folder of `count` images of one object each, their files full of zeros that take no place."""
    per_image = SIDE_PX**2
    names = [f"2DBox_{MODALITIES[n % len(MODALITIES)]}_set{n // 11 % SETS}_{n:07d}" for n in range(count)]
    shape = [1, SIDE_PX, SIDE_PX]
    cases = [[name, shape, 1, n * per_image, n * per_image, 1.0] for n, name in enumerate(names)]
    index = {"format": FORMAT, "cases": cases, "broken": [], "content_hash": "", "predicted": 0}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    rows = np.arange(count)
    objects = np.stack([rows, *(np.full(count, value) for value in (1, 0, 1, 1, 0, 5, 5)), rows], axis=1)
    np.save(folder / OBJECTS, objects.astype(np.int32))
    np.save(folder / TRACKED, np.tile(np.array([1, 1, 5, 5], np.float32), (count, 1)))
    for name, size in ((PIXELS, 1), (LABELS, 2)):
        with (folder / name).open("wb") as file:
            file.truncate(count * per_image * size)


def measure(count: int) -> Size:
    """Bytes of an image in memory and on its way to a worker, seconds to start, microseconds of a draw."""
    with tempfile.TemporaryDirectory() as folder:
        make_set(Path(folder), count)
        data, open_s = _timed(lambda: open_prepared(Path(folder)))
        draws, tables_s = _timed(lambda: ObjectDraws(data, "balanced", BALANCED_SHARES))
        chance = np.random.default_rng(0)
        _, draws_s = _timed(lambda: [draws.draw(chance) for _ in range(DRAWS)])
        sent, send_s = _timed(lambda: pickle.dumps((data, draws)))
        _, receive_s = _timed(lambda: pickle.loads(sent))
        in_memory = _bytes_of(Path(folder))
    times = {"open_s": open_s, "tables_s": tables_s, "draw_us": draws_s / DRAWS * 1e6}
    each = {"bytes_each": in_memory / count, "sent_bytes_each": len(sent) / count}
    return {"images": count, **times, **each, "send_s": send_s, "receive_s": receive_s}


def _bytes_of(folder: Path) -> int:
    """What a prepared folder takes in memory, opened, with the tables of draws."""
    tracemalloc.start()
    data = open_prepared(folder)
    draws = ObjectDraws(data, "balanced", BALANCED_SHARES)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del draws
    return taken


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What comes of it, and seconds of the CPU."""
    start = time.process_time()
    return work(), time.process_time() - start


def main() -> None:
    """Print, write."""
    parser = argparse.ArgumentParser(prog="python -m measure.training_size", description="Training at size.")
    parser.add_argument("--images", type=int, nargs="+", default=[2_000, 20_000, 200_000])
    parser.add_argument("--json", type=Path, help="write what was measured here")
    chosen = parser.parse_args()
    sizes = [measure(count) for count in chosen.images]
    print_rows([list(sizes[0]), *([f"{value:.4g}" for value in size.values()] for size in sizes)])
    if chosen.json:
        write_json(chosen.json, {"created": now(), "machine": describe_machine(), "cases": [], "sizes": sizes})


if __name__ == "__main__":
    main()

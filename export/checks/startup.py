"""Where the start of `samedge predict` goes: `python -m export.checks.startup CASE.npz`.

Fresh processes, in which the steps are done one after the other; medians. The command itself, timed as a whole beside
them, does several at once: it reads the first case while the engine is loaded, and both graphs side by side.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROUNDS = 7
FLOOR = "import numpy, openvino"  # what no start can be faster than
BEGUN = "SAMEDGE_BENCH_BEGUN"  # time.time() at which a process was started


def steps(path: Path) -> Iterator[str]:
    """Do the steps of a first 2D case; yield the name of each when it is done. In a process that did nothing yet."""
    import edge.cli

    yield "command line: typer"
    import numpy as np

    yield "import numpy"
    import cv2  # noqa: F401

    yield "import cv2"
    from edge.engines.openvino_import import import_openvino

    import_openvino()
    yield "import openvino"
    import edge.predict  # noqa: F401
    from edge.data.case import read_case
    from edge.engines.runtime import load_engine
    from edge.pipeline import segment
    from edge.system.home import engine_cache

    yield "other imports"
    case = read_case(path)
    yield "case: read"
    engine = load_engine(precision="auto", cache=engine_cache())
    yield "engine: core, model folder checked"
    ladder = engine.description.ladder
    side = ladder.sizes[0] if ladder else engine.description.input_size
    view = np.zeros((1, 3, side, side), np.float32)
    engine.encode(view)
    yield f"graphs of {side} px: read, first view encoded"
    embedding = engine.encode(view)
    yield "a view encoded"
    box = np.array([[8, 8, 40, 40]], np.float32)
    engine.decode(embedding, box, box)
    yield "first box decoded"
    engine.decode(embedding, box, box)
    yield "a box decoded"
    segment(case, engine)
    yield "case: segmented (loads the graphs of another size if it needs them)"
    segment(case, engine)
    yield "case: segmented once more"


def step_seconds(path: Path) -> dict[str, float]:
    """Name of a step -> seconds, in this process."""
    last = float(os.environ[BEGUN])
    seconds = {"python": time.time() - last}
    last = time.time()
    for name in steps(path):
        seconds[name] = time.time() - last
        last = time.time()
    return seconds


def seconds_of(command: Sequence[str]) -> float:
    """Wall time of a process from start to end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(path: Path, rounds: int = ROUNDS) -> dict[str, float]:
    """Step, or whole process -> median seconds of fresh processes, after one that fills the caches."""
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        predict = [sys.executable, "-m", "edge", "predict", "--quiet", "--overwrite", str(path), folder]
        seconds_of(predict)
        for _ in range(rounds):
            child = [sys.executable, "-m", "export.checks.startup", "--steps", str(path)]
            environment = {**os.environ, BEGUN: str(time.time())}
            run = subprocess.run(child, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            whole = {f"python -c '{FLOOR}'": seconds_of([sys.executable, "-c", FLOOR])}
            whole["samedge predict, whole"] = seconds_of(predict)
            found.append({**json.loads(run.stdout), **whole})
    return {name: statistics.median(times[name] for times in found) for name in found[0]}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m export.checks.startup", description="Where a start goes.")
    parser.add_argument("case", type=Path, help="a 2D case, .npz")
    parser.add_argument("--steps", action="store_true", help="do the steps here, once, and print JSON")
    options = parser.parse_args()
    if options.steps:
        print(json.dumps(step_seconds(options.case)))
        return
    seconds = measure(options.case)
    from edge.reports.report import print_rows
    from edge.system.machine import describe_machine

    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, medians of {ROUNDS} fresh processes")
    print_rows([["step", "s"], *([name, f"{value:.3f}"] for name, value in seconds.items())])


if __name__ == "__main__":
    main()

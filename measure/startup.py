"""Where the start of `samedge predict` goes: `python -m measure.startup CASE.npz`.

Fresh processes, in which the steps are done one after the other; medians. The command itself, timed as a whole beside
them, does several at once: it reads the first case while the engine is loaded, and both graphs side by side. Beside
other work seconds by the clock say little; those of the CPU still do.
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
from dataclasses import asdict, astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from edge.system.machine import peak_memory_mib

ROUNDS = 7
FLOOR = "import numpy, openvino"  # what no start can be faster than
PREDICT = (sys.executable, "-m", "edge", "predict", "--quiet", "--overwrite")
BEGUN = "SAMEDGE_BENCH_BEGUN"  # time.time() at which a process was started


@dataclass(frozen=True)
class Cost:
    """What a step or a process took."""

    wall_s: float
    cpu_s: float  # of all threads
    peak_mib: float  # of the process until then


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


def step_costs(path: Path) -> dict[str, Cost]:
    """Name of a step -> its cost, in this process."""
    last = float(os.environ[BEGUN]), 0.0
    costs = {}
    for name in chain(["python"], steps(path)):
        now = time.time(), time.process_time()
        costs[name] = Cost(now[0] - last[0], now[1] - last[1], peak_memory_mib())
        last = time.time(), time.process_time()
    return costs


def _as_installed() -> dict[str, str]:
    """The environment, in which Python keeps compiled code, as an installed package has it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cost_of(command: Sequence[str], checkout: Path | None = None) -> Cost:
    """Of a process from start to end, and what it started; in a checkout and of its modules, if one is given."""
    environment = _as_installed() | ({"PYTHONPATH": str(checkout)} if checkout else {})
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, cwd=checkout)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def measure(path: Path, rounds: int = ROUNDS) -> dict[str, Cost]:
    """Step, or whole process -> medians over fresh processes, after one that fills the caches."""
    found: list[dict[str, Cost]] = []
    with tempfile.TemporaryDirectory() as folder:
        predict = [*PREDICT, str(path), folder]
        cost_of(predict)
        for _ in range(rounds):
            child = [sys.executable, "-m", "measure.startup", "--steps", str(path)]
            environment = {**_as_installed(), BEGUN: str(time.time())}
            run = subprocess.run(child, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            costs = {name: Cost(*cost) for name, cost in json.loads(run.stdout).items()}
            costs[f"python -c '{FLOOR}'"] = cost_of([sys.executable, "-c", FLOOR])
            costs["samedge predict, whole"] = cost_of(predict)
            found.append(costs)
    return {name: _median([costs[name] for costs in found]) for name in found[0]}


def measure_pairs(path: Path, other: Path, rounds: int = ROUNDS) -> list[tuple[Cost, Cost]]:
    """The command as a whole, of this checkout and of another, in turn; each with the model that it ships.

    Args: other: the folder of the other checkout, which runs with this one's Python and packages.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [*PREDICT, str(path.resolve()), folder]
        checkouts = Path(__file__).resolve().parents[1], other.resolve()
        runs = [[cost_of(command, checkout) for checkout in checkouts] for _ in range(rounds + 1)]
    return [(own, its) for own, its in runs[1:]]  # the first fills the caches


def measure_containers(path: Path, images: Sequence[str], rounds: int = ROUNDS) -> list[list[float]]:
    """Seconds of a container for the case, by the challenge's command line, of each of the images in turn."""
    from edge.challenge.submission.container import Limits
    from edge.challenge.submission.engine import connect
    from edge.challenge.submission.mounts import Mounts
    from edge.challenge.submission.trial import try_case

    client = connect()

    def seconds(image: str, mounts: Mounts) -> float:
        trial, _ = try_case(client, image, path, mounts, Limits(), score=False)
        if trial.problem or trial.wall_s is None:
            sys.exit(f"error: {image}: {trial.problem}")
        return trial.wall_s

    with tempfile.TemporaryDirectory() as folder:
        places = [(image, Mounts(Path(folder) / str(at))) for at, image in enumerate(images)]
        runs = [[seconds(*place) for place in places] for _ in range(rounds + 1)]
    return runs[1:]  # the first fills the caches


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(*map(statistics.median, zip(*map(astuple, costs), strict=True)))


def startup_table(report: dict[str, Any]) -> list[list[str]]:
    """Rows of texts of what `main` wrote, header first."""
    costs = [(step["name"], Cost(step["wall_s"], step["cpu_s"], step["peak_mib"])) for step in report["steps"]]
    rows = [[name, f"{cost.wall_s:.3f}", f"{cost.cpu_s:.3f}", f"{cost.peak_mib:.0f}"] for name, cost in costs]
    return [["step", "s", "CPU s", "peak MiB"], *rows]


def pairs_text(report: dict[str, Any]) -> str:
    """What the pairs came to, processes and containers; empty where none were run."""
    processes = [[cost["wall_s"] for cost in pair] for pair in report["pairs"]]
    told = [_ratio_text(processes, report["against"])] if processes else []
    if report["containers"]:
        told.append(f"containers: {_ratio_text(report['containers'], report['images'][1])}")
    return "; ".join(told)


def _ratio_text(pairs: Sequence[Sequence[float]], other: str) -> str:
    own, its = zip(*pairs, strict=True)
    ratios = sorted(theirs / mine for mine, theirs in pairs)
    return (
        f"{statistics.median(own):.3f} s of {statistics.median(its):.3f} s as of {other}, in {len(ratios)} pairs "
        f"{statistics.median(ratios):.2f} times as fast, {ratios[0]:.2f} to {ratios[-1]:.2f}"
    )


def main() -> None:
    """Print the table, write it."""
    parser = argparse.ArgumentParser(prog="python -m measure.startup", description="Where a start goes.")
    parser.add_argument("case", type=Path, help="a 2D case, .npz")
    parser.add_argument("--steps", action="store_true", help="do the steps here, once, and print JSON")
    parser.add_argument("--against", type=Path, help="another checkout of samedge, to run in turn with this one")
    parser.add_argument("--images", nargs=2, metavar=("OWN", "OTHER"), help="images to run in turn, a container each")
    parser.add_argument("--json", type=Path, help="write what was measured here")
    options = parser.parse_args()
    if options.steps:
        print(json.dumps({name: astuple(cost) for name, cost in step_costs(options.case).items()}))
        return
    from edge.reports.report import now, print_rows, write_json
    from edge.system.machine import describe_machine

    costs = measure(options.case)
    pairs = measure_pairs(options.case, options.against) if options.against else []
    containers = measure_containers(options.case, options.images) if options.images else []
    report = {
        "created": now(),
        "machine": describe_machine(),
        "cases": [],
        "case": options.case.stem,
        "rounds": ROUNDS,
        "steps": [{"name": name, **asdict(cost)} for name, cost in costs.items()],
        "against": _commit(options.against) if options.against else None,
        "pairs": [[asdict(cost) for cost in pair] for pair in pairs],
        "images": options.images,
        "containers": containers,
    }
    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, medians of {ROUNDS} fresh processes")
    print_rows(startup_table(report))
    if pairs or containers:
        print(pairs_text(report))
    if options.json:
        write_json(options.json, report)


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main()

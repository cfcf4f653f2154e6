"""Where an OpenVINO graph's time goes: `python -m measure.profile GRAPH.xml [--precision bf16] [--nodes 20]`."""

import argparse
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from edge.engines.openvino_import import openvino_core
from edge.system.cores import available_cores

BOXES = 16  # decoded at once when the graph is a decoder
RUNS = 7


def compile_for_profile(graph: Path, precision: str, counters: bool) -> Any:
    """The graph on all cores and one stream, as `edge.engines.runtime` runs it."""
    hint = "bf16" if precision == "bf16" else "f32"
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": available_cores(), "NUM_STREAMS": 1}
    return openvino_core().compile_model(str(graph), "CPU", {**settings, "PERF_COUNT": counters})


def example_feed(compiled: Any) -> dict[str, np.ndarray]:
    """One image, or BOXES boxes on one embedding: random numbers of the right shapes."""
    rng = np.random.default_rng(0)
    feed = {}
    for port in compiled.inputs:
        shape = [1 if size.is_dynamic else size.get_length() for size in port.partial_shape]
        if port.any_name == "boxes":
            corners = rng.uniform(0, 128, (BOXES, 2)).astype(np.float32)
            feed["boxes"] = np.concatenate([corners, corners + 100], axis=1)
        elif port.any_name == "cells":  # a fifth of them, as of boxes of a third of the frame and what is around them
            feed["cells"] = np.arange(0, BOXES * 64 * 64, 5, dtype=np.int32)
        else:
            feed[port.any_name] = rng.random(shape, dtype=np.float32)
    return feed


def median_ms(graph: Path, precision: str = "f32") -> float:
    """Median time of a run, without counters."""
    compiled = compile_for_profile(graph, precision, counters=False)
    request, feed = compiled.create_infer_request(), example_feed(compiled)
    request.infer(feed)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        request.infer(feed)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def node_times(graph: Path, precision: str = "f32") -> list[tuple[str, str, str, float]]:
    """Per executed node: its type, how it was executed, its name, and its median time in ms."""
    compiled = compile_for_profile(graph, precision, counters=True)
    request, feed = compiled.create_infer_request(), example_feed(compiled)
    request.infer(feed)
    runs: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for _ in range(RUNS):
        request.infer(feed)
        for node in request.profiling_info:
            if node.real_time.total_seconds() > 0:
                runs[node.node_type, node.exec_type, node.node_name].append(1000 * node.real_time.total_seconds())
    return [(*key, statistics.median(times)) for key, times in runs.items()]


def main() -> None:
    """Print the time by node type and execution type, and the slowest nodes."""
    parser = argparse.ArgumentParser(prog="python -m measure.profile", description=__doc__)
    parser.add_argument("graph", type=Path, help="an OpenVINO .xml, encoder or decoder")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="of what is not quantized")
    parser.add_argument("--nodes", type=int, default=15, help="how many of the slowest nodes to list")
    options = parser.parse_args()
    print(f"{options.graph.name} {options.precision}: {median_ms(options.graph, options.precision):.1f} ms")
    nodes = node_times(options.graph, options.precision)
    by_type: dict[tuple[str, str], list[float]] = defaultdict(list)
    for kind, execution, _, ms in nodes:
        by_type[kind, execution].append(ms)
    for (kind, execution), times in sorted(by_type.items(), key=lambda item: -sum(item[1])):
        print(f"{sum(times):8.2f} ms {len(times):4d} x {kind:24s} {execution}")
    for kind, execution, name, ms in sorted(nodes, key=lambda node: -node[3])[: options.nodes]:
        print(f"{ms:8.2f} ms  {kind} {execution} {name}")


if __name__ == "__main__":
    main()

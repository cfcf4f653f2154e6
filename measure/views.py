"""What a view costs to encode, by its size, engine and precision: `python -m measure.views [MODEL]`.

One view, and one of eight given together; all in turn, so that a machine that others use slows them alike; medians
count. Beside it the share of what the machine multiplies and adds at all, measured with the largest product that
OpenVINO computes in the same precision.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge.engines.model_folder import DEFAULT_MODEL, read_description
from edge.engines.openvino_import import openvino_core
from edge.engines.runtime import Engine, describe_engine
from edge.errors import ModelError
from edge.reports.report import now, print_rows, write_json
from edge.system.cores import available_cores
from edge.system.machine import describe_machine

TOGETHER = (1, 8)
ROUNDS = 5
PRODUCT = 1536  # rows, columns and depth: large enough to hide what is not multiplying


def multiply_adds(graph: Path, side: int) -> int:
    """Products of an encoder's convolutions and matrices for one view of `side` px.

    Raises:
        ModelError: the graph has no such operation.
    """
    model = openvino_core().read_model(graph)
    model.reshape([1, 3, side, side])
    count = 0
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "MatMul":
            inner = node.input(0).get_partial_shape()[-2 if node.get_attributes()["transpose_a"] else -1]
            count += math.prod(node.output(0).get_shape()) * inner.get_length()
        elif kind in ("Convolution", "GroupConvolution"):
            weights = node.input(1).get_shape()
            per_output = math.prod(weights[2 if kind == "GroupConvolution" else 1 :])
            count += math.prod(node.output(0).get_shape()) * per_output
    if not count:
        raise ModelError(f"{graph}: neither convolutions nor products of matrices to count")
    return count


def product(precision: str) -> Callable[[], object]:
    """A product of two square matrices of PRODUCT on all cores, weights constant, as OpenVINO computes it best."""
    import openvino.opset13 as operations
    from openvino import Model, Type

    weights = np.random.default_rng(0).integers(-127, 128, (PRODUCT, PRODUCT))
    given = operations.parameter([PRODUCT, PRODUCT], Type.f32)
    if precision == "int8":
        factors = operations.multiply(
            operations.convert(operations.constant(weights.astype(np.int8)), "f32"),
            operations.constant(np.full((PRODUCT, 1), 0.01, np.float32)),
        )
        low, high = np.float32(0), np.float32(2.55)
        left = operations.fake_quantize(given, low, high, low, high, 256)
    else:
        factors, left = operations.constant(weights.astype(np.float32)), given
    model = Model([operations.matmul(left, factors, False, True)], [given], "product")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": available_cores(),
        "NUM_STREAMS": 1,
    }
    request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()
    values = np.random.default_rng(1).random((PRODUCT, PRODUCT), dtype=np.float32)
    return partial(request.infer, [values], share_inputs=True)


def measure(
    engines: dict[str, Engine], sizes: Sequence[int], rounds: int
) -> tuple[dict[tuple[str, int], list[float]], dict[str, float], int]:
    """Median ms, and of how many runs.

    Returns:
        (engine, size) -> ms of a view for each of TOGETHER; precision -> ms of the largest product; rounds.
    """
    from export.checks.speed import run_in_turn

    tasks: dict[tuple[str, int], Callable[[], object]] = {}
    rng = np.random.default_rng(2)
    for title, engine in engines.items():
        for size in sizes:
            for count in TOGETHER:
                images = rng.random((count, 3, size, size), dtype=np.float32)
                tasks[f"{title}, {count} at once", size] = partial(engine.encode, images)
    precisions = sorted({title.split()[1] for title in engines if title.startswith("openvino")})
    for precision in precisions:
        tasks[precision, PRODUCT] = product(precision)
    ms, counted = run_in_turn(tasks, rounds)
    views = {
        (title, size): [ms[f"{title}, {count} at once", size] / count for count in TOGETHER]
        for title in engines
        for size in sizes
    }
    return views, {precision: ms[precision, PRODUCT] for precision in precisions}, counted


def rows_of(
    views: Mapping[tuple[str, int], list[float]], needed: Mapping[int, int], peaks: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A row a size: ms of a view of every engine, and OpenVINO's share of the peak with one view alone.

    Args:
        views: as `measure` returns them.
        needed: size -> products of one view.
        peaks: precision -> products that the machine computes in a ms.
    """
    rows = []
    for size, products in needed.items():
        ms = {title: found for (title, of), found in views.items() if of == size}
        shares = {
            title: products / peaks[title.split()[1]] / alone
            for title, (alone, _) in ms.items()
            if title.startswith("openvino")
        }
        rows.append({"size_px": size, "multiply_adds": products, "ms": ms, "share_of_peak": shares})
    return rows


def views_table(report: dict[str, Any]) -> list[list[str]]:
    """Of what `main` writes: a row a size, a column an engine; ms of one view, of one of eight, share of the peak."""
    rows = [["view, px", *report["rows"][0]["ms"]]]
    for row in report["rows"]:
        cells = []
        for title, (alone, together) in row["ms"].items():
            share = row["share_of_peak"].get(title)
            cells.append(f"{alone:.1f} / {together:.1f}" + ("" if share is None else f", {share:.0%}"))
        rows.append([str(row["size_px"]), *cells])
    return rows


def main() -> None:
    """Measure, print, write."""
    from export.checks.speed import available_engines

    parser = argparse.ArgumentParser(prog="python -m measure.views", description="ms to encode a view.")
    parser.add_argument("model", type=Path, nargs="?", default=DEFAULT_MODEL, help="model folder")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="write the times here")
    chosen = parser.parse_args()
    description, engines = read_description(chosen.model), available_engines(chosen.model)
    sizes = (*(description.ladder.sizes if description.ladder else ()), description.input_size)
    views, products, rounds = measure(engines, sizes, chosen.rounds)
    peaks = {precision: PRODUCT**3 / ms for precision, ms in products.items()}
    graph = chosen.model / description.graphs["openvino"]["encoder"][0]
    report: dict[str, Any] = {"created": now(), "machine": describe_machine(), "rounds": rounds}
    report |= {"engines": [describe_engine(engine) for engine in engines.values()]}
    report["peak_gops"] = {precision: 2 * value / 1e6 for precision, value in peaks.items()}
    report["rows"] = rows_of(views, {size: multiply_adds(graph, size) for size in sizes}, peaks)
    print(f"{report['machine']['cpu']}, {available_cores()} cores; ms alone / of {TOGETHER[-1]}, share of the peak;")
    print("peak, 10^9 operations a second: ", end="")
    print(", ".join(f"{precision} {value:.0f}" for precision, value in report["peak_gops"].items()))
    print_rows(views_table(report))
    if chosen.json:
        write_json(chosen.json, report)


if __name__ == "__main__":
    main()

"""The engines: OpenVINO and ONNX Runtime behind one small protocol."""

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from edge.choices import BACKENDS, PRECISIONS
from edge.engines.graph import Array, Within, load_here
from edge.engines.model_folder import (
    DEFAULT_MODEL,
    ModelDescription,
    graph_files,
    model_hash,
    read_description,
    stamps_of_graphs,
)
from edge.errors import RunError
from edge.system.cores import available_cores
from edge.system.machine import has_fast_bf16, has_int8_instructions


class Engine(Protocol):
    """A loaded model: two functions of arrays, what they need, and what they run on.

    All may be called by several threads at once, and answer each as if it were alone. They run in the process that
    loaded them; in one forked from it they raise RunError. The graphs for frames or views of a size are loaded when the
    first comes, or before, by `prepare`: where they cannot be, that call raises ModelError, which names the file.
    """

    description: ModelDescription
    backend: str  # with its version, such as "openvino 2026.4.1"
    precision: str  # what really runs: f32, bf16 or int8 (what is not quantized then in bf16 where the CPU has it)
    threads: int

    def prepare(self, batches: Mapping[int, int]) -> None:
        """Load what frames or views need that is not loaded yet, side by side.

        Args: batches: side in px -> how many boxes are decoded at once at first, which takes longer the first time.
        """

    def encode(self, images: Array) -> Array:
        """Embeddings (B, C, h, w), owned by the caller, of network inputs (B, 3, S, S) in [0, 1].

        S is the model frame's, or one of the sizes of `description.ladder`.
        """

    def decode(self, embedding: Array, boxes: Array, within: Within = None) -> Array:
        """Logits (N, 4h, 4w), owned by the caller, of boxes (N, 4).

        Args:
            embedding: (1, C, h, w) of a frame, all boxes in it; or (N, C, h, w) of views, each box in its own.
            within: (N, 4), of each box the box outside of which pixels need not be computed, and may be
                `edge.engines.cells.OUTSIDE`; None: all are.
        """


def load_engine(
    folder: Path | str = DEFAULT_MODEL,
    *,
    backend: str = "openvino",
    precision: str = "f32",
    threads: int | None = None,
    cache: Path | str | None = None,
) -> Engine:
    """The model of a folder, ready to run.

    Args:
        backend: one of BACKENDS.
        precision: one of PRECISIONS; `bf16` and `int8` change masks slightly. `auto` takes INT8 where the model has it,
            this CPU has instructions for it, and it was not found slower where it was exported; else bf16 where the CPU
            is faster in it, else f32.
        threads: of the engine; None or 0: `edge.system.cores.available_cores`.
        cache: folder of `edge.engines.graph_cache` for OpenVINO's prepared graphs; None: prepared anew each time.

    Raises:
        ModelError: the folder does not fit; says which file.
        RunError: the engine is not installed or cannot run what was asked; or this process was forked from one that had
            loaded an engine.
    """
    if backend not in BACKENDS:
        raise RunError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if precision not in PRECISIONS:
        raise RunError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    try:
        threads, folder = operator.index(threads or available_cores()), Path(folder).absolute()  # graphs are read later
    except TypeError:
        raise RunError(f"threads must be a whole number, got {threads!r}") from None
    if threads < 1:
        raise RunError(f"threads must be at least 1, got {threads}")
    kept = None if cache is None else Path(cache).absolute()
    description = read_description(folder)
    facts = description.int8.get(backend)
    may_be_faster = isinstance(facts, dict) and facts.get("faster", False) is not False
    has_int8 = bool(description.int8_graphs.get(backend)) and may_be_faster
    if precision == "auto":
        precision = _fastest(backend, has_int8)
    stamps = stamps_of_graphs(folder, description, backend, int8=precision == "int8")
    files = graph_files(folder, description, backend, int8=precision == "int8")
    load_here()
    if backend == "openvino":
        from edge.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(description, files, precision, threads, stamps, kept)
    from edge.engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(description, files, precision, threads, stamps)


def describe_engine(engine: Engine) -> dict[str, Any]:
    """The model by name and hash, the backend with its version, what precision runs, threads."""
    description = engine.description
    model = {"name": description.name, "sha256": model_hash(description), "weights": description.weights}
    return {"model": model, "backend": engine.backend, "precision": engine.precision, "threads": engine.threads}


def _fastest(backend: str, has_int8: bool) -> str:
    if has_int8 and has_int8_instructions():
        return "int8"
    return "bf16" if backend == "openvino" and has_fast_bf16() else "f32"

"""The engines: OpenVINO and ONNX Runtime behind one small protocol."""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge.choices import BACKENDS, PRECISIONS
from edge.engines.graph import Array, Graph, StaysInItsProcess, Within, decode_boxes, load_here, refuse_forked_process
from edge.engines.graph_cache import EngineCache
from edge.engines.model_folder import (
    DEFAULT_MODEL,
    STAGES,
    ModelDescription,
    graph_files,
    model_hash,
    read_description,
    stage_for,
)
from edge.engines.openvino_import import import_openvino
from edge.errors import ModelError, RunError
from edge.system.cores import available_cores
from edge.system.machine import has_fast_bf16, has_int8_instructions

PORTS = {"encoder": ("images",), "decoder": ("embedding", "boxes")}
ONE_BOX = np.array([[64, 64, 192, 192]], np.float32)


class Engine(Protocol):
    """A loaded model: two functions of arrays, and what they run on.

    Both may be called by several threads at once, and answer each as if it were alone. They run in the process that
    loaded them; in one forked from it they raise RunError.
    """

    description: ModelDescription
    backend: str  # with its version, such as "openvino 2026.4.1"
    precision: str  # what really runs: f32, bf16 or int8 (what is not quantized then in bf16 where the CPU has it)
    threads: int

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
    folder: Path = DEFAULT_MODEL,
    *,
    backend: str = "openvino",
    precision: str = "f32",
    threads: int | None = None,
    cache: Path | None = None,
) -> Engine:
    """The model of a folder, ready to run.

    Args:
        backend: one of BACKENDS.
        precision: one of PRECISIONS; `bf16` and `int8` change masks slightly. `auto` takes INT8 where the model has it,
            it was faster where it was exported and this CPU has instructions for it; else bf16 where the CPU is faster
            in it, else f32.
        threads: of the engine; None: `edge.system.cores.available_cores`.
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
    threads = threads or available_cores()
    description = read_description(folder)
    facts = description.int8.get(backend)
    has_int8 = bool(description.int8_graphs.get(backend)) and isinstance(facts, dict) and facts.get("faster") is True
    if precision == "auto":
        precision = _fastest(backend, has_int8)
    files = graph_files(folder, description, backend, int8=precision == "int8")
    load_here()
    if backend == "openvino":
        return OpenVinoEngine(description, files, precision, threads, cache)
    return OnnxRuntimeEngine(description, files, precision, threads)


def _fastest(backend: str, has_int8: bool) -> str:
    if has_int8 and has_int8_instructions():
        return "int8"
    return "bf16" if backend == "openvino" and has_fast_bf16() else "f32"


class _GraphEngine(StaysInItsProcess, ABC):
    """The graphs of an engine by stage and size of what they take, each loaded when it is first needed."""

    def __init__(self, description: ModelDescription, files: dict[str, Path], needed: Collection[str] = STAGES) -> None:
        """Args: needed: stages that `files` must have; see `edge.engines.model_folder.stage_for`."""
        missing = [stage for stage in needed if stage not in files]
        if missing:
            folder = next(iter(files.values())).parent
            raise ModelError(f"{folder}: has no graph {' and '.join(missing)} for this engine; export the model again")
        self.description, self._files = description, files
        self._graphs: dict[tuple[str, int], Graph] = {}
        self._loading = {stage: threading.Lock() for stage in PORTS}

    @property
    def first_side(self) -> int:
        """The size, px, whose graphs are loaded at once."""
        ladder = self.description.ladder
        return ladder.sizes[0] if ladder else self.description.input_size

    def decode(self, embedding: Array, boxes: Array, within: Within = None) -> Array:
        stride = self.description.stride
        return decode_boxes(self._graph("decoder", embedding.shape[-1] * stride), embedding, boxes, within, stride)

    def _graph(self, stage: str, side: int) -> Graph:
        """The prepared graph of a stage for frames or views of `side` px."""
        refuse_forked_process()
        with self._loading[stage]:
            if (stage, side) not in self._graphs:
                self._graphs[stage, side] = self._load(stage, side)
            return self._graphs[stage, side]

    @abstractmethod
    def _load(self, stage: str, side: int) -> Graph:
        """Read and prepare it."""


class OpenVinoEngine(_GraphEngine):
    """OpenVINO on the CPU, one stream: all threads work on one slice, which keeps latency and memory low.

    The encoder's graph is for one image. On two cores, batches of two and two streams of a thread each were not faster
    beyond the noise of the machine, and a graph for any batch needs up to 50 MiB more. So calls of several threads take
    turns, graph by graph.
    """

    def __init__(
        self,
        description: ModelDescription,
        files: dict[str, Path],
        precision: str,
        threads: int,
        cache: Path | None,
    ) -> None:
        try:
            openvino = import_openvino()
        except ImportError:
            raise _missing("openvino", "onnxruntime") from None
        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise RunError("precision bf16: this CPU does not compute in bfloat16; use --precision f32")
        super().__init__(description, files)
        self.backend = f"openvino {openvino.__version__.split('-')[0]}"
        rest = "bf16" if has_bf16 and precision != "f32" else "f32"
        self.precision = "int8" if precision == "int8" else rest
        self.threads = threads
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": rest,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        self._compile = partial(EngineCache(cache).compile_graph, core, settings=settings)
        with ThreadPoolExecutor(1) as pool:  # each graph is prepared on one core
            decoder = pool.submit(self._prepare_decoder, self.first_side)
            self._graph("encoder", self.first_side)
            decoder.result()

    def encode(self, images: Array) -> Array:
        graph = self._graph("encoder", images.shape[-1])
        embeddings = [graph.run({"images": image[None]}) for image in images]
        return embeddings[0] if len(embeddings) == 1 else np.concatenate(embeddings)

    def _prepare_decoder(self, side: int) -> None:
        """Load it, and run it once while the encoder is still loaded: the first run takes 0.07 s longer."""
        channels, cells = self.description.embedding_shape[0], side // self.description.stride
        self.decode(np.zeros((1, channels, cells, cells), np.float32), ONE_BOX, within=ONE_BOX)

    def _load(self, stage: str, side: int) -> Graph:
        path, shapes = self._files[stage], _shapes(self.description, side)
        identity = f"{model_hash(self.description)} {self.backend} {path.name}"
        with _as_model_error(path):
            compiled = self._compile(path, identity=identity, shapes=shapes)
            ports = {port.any_name: _dimensions(port.partial_shape) for port in compiled.inputs}
            _check_ports(path, stage, ports, shapes)
            # outputs are copied out of the request's buffer, which the next call writes again
            infer = partial(compiled.create_infer_request().infer, share_inputs=True, share_outputs=False)
            return Graph(list(ports), lambda inputs: infer(inputs)[0], in_turn=True)


class OnnxRuntimeEngine(_GraphEngine):
    """ONNX Runtime on the CPU, in float32 or with INT8 graphs; calls of several threads run side by side."""

    def __init__(self, description: ModelDescription, files: dict[str, Path], precision: str, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise _missing("onnxruntime", "openvino") from None
        if precision == "bf16":
            raise RunError("precision bf16 needs --backend openvino; onnxruntime computes in f32 on a CPU")
        sizes = description.ladder.sizes if description.ladder else ()
        sides = (description.input_size, *sizes)
        super().__init__(
            description, files, [stage_for(description, stage, side) for side in sides for stage in STAGES]
        )
        self.backend = f"onnxruntime {onnxruntime.__version__}"
        self.precision = "int8" if precision == "int8" else "f32"
        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # the arena keeps the largest block of boxes for ever
        self._options = options
        for stage in STAGES:
            self._graph(stage, self.first_side)

    def encode(self, images: Array) -> Array:
        return self._graph("encoder", images.shape[-1]).run({"images": images})

    def _load(self, stage: str, side: int) -> Graph:
        import onnxruntime

        path = self._files[stage_for(self.description, stage, side)]
        with _as_model_error(path):
            session = onnxruntime.InferenceSession(str(path), self._options, providers=["CPUExecutionProvider"])
            ports = {port.name: port.shape for port in session.get_inputs()}
            _check_ports(path, stage, ports, _shapes(self.description, side))
            return Graph(list(ports), lambda inputs: session.run(None, inputs)[0], in_turn=False)


def _missing(backend: str, other: str) -> RunError:
    return RunError(f"backend {backend} is not installed: pip install {backend}, or use --backend {other}")


@contextmanager
def _as_model_error(path: Path) -> Iterator[None]:
    """An engine's complaint about a graph, in one line that names the file."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # engines raise their own types, RuntimeError and plain Exception
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise ModelError(f"{path}: the engine cannot load it ({reason})") from None


def _shapes(description: ModelDescription, side: int) -> dict[str, list[int]]:
    """Inputs of both stages for frames (one image, any number of boxes) or views (each box's own), -1 where free."""
    channels, cells = description.embedding_shape[0], side // description.stride
    images = 1 if side == description.input_size else -1
    return {"images": [1, 3, side, side], "embedding": [images, channels, cells, cells], "boxes": [-1, 4]}


def _check_ports(path: Path, stage: str, found: dict[str, Any], shapes: dict[str, list[int]]) -> None:
    expected = {name: shapes[name] for name in PORTS[stage]}
    if "cells" in found and stage == "decoder":  # of a decoder that upscales only what is asked for
        expected["cells"] = [-1]
    if set(found) != set(expected):
        raise ModelError(f"{path}: {stage} has inputs {sorted(found)}, expected {sorted(expected)}")
    for name, shape in expected.items():
        actual = list(found[name])
        if len(actual) != len(shape) or any(_differ(a, b) for a, b in zip(actual, shape, strict=True)):
            raise ModelError(f"{path}: {stage} input {name} has shape {actual}, model.json says {shape}")


def _differ(actual: Any, expected: int) -> bool:
    """Of a graph's dimension (a number; a name or None where it is free) and one of `_shapes`."""
    return isinstance(actual, int) and expected != -1 and actual != expected


def _dimensions(partial_shape: Any) -> list[int | None]:
    return [None if dimension.is_dynamic else dimension.get_length() for dimension in partial_shape]

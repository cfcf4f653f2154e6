"""OpenVINO behind the protocol."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge.engines.concurrency import Callers, alone_or_together, in_turn
from edge.engines.graph import Array, Graph, Run, decode_boxes
from edge.engines.graph_cache import EngineCache
from edge.engines.graph_engine import GraphEngine, as_model_error, check_ports, input_shapes, not_installed
from edge.engines.model_folder import ModelDescription, Stamps, model_hash
from edge.engines.openvino_import import import_openvino, openvino_core
from edge.errors import RunError

TOGETHER = 2  # callers that run side by side
# Pieces of a graph that OpenVINO writes machine code for: half of the time in which an encoder is read back, for views
# that are a few percent faster (docs/speed.md). A container of the challenge starts for each case.
NO_SNIPPETS = {"SNIPPETS_MODE": "DISABLE"}


class OpenVinoEngine(GraphEngine):
    """OpenVINO on the CPU. Of a caller that is alone, all threads work on one slice: the least time and memory.

    Callers that come together run two side by side, on half of the threads each, in graphs prepared for that when they
    first meet; more than two wait for their turn. docs/threads.md has what that gains, and the command that measures
    it. The outputs are equal to the byte, in f32, too.

    The encoder's graph is for one image: one for any batch was not faster beyond the noise of the machine and needs up
    to 50 MiB more.
    """

    def __init__(
        self,
        description: ModelDescription,
        files: dict[str, Path],
        precision: str,
        threads: int,
        stamps: Stamps,
        cache: Path | None,
    ) -> None:
        try:
            openvino = import_openvino()
        except ImportError:
            raise not_installed("openvino", "onnxruntime") from None
        core = openvino_core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise RunError("precision bf16: this CPU does not compute in bfloat16; use --precision f32")
        super().__init__(description, files, stamps)
        self.backend = f"openvino {openvino.__version__.split('-')[0]}"
        rest = "bf16" if has_bf16 and precision != "f32" else "f32"
        self.precision = "int8" if precision == "int8" else rest
        self.threads = threads
        self._settings = {
            "INFERENCE_PRECISION_HINT": rest,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # pinned, two engines or processes of one thread each share the first core
            **_accepted(core, NO_SNIPPETS),
        }
        self._compile = partial(EngineCache(cache).compile_graph, core)
        self._callers = Callers()

    def encode(self, images: Array) -> Array:
        graph = self._graph("encoder", images.shape[-1])
        embeddings = [graph.run({"images": image[None]}) for image in images]
        return embeddings[0] if len(embeddings) == 1 else np.concatenate(embeddings)

    def _load(self, stage: str, side: int, boxes: int) -> Graph:
        path = self._files[stage]
        with as_model_error(path):
            compiled = self._prepare(stage, side, streams=1)
            ports = {port.any_name: _dimensions(port.partial_shape) for port in compiled.inputs}
            output = _dimensions(compiled.outputs[0].partial_shape)
            check_ports(path, stage, ports, output, self.description, side)
            alone = in_turn([_request(compiled)])
            if stage == "decoder":
                self._run_once(Graph(list(ports), alone), side, boxes)
        if self.threads == 1:
            return Graph(list(ports), alone)

        def load_together() -> Run:
            compiled = self._prepare(stage, side, streams=TOGETHER)
            return in_turn([_request(compiled) for _ in range(TOGETHER)])

        return Graph(list(ports), alone_or_together(self._callers, alone, load_together))

    def _run_once(self, decoder: Graph, side: int, boxes: int) -> None:
        """While the encoder is still loaded: a decoder's first run with a number of boxes takes longer."""
        channels, cells = self.description.embedding_shape[0], side // self.description.stride
        box = np.tile(np.array([0.25, 0.25, 0.75, 0.75], np.float32) * side, (boxes, 1))
        images = 1 if side == self.description.input_size else boxes
        embedding = np.zeros((images, channels, cells, cells), np.float32)
        decode_boxes(decoder, embedding, box, box, self.description.stride)

    def _prepare(self, stage: str, side: int, streams: int) -> Any:
        """The compiled model, which answers as many requests at once as it has streams."""
        path, shapes = self._files[stage], input_shapes(self.description, side)
        identity = f"{model_hash(self.description)} {self.backend} {path.name}"
        settings = {**self._settings, "NUM_STREAMS": streams}
        return self._compile(path, settings, identity, shapes=shapes, check=self._check_unchanged)


def _accepted(core: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that are not documented, where this version of OpenVINO knows them; else none.

    It cannot be asked, only told: they hold for all of the core's graphs then. They go with those of each graph all the
    same, as a prepared graph that is kept is found by its settings.
    """
    try:
        core.set_property("CPU", settings)
    except RuntimeError:
        return {}
    return settings


def _request(compiled: Any) -> Run:
    """One set of buffers to compute in. Outputs are copied out of them, as the next call writes there again."""
    infer = partial(compiled.create_infer_request().infer, share_inputs=True, share_outputs=False)
    return lambda inputs: infer(inputs)[0]


def _dimensions(partial_shape: Any) -> list[int | None]:
    return [None if dimension.is_dynamic else dimension.get_length() for dimension in partial_shape]

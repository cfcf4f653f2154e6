"""ONNX Runtime behind the protocol."""

from pathlib import Path

from edge.engines.graph import Array, Graph
from edge.engines.graph_engine import GraphEngine, as_model_error, check_ports, not_installed
from edge.engines.model_folder import STAGES, ModelDescription, Stamps, stage_for
from edge.errors import RunError


class OnnxRuntimeEngine(GraphEngine):
    """ONNX Runtime on the CPU, in float32 or with INT8 graphs; calls of several threads run side by side."""

    def __init__(
        self, description: ModelDescription, files: dict[str, Path], precision: str, threads: int, stamps: Stamps
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise not_installed("onnxruntime", "openvino") from None
        if precision == "bf16":
            raise RunError("precision bf16 needs --backend openvino; onnxruntime computes in f32 on a CPU")
        sizes = description.ladder.sizes if description.ladder else ()
        sides = (description.input_size, *sizes)
        super().__init__(
            description, files, stamps, [stage_for(description, stage, side) for side in sides for stage in STAGES]
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

    def encode(self, images: Array) -> Array:
        return self._graph("encoder", images.shape[-1]).run({"images": images})

    def _load(self, stage: str, side: int, _boxes: int) -> Graph:
        import onnxruntime

        path = self._files[stage_for(self.description, stage, side)]
        with as_model_error(path):
            session = onnxruntime.InferenceSession(str(path), self._options, providers=["CPUExecutionProvider"])
            self._check_unchanged()
            ports = {port.name: port.shape for port in session.get_inputs()}
            check_ports(path, stage, ports, session.get_outputs()[0].shape, self.description, side)
            return Graph(list(ports), lambda inputs: session.run(None, inputs)[0])

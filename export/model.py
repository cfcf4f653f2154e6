"""A checkpoint to a model folder: graphs, description, parity; whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from edge.errors import RunError
from edge.model_folder import ModelDescription, file_hash, write_description
from export.graphs import write_onnx, write_openvino
from export.parity import Bounds, Parity, check_parity, measure_parity
from export.share import share_weights
from train.checkpoint import load_checkpoint
from train.network import FRAME_PX, LiteMedSAM

BOUNDS = {"f32": Bounds(relative_error=1e-3), "f16": Bounds(relative_error=1e-2)}  # f16 rounds to 11 bits


@dataclass(frozen=True)
class ExportOptions:
    """How a checkpoint is exported, and what its description says of it."""

    name: str | None = None  # None: the checkpoint's file name
    weights: str = "f32"  # as stored: f16 halves the files and rounds the weights; computing stays float32
    licence: str = ""
    training_data: str = ""
    bounds: Bounds | None = None  # None: those of BOUNDS for `weights`


def export_model(
    checkpoint: Path, out: Path, options: ExportOptions, progress: Callable[[str], None] = lambda _step: None
) -> list[Parity]:
    """Write the model folder `out` and return its parity with torch, per backend.

    An existing model folder is replaced once the new one is complete and within bounds.

    Raises:
        ModelError: the checkpoint does not fit the network, or an engine's answers are out of bounds.
        RunError: `out` is something else than a model folder, or cannot be written.
    """
    if options.weights not in BOUNDS:
        raise RunError(f"weights must be one of {', '.join(BOUNDS)}, got {options.weights!r}")
    if out.exists() and not (out / "model.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: exists and is not a model folder; choose another place")
    network = LiteMedSAM()
    load_checkpoint(network, checkpoint)
    network.eval()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as temporary:
            folder = Path(temporary)
            parity = _fill(folder, network, checkpoint, options, progress)
            check_parity(parity, options.bounds or BOUNDS[options.weights])
            _put(folder, out)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from None
    return parity


def _fill(
    folder: Path, network: LiteMedSAM, checkpoint: Path, options: ExportOptions, progress: Callable[[str], None]
) -> list[Parity]:
    progress("ONNX graphs")
    half = options.weights == "f16"
    onnx_graphs = write_onnx(network, folder, half_weights=half)
    progress("OpenVINO graphs")
    openvino_graphs = {stage: write_openvino(path, half_weights=half) for stage, path in onnx_graphs.items()}
    for path in onnx_graphs.values():
        share_weights(path)
    description = ModelDescription(
        name=options.name or checkpoint.stem,
        input_size=FRAME_PX,
        embedding_shape=(256, FRAME_PX // 4, FRAME_PX // 4),
        graphs={
            "openvino": {stage: _files(path) for stage, path in openvino_graphs.items()},
            "onnxruntime": {stage: _files(path) for stage, path in onnx_graphs.items()},
        },
        sha256={path.name: file_hash(path) for path in sorted(folder.iterdir())},
        weights=options.weights,
        made_from={
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": file_hash(checkpoint),
            "versions": {name: metadata.version(name) for name in ("samedge", "torch", "onnx", "openvino")},
        },
        licence=options.licence,
        training_data=options.training_data,
    )
    write_description(folder, description)
    progress("parity with torch")
    parity = measure_parity(network, folder)
    measured = {**description.__dict__, "parity": [asdict(row) for row in parity]}
    write_description(folder, ModelDescription(**measured))
    return parity


def _files(graph: Path) -> list[str]:
    """A graph's file, and that of its weights, which both engines share."""
    return [graph.name, graph.with_suffix(".bin").name]


def _put(folder: Path, out: Path) -> None:
    """Move the finished files to `out`; files of the previous model that are not replaced go, others stay."""
    out.mkdir(exist_ok=True)
    for path in out.iterdir():
        if path.suffix in (".onnx", ".xml", ".bin"):
            path.unlink()
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix == ".json"):  # the description last
        shutil.move(path, out / path.name)

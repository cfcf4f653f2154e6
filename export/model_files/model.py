"""A checkpoint to a model folder: graphs, description, parity; whole or not at all."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from edge.data.files import file_hash, partial_path, remove_partial_files
from edge.engines.model_folder import DESCRIPTION, SLICES, WALK, ModelDescription, write_description
from edge.errors import RunError
from edge.system.cores import available_cores
from edge.system.home import lend_home
from edge.system.machine import describe_machine, has_int8_instructions
from export.checks.parity import Bounds, Parity, check_parity, measure_parity, with_dsc
from export.checks.speed import Speed, available_engines, measure_speed
from export.graphs.litemedsam import write_onnx, write_openvino
from export.graphs.share import share_weights
from export.int8.add import add_int8, held_out_cases
from export.model_files import sam_signature
from export.model_files.merge import merged_network
from export.model_files.methods import with_methods
from export.model_files.options import ExportOptions
from export.model_files.sam import fill_sam, is_sam_adapter
from train.networks import weights
from train.networks.adapter import WEIGHTS as ADAPTER_WEIGHTS
from train.networks.checkpoint import load_checkpoint
from train.networks.litemedsam import FRAME_PX, LiteMedSAM
from train.networks.tiny_vit import EMBEDDING_WIDTH, STRIDE
from train.threads import keep_to_available_cores

BOUNDS = {"f32": Bounds(relative_error=1e-3), "f16": Bounds(relative_error=1e-2)}  # f16 rounds to 11 bits

DSC_CASES = 2  # of each modality, for the engines' table; INT8's floor is measured on more


def export_model(
    checkpoint: Path, out: Path, options: ExportOptions, progress: Callable[[str], None] = lambda _step: None
) -> list[Parity]:
    """Write the model folder `out` and return its parity with torch, per engine.

    An existing model folder is replaced once the new one is complete and within bounds.

    Args:
        checkpoint: a file, or a name that `train.networks.weights` knows.

    Raises:
        ModelError: the checkpoint does not fit the network, or an engine's answers are out of bounds.
        RunError: `out` is something else than a model folder, or cannot be written; a name that was not fetched yet;
            views that the network cannot be given.
    """
    if options.weights not in BOUNDS:
        raise RunError(f"weights must be one of {', '.join(BOUNDS)}, got {options.weights!r}")
    description = DESCRIPTION if options.io == "samedge" else sam_signature.DESCRIPTION
    if out.exists() and not (out / description).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: exists and is not a model folder with a {description}; choose another place")
    problem = options.views and options.views.problem(STRIDE, FRAME_PX)
    if problem:
        raise RunError(f"--views cannot be used: {problem}")
    if options.walks and not options.views:
        raise RunError("--walks needs --views: a mask travels through views of volumes")
    if options.adapter_scale != 1 and not options.adapter:
        raise RunError("--adapter-scale needs --adapter: it says how much of that counts")
    keep_to_available_cores()
    lend_home()
    checkpoint = weights.resolve(checkpoint)
    fill, folder = _filler(checkpoint, options, progress), partial_path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_partial_files(out.parent)
        folder.mkdir()
        parity = fill(folder)
        check_parity(parity, options.bounds or BOUNDS[options.weights])
        _put(folder, out)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return parity


def _filler(
    checkpoint: Path, options: ExportOptions, progress: Callable[[str], None]
) -> Callable[[Path], list[Parity]]:
    """What fills a folder with the graphs of the checkpoint's kind of network."""
    of_sam = options.adapter is not None and is_sam_adapter(options.adapter)
    if options.io != "samedge":
        if of_sam:
            raise RunError(
                f"{options.adapter}: --io {options.io} is for LiteMedSAM, this adapter is of another network"
            )
        _refuse_all_but_frames(options, f"--io {options.io}: SAM's ports show")
        network, made_from = _read_network(checkpoint, options), _made_from(checkpoint, options)
        return lambda folder: sam_signature.fill_signature(folder, network, checkpoint, options, made_from, progress)
    if options.adapter is not None and of_sam:
        _refuse_all_but_frames(options, f"{options.adapter}: a SAM network has")
        if options.adapter_scale != 1:
            raise RunError(f"{options.adapter}: a SAM network's adapter is merged as it is; leave --adapter-scale out")
        return lambda folder: fill_sam(folder, checkpoint, options, progress)
    network = _read_network(checkpoint, options)
    return lambda folder: _fill(folder, network, checkpoint, options, progress)


def _refuse_all_but_frames(options: ExportOptions, reason: str) -> None:
    for name, given in (
        ("--views", options.views),
        ("--calibration", options.int8),
        ("--methods-on", options.methods_on),
    ):
        if given is not None:
            raise RunError(f"{reason} whole frames and no INT8 graphs; leave {name} out")


def _read_network(checkpoint: Path, options: ExportOptions) -> LiteMedSAM:
    if options.adapter is not None:
        return merged_network(checkpoint, options.adapter, options.adapter_scale)
    network = LiteMedSAM()
    load_checkpoint(network, checkpoint)
    return network.eval()


def _fill(
    folder: Path, network: LiteMedSAM, checkpoint: Path, options: ExportOptions, progress: Callable[[str], None]
) -> list[Parity]:
    progress("ONNX graphs")
    onnx_graphs = write_onnx(
        network, folder, half_weights=options.half, sizes=options.views.sizes if options.views else ()
    )
    progress("OpenVINO graphs")
    openvino_graphs = write_openvino(network, folder, half_weights=options.half)
    for stage, path in onnx_graphs.items():
        share_weights(path, _weights(folder, stage))
    description = ModelDescription(
        name=options.name_for(checkpoint),
        input_size=FRAME_PX,
        embedding_shape=(EMBEDDING_WIDTH, FRAME_PX // STRIDE, FRAME_PX // STRIDE),
        views=asdict(options.views) if options.views else None,
        channels=WALK if options.walks else SLICES,
        graphs={
            "openvino": {stage: [path.name, _weights(folder, stage).name] for stage, path in openvino_graphs.items()},
            "onnxruntime": {stage: [path.name, _weights(folder, stage).name] for stage, path in onnx_graphs.items()},
        },
        sha256={path.name: file_hash(path) for path in sorted(folder.iterdir())},
        weights=options.weights,
        made_from=_made_from(checkpoint, options),
        licence=options.licence,
        training_data=options.training_data,
    )
    write_description(folder, description)
    if options.int8 is not None:
        description = add_int8(folder, description, options.int8, progress)
        write_description(folder, description)
    progress("parity with torch, speed")
    engines = available_engines(folder)
    parity = measure_parity(network, folder, engines)
    if options.int8 is not None:
        parity = with_dsc(parity, network, engines, held_out_cases(options.int8, DSC_CASES))
    speeds = measure_speed(network, engines)
    description = _with_measurements(description, parity, speeds)
    write_description(folder, description)
    if options.methods_on is not None:
        write_description(folder, with_methods(folder, options.methods_on, progress))
    return parity


def _with_measurements(description: ModelDescription, parity: list[Parity], speeds: list[Speed]) -> ModelDescription:
    """The description with its tables, and whether INT8 is the fastest of each backend's graphs on this machine.

    That is left open, None, where a CPU without instructions for INT8 cannot tell.
    """
    ms = {speed.engine: speed.ms_per_slice for speed in speeds}
    int8 = {}
    for backend, facts in description.int8.items():
        own = {engine: ms[engine] for engine in ms if engine.startswith(backend)}
        is_fastest = min(own, key=lambda engine: own[engine]) == f"{backend} int8"
        int8[backend] = {**facts, "faster": is_fastest if has_int8_instructions() else None}
    machine = {"cpu": describe_machine()["cpu"], "flags": describe_machine()["flags"], "cores": available_cores()}
    return replace(
        description,
        parity=[asdict(row) for row in parity],
        speed={**machine, "engines": [asdict(speed) for speed in speeds]},
        int8=int8,
    )


def _made_from(checkpoint: Path, options: ExportOptions) -> dict[str, Any]:
    facts: dict[str, Any] = {"checkpoint": checkpoint.name, "checkpoint_sha256": file_hash(checkpoint)}
    if options.adapter is not None:
        sha256 = file_hash(options.adapter / ADAPTER_WEIGHTS)
        facts |= {"adapter": options.adapter.name, "adapter_sha256": sha256, "adapter_scale": options.adapter_scale}
    return {**facts, "versions": {name: metadata.version(name) for name in ("samedge", "torch", "onnx", "openvino")}}


def _weights(folder: Path, stage: str) -> Path:
    """The weights of a stage, which both engines share, frames and views alike."""
    return folder / f"{stage.rsplit('_', 1)[-1]}.bin"


def _put(folder: Path, out: Path) -> None:
    """Move the finished files to `out`; files of the previous model that are not replaced go, others stay."""
    out.mkdir(exist_ok=True)
    for path in out.iterdir():
        if path.suffix in (".onnx", ".xml", ".bin"):
            path.unlink()
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix == ".json"):  # the description last
        shutil.move(path, out / path.name)

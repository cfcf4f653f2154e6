"""The INT8 graphs of a model folder: made, checked against the floor, made again with more in float, or refused."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge.data.files import file_hash
from edge.engines.model_folder import WALK, ModelDescription, read_description, stage_for, write_description
from edge.errors import ModelError
from export.int8.calibration import calibration_inputs, choose_cases, divide
from export.int8.drop import Drop, drop_table, measure_drop, within_floor
from export.int8.quantize import Inputs, most_sensitive, quantize_onnx, quantize_openvino
from train.data.cases import find_sources

ATTEMPTS = 3  # plain, then with one more of the most sensitive groups in float each time


@dataclass(frozen=True)
class Int8Options:
    """How the INT8 graphs are calibrated and what they may lose."""

    calibration: Path  # folder of labelled cases
    slices: int = 100  # to calibrate with
    max_dsc_drop: float = 0.5  # points of 100 that the mean over modalities may lose
    held_out: Path | None = None  # other cases to measure on; None: those of `calibration` that are held out
    cases_per_modality: int = 5  # to measure on, one slice each
    backends: tuple[str, ...] = ("openvino",)  # that get INT8 graphs


def add_int8(
    folder: Path, description: ModelDescription, options: Int8Options, progress: Callable[[str], None]
) -> ModelDescription:
    """Write the encoder's INT8 graphs into a finished model folder, and the description that names them.

    Raises:
        CaseError: the calibration cases cannot be used.
        ModelError: INT8 loses more than allowed, for OpenVINO even with its most sensitive layers in float; shows the
            table.
    """
    inputs = calibration_inputs(
        divide(options.calibration)[0], options.slices, description.ladder, walks=description.channels == WALK
    )
    measured_on = held_out_cases(options, options.cases_per_modality)
    for backend in options.backends:
        in_float: list[str] = []
        while True:
            progress(f"INT8 for {backend}, {len(inputs)} slices{_named(in_float)}")
            graphs = QUANTIZERS[backend](folder, inputs, in_float)
            hashes = {file: file_hash(folder / file) for files in graphs.values() for file in files}
            described = replace(
                description,
                int8_graphs={**description.int8_graphs, backend: graphs},
                sha256={**description.sha256, **hashes},
            )
            write_description(folder, described)
            progress(f"DSC drop on {len(measured_on)} held-out slices")
            rows = measure_drop(folder, measured_on, backend)
            progress(", ".join(f"{row.modality} {row.points:+.2f}" for row in rows) + " points lost")
            if within_floor(rows, options.max_dsc_drop):
                facts = _facts(options, len(inputs), in_float, rows)
                description = replace(described, int8={**description.int8, backend: facts})
                break
            if backend != "openvino" or len(in_float) + 1 == ATTEMPTS:
                raise ModelError(_refusal(backend, rows, options.max_dsc_drop, in_float))
            in_float.append(most_sensitive(folder / "encoder.xml", folder / "encoder_int8.xml", inputs, in_float))
    return description


def _quantize_for_openvino(folder: Path, inputs: Inputs, in_float: Sequence[str]) -> dict[str, list[str]]:
    quantized = folder / "encoder_int8.xml"
    quantize_openvino(folder / "encoder.xml", quantized, inputs, in_float)
    return {"encoder": [quantized.name, quantized.with_suffix(".bin").name]}


def _quantize_for_onnxruntime(folder: Path, inputs: Inputs, _in_float: Sequence[str]) -> dict[str, list[str]]:
    """Each encoder with the inputs of its size."""
    graphs = {}
    for wanted in sorted({image.shape[-1] for image in inputs}):
        stage = stage_for(read_description(folder), "encoder", wanted)
        quantized = folder / f"{stage}_int8.onnx"
        quantize_onnx(folder / f"{stage}.onnx", quantized, [image for image in inputs if image.shape[-1] == wanted])
        graphs[stage] = [quantized.name]
    return graphs


# -> stage: files
QUANTIZERS: dict[str, Callable[[Path, Inputs, Sequence[str]], dict[str, list[str]]]] = {
    "openvino": _quantize_for_openvino,
    "onnxruntime": _quantize_for_onnxruntime,
}


def _named(in_float: Sequence[str]) -> str:
    return f", in float: {', '.join(in_float)}" if in_float else ""


def held_out_cases(options: Int8Options, per_modality: int) -> list[Path]:
    """Labelled cases that nothing is calibrated with."""
    found = divide(options.calibration)[1] if options.held_out is None else find_sources([options.held_out])
    return choose_cases(found, per_modality)


def _facts(options: Int8Options, slices: int, in_float: list[str], rows: list[Drop]) -> dict[str, Any]:
    return {
        "calibration_slices": slices,
        "in_float": ["attention products", "mask decoder", *in_float],
        "max_dsc_drop": options.max_dsc_drop,
        "dsc": [{**asdict(row), "drop_points": row.points} for row in rows],
    }


def _refusal(backend: str, rows: list[Drop], allowed: float, in_float: list[str]) -> str:
    table = "\n".join("  ".join(f"{text:>11s}" for text in row) for row in drop_table(rows))
    return (
        f"INT8 for {backend} loses more than the {allowed:g} DSC points allowed{_named(in_float)}; "
        f"calibrate on more cases like those it fails on, allow more (--max-dsc-drop) or export without it\n{table}"
    )

"""The INT8 graphs of a model folder: made, checked against the floor, made again with more in float, or refused."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge.errors import ModelError
from edge.model_folder import ModelDescription, file_hash, write_description
from export.calibration import calibration_inputs, choose_cases, divide
from export.drop import Drop, drop_table, measure_drop, within_floor
from export.quantize import most_sensitive, quantize_openvino
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


def add_int8(
    folder: Path, description: ModelDescription, options: Int8Options, progress: Callable[[str], None]
) -> ModelDescription:
    """Write the encoder's INT8 graph into a finished model folder, and the description that names it.

    Raises:
        CaseError: the calibration cases cannot be used.
        ModelError: INT8 loses more than allowed even with its most sensitive layers in float; shows the table.
    """
    inputs = calibration_inputs(divide(options.calibration)[0], options.slices)
    measured_on = held_out_cases(options, options.cases_per_modality)
    graph, quantized = folder / "encoder.xml", folder / "encoder_int8.xml"
    in_float: list[str] = []
    while True:
        progress(f"INT8, {len(inputs)} slices" + (f", in float: {', '.join(in_float)}" if in_float else ""))
        quantize_openvino(graph, quantized, inputs, in_float)
        files = [quantized.name, quantized.with_suffix(".bin").name]
        described = replace(
            description,
            int8_graphs={"openvino": {"encoder": files}},
            sha256={**description.sha256, **{file: file_hash(folder / file) for file in files}},
        )
        write_description(folder, described)
        progress(f"DSC drop on {len(measured_on)} held-out slices")
        rows = measure_drop(folder, measured_on)
        if within_floor(rows, options.max_dsc_drop):
            return replace(described, int8=_facts(options, len(inputs), in_float, rows))
        if len(in_float) + 1 == ATTEMPTS:
            raise ModelError(_refusal(rows, options.max_dsc_drop, in_float))
        in_float.append(most_sensitive(graph, quantized, inputs, in_float))


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


def _refusal(rows: list[Drop], allowed: float, in_float: list[str]) -> str:
    table = "\n".join("  ".join(f"{text:>11s}" for text in row) for row in drop_table(rows))
    return (
        f"INT8 loses more than the {allowed:g} DSC points allowed, also with {', '.join(in_float)} in float; "
        f"calibrate on more cases like those it fails on, allow more (--max-dsc-drop) or export without it\n{table}"
    )

"""INT8 graphs of a model folder: more in float when they lose too much, and refused when that does not help."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.data.files import file_hash
from edge.engines.model_folder import ModelDescription, write_description
from edge.errors import ModelError
from export.int8 import add as int8
from export.int8.add import Int8Options, add_int8
from export.int8.drop import Drop, within_floor

ORDER = ["neck", "stage 0", "stage 1"]  # as `most_sensitive` finds them


def drops(us: float, ct: float) -> list[Drop]:
    """Points that two modalities lose, from 0.80 and 0.60; their mean last."""
    rows = [Drop("US", 3, 0.80, 0.80 - us / 100), Drop("CT", 2, 0.60, 0.60 - ct / 100)]
    return [*rows, Drop("mean", 5, 0.70, 0.70 - (us + ct) / 200)]


def test_the_floor_is_of_the_mean_and_three_times_that_of_a_modality() -> None:
    """At most 0.5 points: 0.4 and 0.4 pass, 1.4 and -0.6 too, 0.9 and 0.3 not for the mean, 1.6 and -1.6 for US."""
    assert within_floor(drops(0.4, 0.4), 0.5) and within_floor(drops(1.4, -0.6), 0.5)
    assert not within_floor(drops(0.9, 0.3), 0.5)
    assert not within_floor(drops(1.6, -1.6), 0.5)


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`add_int8` with the losses of each attempt given; the engines' part is stood in for, the rest is real."""

    def run(*losses: list[Drop]) -> tuple[ModelDescription, list[list[str]]]:
        attempts: list[list[str]] = []

        def quantize(_graph: Path, quantized: Path, _inputs: object, in_float: Sequence[str]) -> None:
            attempts.append(list(in_float))
            for suffix in (".xml", ".bin"):
                quantized.with_suffix(suffix).write_text(f"{suffix} {len(attempts)}")

        monkeypatch.setattr(int8, "divide", lambda _folder: ([], []))
        monkeypatch.setattr(int8, "calibration_inputs", lambda _sources, count, _ladder, walks: [None] * count)
        monkeypatch.setattr(int8, "quantize_openvino", quantize)
        monkeypatch.setattr(int8, "measure_drop", lambda _folder, _sources, _backend: losses[len(attempts) - 1])
        monkeypatch.setattr(int8, "most_sensitive", lambda _g, _q, _i, known: ORDER[len(known)])
        description = ModelDescription("m", 256, (256, 64, 64), {}, {"encoder.xml": "kept"})
        return add_int8(tmp_path, description, Int8Options(tmp_path, 7), lambda _line: None), attempts

    return run


def test_what_loses_too_much_is_made_again_with_the_most_sensitive_in_float(add: Any, tmp_path: Path) -> None:
    """One group more each time; the description names them, the table and the last files' hashes."""
    description, attempts = add(drops(2, 2), drops(0.9, 0.3), drops(0.2, 0.4))
    assert attempts == [[], ["neck"], ["neck", "stage 0"]]
    facts = description.int8["openvino"]
    assert facts["in_float"][-2:] == ["neck", "stage 0"]
    assert [round(row["drop_points"], 9) for row in facts["dsc"]] == [0.2, 0.4, 0.3]
    files = description.int8_graphs["openvino"]["encoder"]
    hashes = {file: file_hash(tmp_path / file) for file in files}
    assert description.sha256 == {"encoder.xml": "kept", **hashes}


def test_a_first_attempt_within_the_floor_is_taken(add: Any) -> None:
    """Nothing more than the attention and the decoder in float."""
    description, attempts = add(drops(0.1, 0.1))
    assert attempts == [[]] and description.int8["openvino"]["in_float"] == ["attention products", "mask decoder"]


def test_it_is_refused_with_the_table_when_float_does_not_help(add: Any) -> None:
    """Three attempts, then the error says what was lost where, and the ways out."""
    with pytest.raises(
        ModelError, match=r"(?s)openvino.*0.5 DSC points.*neck, stage 0.*--max-dsc.*US .*80.00 +77.00 +3"
    ):
        add(*[drops(3, 3)] * 3)


def test_onnx_runtimes_encoders_are_each_calibrated_with_inputs_of_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph for frames and one for each size of view that there are inputs of; the other sizes stay in float."""
    made: dict[str, list[tuple[str, int]]] = {}

    def quantize(graph: Path, quantized: Path, inputs: Sequence[np.ndarray]) -> None:
        made[quantized.name] = [(graph.name, image.shape[-1]) for image in inputs]

    monkeypatch.setattr(int8, "quantize_onnx", quantize)
    views = {"sizes": [56, 112, 224], "box_share": 0.72, "least_scale": 0.85}
    write_description(tmp_path, ModelDescription("m", 256, (256, 64, 64), {}, {}, views=views))
    inputs = [np.zeros((1, 3, size, size), np.float32) for size in (56, 256, 112, 56)]
    assert int8.QUANTIZERS["onnxruntime"](tmp_path, inputs, []) == {
        "view56_encoder": ["view56_encoder_int8.onnx"],
        "view112_encoder": ["view112_encoder_int8.onnx"],
        "encoder": ["encoder_int8.onnx"],
    }
    assert made == {
        "view56_encoder_int8.onnx": [("view56_encoder.onnx", 56)] * 2,
        "view112_encoder_int8.onnx": [("view112_encoder.onnx", 112)],
        "encoder_int8.onnx": [("encoder.onnx", 256)],
    }

"""Which layers INT8 hurts most, measured on views of several sizes."""

from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from export.int8.quantize import most_sensitive


def write_graph(path: Path, levels: dict[str, int]) -> None:
    """Images passed through a rounding for each layer named; with 0 levels it is left out."""
    images = ops.parameter(openvino.PartialShape([1, 3, -1, -1]), np.float32, name="images")
    output = images
    for name, count in levels.items():
        if count:
            output = ops.fake_quantize(output, np.float32(0), np.float32(1), np.float32(0), np.float32(1), count)
            output.set_friendly_name(f"{name}/fq")
    openvino.save_model(openvino.Model([ops.relu(output)], [images]), path, compress_to_fp16=False)


@pytest.mark.parametrize("coarse", ["neck", "layers.1.blocks"])
def test_the_layer_that_rounds_most_is_found_whatever_size_its_inputs_have(tmp_path: Path, coarse: str) -> None:
    """Views of 8 and of 16 px; one layer rounds to 4 values, the other to 200."""
    names = ("layers.1.blocks", "neck")
    write_graph(tmp_path / "float.xml", dict.fromkeys(names, 0))
    write_graph(tmp_path / "int8.xml", {name: 4 if name == coarse else 200 for name in names})
    inputs = [np.random.default_rng(size).random((1, 3, size, size), dtype=np.float32) for size in (8, 16, 8, 16)]
    found = most_sensitive(tmp_path / "float.xml", tmp_path / "int8.xml", inputs)
    assert found == {"neck": "neck", "layers.1.blocks": "stage 1"}[coarse]

"""What a view costs: products counted by hand, and the table."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino.opset13 as operations
import pytest
from openvino import Model, Type, save_model

from docs import tables
from edge.errors import ModelError
from edge.system.machine import describe_machine
from measure.views import PRODUCT, measure, multiply_adds, product, rows_of


def saved(folder: Path, build: object) -> Path:
    """A graph of one image, what `build` makes of it."""
    images = operations.parameter([1, 3, -1, -1], Type.f32, name="images")
    save_model(Model([build(images)], [images], "graph"), folder / "graph.xml", compress_to_fp16=False)  # type: ignore[operator]
    return folder / "graph.xml"


def test_products_of_convolutions_and_matrices_are_counted(tmp_path: Path) -> None:
    """At 8 px: 16 outputs of 5 channels, each of 3 x 3 x 3; depthwise, each of 3 x 3; a matrix 16 x 5 by 5 x 7."""

    def build(images: object) -> object:
        def convolved(given: object, weights: tuple[int, ...], stride: int, grouped: bool) -> object:
            kind = operations.group_convolution if grouped else operations.convolution
            constant = operations.constant(np.ones(weights, np.float32))
            return kind(given, constant, [stride] * 2, [1, 1], [1, 1], [1, 1])

        found = convolved(images, (5, 3, 3, 3), 2, False)
        found = convolved(found, (5, 1, 1, 3, 3), 1, True)
        rows = operations.reshape(found, operations.constant(np.array([5, 16])), False)
        return operations.matmul(rows, operations.constant(np.ones((7, 5), np.float32)), True, True)

    assert multiply_adds(saved(tmp_path, build), 8) == 16 * 5 * 27 + 16 * 5 * 9 + 16 * 7 * 5


def test_a_graph_without_products_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither convolutions nor products"):
        multiply_adds(saved(tmp_path, operations.relu), 8)


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_the_largest_product_is_right(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights times values, in f32 and rounded to INT8."""
    monkeypatch.setattr("measure.views.PRODUCT", 64)
    (found,) = product(precision)().values()  # type: ignore[attr-defined]
    weights = np.random.default_rng(0).integers(-127, 128, (64, 64)).astype(np.float32)
    values = np.random.default_rng(1).random((64, 64), dtype=np.float32)
    expected = values @ weights.T * (0.01 if precision == "int8" else 1)
    assert PRODUCT > 64 and np.allclose(found, expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_shares_of_the_peak_are_reckoned_with_a_view_alone() -> None:
    """8 million products in 4 ms of 4 million a ms: half of the peak; engines of which no peak is known have none."""
    views = {("openvino int8", 56): [4.0, 3.5], ("onnxruntime f32", 56): [9.0, 8.0]}
    rows = rows_of(views, {56: 8_000_000}, {"int8": 4e6})
    assert rows[0]["share_of_peak"] == {"openvino int8": 0.5}
    report = {"machine": describe_machine(), "engines": [], "peak_gops": {"int8": 8.0}, "rows": rows}
    lines = tables.TABLES["views"].write({"views": report})
    assert "| 56 | 4.0 / 3.5, 50% | 9.0 / 8.0 |" in lines and "int8 8" in lines[-1]


def test_sizes_that_are_multiples_of_one_another_are_told_apart() -> None:
    """Eight views of 32 px have as many columns as one of 256."""
    engine = SimpleNamespace(encode=lambda images: time.sleep(0.001 * len(images) * images.shape[-1] / 32))
    views, _, _ = measure({"none f32": engine}, (32, 256), rounds=3)  # type: ignore[dict-item]
    assert views["none f32", 32][1] < 3 < 7 < views["none f32", 256][0]

"""Shared fixtures: a model that fills boxes, the `samedge` command as a user runs it, the public material."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.data.files import file_hash
from edge.engines.model_folder import ModelDescription, write_description
from edge.engines.openvino_import import import_openvino

if TYPE_CHECKING:
    import onnx
    from playwright.sync_api import Browser

EMBEDDING_SHAPE = (3, 64, 64)
SIZE = 256
OPSET = 17
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24  # linux/capability.h, linux/prctl.h

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]

with suppress(ImportError):
    import_openvino()  # before any test does: as the programs have it, whose converter reports nothing to its makers

Samedge = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public material beside the repository."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared, which is not there")
    return folder


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """The system's Chromium without a window, its WebGL drawn by the CPU."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'samedge[browser]'")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Chromium, which is not there: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder for both engines that fills boxes, so that labels can be worked out by hand.

    encoder: images (B, 3, 256, 256) -> 4 x 4 mean (B, 3, 64, 64). decoder: +1 on the pixels of the model frame whose
    index lies in the box, ends included, and -1 elsewhere. At 256 px an image's labels are its boxes to the pixel.
    """
    import onnx
    import openvino

    folder = tmp_path_factory.mktemp("tiny_model")
    for stage, graph in (("encoder", _encoder()), ("decoder", _decoder())):
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{stage}.onnx")
        openvino.save_model(openvino.convert_model(folder / f"{stage}.onnx"), folder / f"{stage}.xml", False)
    graphs = {
        "openvino": {stage: [f"{stage}.xml", f"{stage}.bin"] for stage in ("encoder", "decoder")},
        "onnxruntime": {stage: [f"{stage}.onnx"] for stage in ("encoder", "decoder")},
    }
    hashes = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    write_description(folder, ModelDescription("box filler", SIZE, EMBEDDING_SHAPE, graphs, hashes))
    return folder


@pytest.fixture(scope="session")
def samedge_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user without a cache, in which a warning ends the program."""
    return {**os.environ, "SAMEDGE_HOME": str(tmp_path_factory.mktemp("home")), "PYTHONWARNINGS": "error"}


@pytest.fixture(scope="session")
def samedge(samedge_environment: dict[str, str]) -> Samedge:
    """`samedge(*arguments, **options of subprocess.run)` in a process of its own, with output as text."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge", *map(str, arguments)]
        settings = {"env": samedge_environment, "timeout": 120, **options}
        return subprocess.run(command, capture_output=True, text=True, **settings)

    return run


@pytest.fixture(scope="session")
def obey_permissions() -> Callable[[], None]:
    """A `preexec_fn` that takes from root, in the process to start, what lets it pass over file permissions."""
    c_library = ctypes.CDLL(None)

    def drop() -> None:
        if os.geteuid() == 0:
            for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
                c_library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)

    return drop


def _encoder() -> "onnx.GraphProto":
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["B", 3, SIZE, SIZE])
    output = helper.make_tensor_value_info("image_embedding", TensorProto.FLOAT, ["B", *EMBEDDING_SHAPE])
    pool = helper.make_node("AveragePool", ["images"], ["image_embedding"], kernel_shape=[4, 4], strides=[4, 4])
    return helper.make_graph([pool], "encoder", [images], [output])


def _decoder() -> "onnx.GraphProto":
    from onnx import TensorProto, helper, numpy_helper

    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, *EMBEDDING_SHAPE])
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", SIZE, SIZE])
    index = np.arange(SIZE, dtype=np.float32)
    constants = {
        "columns": index.reshape(1, 1, SIZE),
        "rows": index.reshape(1, SIZE, 1),
        "axis": np.array([2]),
        "inside": np.float32(1),
        "outside": np.float32(-1),
        "nothing": np.float32(0),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["boxes", "axis"], ["corners"]),
        helper.make_node("Split", ["corners"], ["x_min", "y_min", "x_max", "y_max"], axis=1),
        helper.make_node("GreaterOrEqual", ["columns", "x_min"], ["right_of"]),
        helper.make_node("LessOrEqual", ["columns", "x_max"], ["left_of"]),
        helper.make_node("GreaterOrEqual", ["rows", "y_min"], ["below"]),
        helper.make_node("LessOrEqual", ["rows", "y_max"], ["above"]),
        helper.make_node("And", ["right_of", "left_of"], ["in_x"]),
        helper.make_node("And", ["below", "above"], ["in_y"]),
        helper.make_node("And", ["in_x", "in_y"], ["in_box"]),
        helper.make_node("Where", ["in_box", "inside", "outside"], ["filled"]),
        helper.make_node("ReduceMean", ["embedding"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),  # the embedding stays an input, without an effect
        helper.make_node("Add", ["filled", "zero"], ["logits"]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return helper.make_graph(nodes, "decoder", [embedding, boxes], [logits], initializers)

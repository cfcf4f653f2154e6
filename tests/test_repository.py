"""What holds for the repository as a whole: who imports whom, what is public, what no file contains."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge
from edge.engines.model_folder import DEFAULT_MODEL, file_hash, read_description

ROOT = Path(__file__).parents[1]
FORBIDDEN = {  # package -> what none of its files may import
    "edge": {"train", "export", "torch", "onnx", "nncf", "matplotlib", "pandas", "scipy"},
    "train": {"export", "onnx", "nncf"},
    "export": set(),
}
MAX_LINES = 350

PUBLIC = [
    "MODALITIES",
    "Case",
    "CaseError",
    "CaseWarning",
    "ModelError",
    "Options",
    "RunError",
    "SamedgeError",
    "Segmentation",
    "Segmenter",
    "find_cases",
    "load_engine",
    "make_case",
    "modality_of",
    "read_case",
    "segment",
    "write_case",
]


def sources() -> list[Path]:
    return sorted(file for package in FORBIDDEN for file in (ROOT / package).rglob("*.py"))


def imports(source: str) -> Iterator[str]:
    """Top-level package of every import, at module level or anywhere inside; "." for a relative one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else str(node.module).split(".")[0]


def wrong_imports(package: str, source: str) -> list[str]:
    return [imported for imported in imports(source) if imported in FORBIDDEN[package]]


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_from_export_to_train_to_edge_only(file: Path) -> None:
    """edge <- train <- export, at module level and inside functions."""
    package = file.relative_to(ROOT).parts[0]
    assert wrong_imports(package, file.read_text()) == []


def test_the_import_check_finds_what_it_looks_for() -> None:
    """Hidden in a function, behind an alias, as a submodule: each is found; the right direction is not."""
    assert wrong_imports("edge", "def f():\n    import numpy\n    from torch.nn import functional\n") == ["torch"]
    assert wrong_imports("edge", "if True:\n    import scipy.ndimage as n") == ["scipy"]
    assert wrong_imports("edge", "def export():\n    from export.cli import app\n") == ["export"]
    assert wrong_imports("train", "from export.graphs import Encoder") == ["export"]
    assert wrong_imports("train", "import torch\nfrom edge.data.case import Case") == []


@pytest.mark.parametrize("module", ["edge", "edge.cli", "train.train_cli", "train.weights_cli", "export.cli"])
def test_a_fresh_import_is_light(module: str) -> None:
    """Importing the runtime or a command loads no heavy library: `samedge --help` works without torch."""
    heavy = sorted(FORBIDDEN["edge"] - {module.split(".")[0]})
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_a_command_begins_before_anything_is_loaded() -> None:
    """Not even NumPy: what a command needs it imports while the model is being loaded, or before that if it must."""
    code = (
        "import sys, edge.cli; print(*[name for name in ('numpy', 'cv2', 'openvino', 'rich') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_no_engine_reports_home(tmp_path: Path) -> None:
    """With edge imported, onnxruntime (telemetry on by default since 1.29) leaves no device identifier behind."""
    silenced = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")  # each of them decides about telemetry or its place
    environment = {key: value for key, value in os.environ.items() if key not in silenced}
    code = "import edge, onnxruntime; onnxruntime.SessionOptions()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**environment, "HOME": str(tmp_path)}, check=True)
    assert [str(file) for file in tmp_path.rglob("*") if file.is_file()] == []


def test_the_public_names_are_these() -> None:
    """A name that comes or goes is a decision, made here and in the changelog."""
    assert sorted(edge.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert hasattr(edge, name)


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_too_long_or_holds_an_assert_or_a_todo(file: Path) -> None:
    """Files fit in a head; user data is never checked by assert, which -O removes; nothing is left for later."""
    source = file.read_text()
    assert len(source.splitlines()) <= MAX_LINES
    assert not [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    assert "TODO" not in source and "FIXME" not in source


def test_the_model_that_ships_is_made_with_the_adapter_beside_it() -> None:
    """By its hash, so that who goes on from `weights/` goes on from what users have."""
    made_from = read_description(DEFAULT_MODEL).made_from
    (adapter,) = (ROOT / "weights").glob("*/adapter_model.safetensors")
    assert made_from["adapter"] == adapter.parent.name
    assert made_from["adapter_sha256"] == file_hash(adapter)

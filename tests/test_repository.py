"""What holds for the repository as a whole: who imports whom, what is public, what no file contains."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import edge
from edge.data.files import file_hash
from edge.engines.model_folder import DEFAULT_MODEL, read_description

ROOT = Path(__file__).parents[1]
FORBIDDEN = {  # package -> what none of its files may import
    "edge": {"train", "export", "measure", "docs", "torch", "onnx", "nncf", "matplotlib", "pandas", "scipy"},
    "train": {"export", "measure", "docs", "onnx", "nncf"},
    "export": {"measure", "docs"},
    "measure": {"docs"},
}
MAX_LINES = 300

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
def test_imports_go_from_measure_to_export_to_train_to_edge_only(file: Path) -> None:
    """edge <- train <- export <- measure, at module level and inside functions."""
    package = file.relative_to(ROOT).parts[0]
    assert wrong_imports(package, file.read_text()) == []


def test_the_import_check_finds_what_it_looks_for() -> None:
    """Hidden in a function, behind an alias, as a submodule: each is found; the right direction is not."""
    assert wrong_imports("edge", "def f():\n    import numpy\n    from torch.nn import functional\n") == ["torch"]
    assert wrong_imports("edge", "if True:\n    import scipy.ndimage as n") == ["scipy"]
    assert wrong_imports("edge", "def export():\n    from export.cli import app\n") == ["export"]
    assert wrong_imports("train", "from export.graphs.litemedsam import Encoder") == ["export"]
    assert wrong_imports("train", "import torch\nfrom edge.data.case import Case") == []


def edge_rows() -> list[list[str]]:
    """The rows of docs/architecture.md's table of `edge`: the folders and modules of each, in order of import."""
    section = (ROOT / "docs" / "architecture.md").read_text().split("\n## `edge`")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [[name.rstrip("/") for name in re.findall("`([^`]+)`", row)] for row in rows]


def late_imports(place: str, source: str) -> list[str]:
    """What a file of the folder or module `place` of edge imports from rows below its own; in functions too."""
    row_of = {name: number for number, row in enumerate(edge_rows()) for name in row}
    found = []
    for node in ast.walk(ast.parse(source)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"edge.{alias.name}" for alias in node.names] if node.module == "edge" else [node.module]
        names = [module.split(".")[1] for module in modules if module.startswith("edge.")]
        found += [name for name in names if row_of[name] > row_of[place]]
    return found


@pytest.mark.parametrize(
    "file",
    [file for file in sources() if file.is_relative_to(ROOT / "edge") and not file.stem.startswith("__")],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_the_folders_of_edge_import_in_the_order_of_the_architecture_page(file: Path) -> None:
    """A stage knows those before it; scoring and reports know the pipeline, and the pipeline knows neither."""
    assert late_imports(file.relative_to(ROOT / "edge").parts[0].removesuffix(".py"), file.read_text()) == []


def test_the_check_of_the_order_finds_what_it_looks_for() -> None:
    """One that goes back, in a function or from the package itself; not one that goes on, nor a base module."""
    assert late_imports("data", "def f():\n    from edge.views.view import View\n") == ["views"]
    assert late_imports("masks", "from edge import pipeline, errors") == ["pipeline"]
    assert late_imports("views", "import edge.reports.report") == ["reports"]
    assert late_imports("reports", "from edge.predict import Prediction\nfrom edge.errors import RunError") == []


def test_the_architecture_page_names_all_that_is_in_edge() -> None:
    """And nothing that is not there."""
    there = {path.stem for path in (ROOT / "edge").iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert {name for row in edge_rows() for name in row} == {name for name in there if not name.startswith("__")}


@pytest.mark.parametrize("module", ["edge", "edge.cli", "train.commands.train", "train.commands.weights", "export.cli"])
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


LOADED_BY_A_PREDICTION = {"edge", "numpy", "cv2", "openvino", "typer", "annotated_doc", "shellingham"}
STARTS_SLOWLY = {  # of Python's own, imported by a library that was let in unseen
    "asyncio", "email", "html", "http", "importlib.metadata", "multiprocessing", "pickletools", "sqlite3", "ssl",
    "tempfile", "unittest", "urllib.request", "xml",
}  # fmt: skip


def test_a_prediction_loads_no_more_than_it_needs(tiny_model: Path, tmp_path: Path) -> None:
    """Most of a 2D case's time is start: reports, pictures, the other engine and rich come on demand."""
    np.savez(tmp_path / "2DBox_CT_1.npz", imgs=np.zeros((256, 256, 3), np.uint8), boxes=np.array([[8, 8, 40, 40]]))
    script = """
import sys
from pathlib import Path
before = set(sys.modules)
import edge.cli
try:
    edge.cli.app()
except SystemExit as done:
    print(done.code or 0, *sorted(name for name in set(sys.modules) - before if sys.modules[name]))  # None: kept out
"""
    command = [
        sys.executable,
        "-c",
        script,
        "predict",
        str(tmp_path),
        str(tmp_path / "out"),
        "--model",
        str(tiny_model),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    code, *modules = run.stdout.splitlines()[-1].split()
    assert code == "0", run.stderr
    tops = {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert {top for top in tops if not top.startswith("_")} == LOADED_BY_A_PREDICTION
    assert not STARTS_SLOWLY & set(modules)
    ours = {name for name in modules if name.startswith("edge.")}
    later = (
        "edge.scoring",
        "edge.bench",
        "edge.challenge",
        "edge.data.phantom",
        "edge.masks.overlay",
        "edge.reports.page",
    )
    assert not {name for name in ours if name.startswith(later)} and "edge.engines.onnxruntime_engine" not in ours


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


@pytest.mark.parametrize(
    ("system", "machine", "there"),
    [
        ("linux", "x86_64", True), ("linux", "aarch64", True), ("darwin", "arm64", True), ("win32", "AMD64", True),
        ("darwin", "x86_64", False), ("win32", "ARM64", False),
    ],
)  # fmt: skip
def test_openvino_is_asked_for_where_it_has_wheels(system: str, machine: str, there: bool) -> None:
    """Elsewhere `pip install samedge` goes on without it: ONNX Runtime is everywhere."""
    asked = [
        Requirement(line) for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    place = {"sys_platform": system, "platform_machine": machine}
    names = {one.name for one in asked if one.marker is None or one.marker.evaluate(place)}
    assert ("openvino" in names) is there and "onnxruntime" in names


def test_the_model_that_ships_is_made_with_the_adapter_beside_it() -> None:
    """By its hash, so that who goes on from `weights/` goes on from what users have."""
    made_from = read_description(DEFAULT_MODEL).made_from
    (adapter,) = (ROOT / "weights").glob("*/adapter_model.safetensors")
    assert made_from["adapter"] == adapter.parent.name
    assert made_from["adapter_sha256"] == file_hash(adapter)

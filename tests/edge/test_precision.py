"""Which graphs `--precision` takes: INT8 where the model has it, was faster with it, and the CPU is made for it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge.bench.report import bench_report, print_bench
from edge.engines.model_folder import DESCRIPTION
from edge.engines.runtime import _fastest, load_engine
from edge.errors import ModelError
from edge.system.machine import has_fast_bf16, has_int8_instructions


@pytest.fixture
def int8_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model, whose float encoder is called an INT8 one as well."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "int8"))
    describe(folder, int8={"openvino": {"faster": True}})
    return folder


def describe(folder: Path, **changes: Any) -> None:
    """Change `model.json`; the INT8 encoder is the float one."""
    content = json.loads((folder / DESCRIPTION).read_text())
    content["int8_graphs"] = {"openvino": {"encoder": content["graphs"]["openvino"]["encoder"]}}
    (folder / DESCRIPTION).write_text(json.dumps({**content, **changes}))


def test_auto_takes_int8_where_the_cpu_is_made_for_it(int8_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else f32, as bf16 would be slower; ONNX Runtime, for which the folder has none, computes in f32."""
    monkeypatch.setattr("edge.engines.runtime.has_int8_instructions", lambda: True)
    monkeypatch.setattr("edge.engines.runtime.has_fast_bf16", lambda: False)
    assert load_engine(int8_model, precision="auto").precision == "int8"
    assert load_engine(int8_model, precision="f32").precision == "f32"
    assert load_engine(int8_model, backend="onnxruntime", precision="auto").precision == "f32"
    monkeypatch.setattr("edge.engines.runtime.has_int8_instructions", lambda: False)
    assert load_engine(int8_model, precision="auto").precision == "f32"
    assert load_engine(int8_model, precision="int8").precision == "int8"


def test_auto_takes_int8_where_export_could_not_tell(int8_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model was exported on a CPU without the instructions."""
    monkeypatch.setattr("edge.engines.runtime.has_int8_instructions", lambda: True)
    describe(int8_model, int8={"openvino": {"faster": None}})
    assert load_engine(int8_model, precision="auto").precision == "int8"


@pytest.mark.parametrize("facts", [{"faster": False}, {}])
def test_auto_leaves_int8_alone_where_export_found_it_slower(
    int8_model: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any]
) -> None:
    """Or did not measure it."""
    monkeypatch.setattr("edge.engines.runtime.has_int8_instructions", lambda: True)
    describe(int8_model, int8={"openvino": facts})
    assert load_engine(int8_model, precision="auto").precision in ("bf16", "f32")


def test_int8_is_refused_where_the_model_has_none(tiny_model: Path) -> None:
    """Says how to get it."""
    for backend in ("openvino", "onnxruntime"):
        with pytest.raises(ModelError, match=f"no INT8 graphs for {backend} in this model; export it with --calibrat"):
            load_engine(tiny_model, backend=backend, precision="int8")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fma avx2 avx512f", False), ("avx2 avx_vnni", True), ("avx512f avx512_vnni", True), ("", False)],
)
def test_int8_instructions_are_seen_in_the_cpu_flags(
    monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    """As Linux names them."""
    monkeypatch.setattr("edge.system.machine._cpuinfo", lambda: {"flags": flags})
    assert has_int8_instructions() is expected


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "ARM64"])
def test_int8_is_never_for_arm(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    """OpenVINO computes it wrongly there, whatever flags the CPU shows."""
    monkeypatch.setattr("edge.system.machine._cpuinfo", lambda: {"flags": "avx512_vnni"})
    assert has_int8_instructions()
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert not has_int8_instructions() and _fastest("openvino", has_int8=True) != "int8"


@pytest.mark.parametrize(("machine", "said"), [("aarch64", True), ("x86_64", False)])
def test_bench_says_so_in_its_header(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, machine: str, said: bool
) -> None:
    """On ARM alone."""
    monkeypatch.setattr("platform.machine", lambda: machine)
    print_bench(bench_report([], [], per_process=False, given={}))
    assert ("--precision auto never takes INT8" in capsys.readouterr().out) is said


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16", True),
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx512f", False),
        ("", "", False),
    ],
)
def test_bf16_is_for_amx_and_amd(monkeypatch: pytest.MonkeyPatch, vendor: str, flags: str, expected: bool) -> None:
    """Elsewhere it takes longer than float32, where it runs at all."""
    monkeypatch.setattr("edge.system.machine._cpuinfo", lambda: {"vendor_id": vendor, "flags": flags})
    assert has_fast_bf16() is expected


@pytest.mark.parametrize("fast", [True, False])
def test_auto_takes_bf16_where_it_is_fast_and_openvino_runs(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    """Without INT8; ONNX Runtime has no bf16 on a CPU."""
    monkeypatch.setattr("edge.engines.runtime.has_fast_bf16", lambda: fast)
    assert _fastest("openvino", has_int8=False) == ("bf16" if fast else "f32")
    assert _fastest("onnxruntime", has_int8=False) == "f32"

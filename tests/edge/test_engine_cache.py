"""Prepared graphs between processes: the same answers, bounded, whole, and never needed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.engines.graph_cache import MAX_ENTRIES, SUFFIX, EngineCache
from edge.engines.openvino_import import openvino_core
from edge.engines.runtime import load_engine

IMAGE = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


class Core:
    """OpenVINO's core that remembers what it was asked to do."""

    def __init__(self) -> None:
        self.core = openvino_core()
        self.calls: list[str] = []

    def read_model(self, path: str) -> Any:
        return self.core.read_model(path)

    def compile_model(self, *arguments: Any) -> Any:
        self.calls.append("compile")
        return self.core.compile_model(*arguments)

    def import_model(self, *arguments: Any) -> Any:
        self.calls.append("import")
        return self.core.import_model(*arguments)


@pytest.fixture
def graph(tiny_model: Path) -> Path:
    return tiny_model / "encoder.xml"


def load(
    folder: Path | None, graph: Path, identity: str = "model", shape: Any = (1, 3, 256, 256), **settings: Any
) -> list[str]:
    """What the core did to load the graph; checks that it answers."""
    core = Core()
    shapes = None if shape is None else {"images": shape}
    compiled = EngineCache(folder).compile_graph(core, graph, {**SETTINGS, **settings}, identity, shapes=shapes)
    expected = IMAGE.reshape(1, 3, 64, 4, 64, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(compiled(IMAGE)[0], expected, atol=1e-6)
    assert compiled.inputs[0].partial_shape.is_static == (shape is not None)
    return core.calls


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_the_second_load_reads_what_the_first_prepared(graph: Path, tmp_path: Path) -> None:
    """One entry, without the weights; the folder is made when it is needed."""
    folder = tmp_path / "not" / "there"
    assert load(folder, graph) == ["compile"]
    assert load(folder, graph) == ["import"]
    assert [path.suffix for path in entries(folder)] == [SUFFIX]


def test_without_a_folder_nothing_is_kept(graph: Path) -> None:
    """Prepared each time."""
    assert load(None, graph) == load(None, graph) == ["compile"]


@pytest.mark.parametrize("change", [{"identity": "other"}, {"shape": None}, {"INFERENCE_NUM_THREADS": 2}])
def test_what_differs_in_anything_finds_no_entry(graph: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """Another model or engine version, shape, setting."""
    assert load(tmp_path, graph) == ["compile"]
    assert load(tmp_path, graph, **change) == ["compile"]
    assert len(entries(tmp_path)) == 2


def test_another_cpu_finds_no_entry(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home shared by two machines."""
    load(tmp_path, graph)
    monkeypatch.setattr("edge.engines.graph_cache.cpu_identity", lambda: "another CPU: sse2")
    assert load(tmp_path, graph) == ["compile"]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def nothing(content: bytes) -> bytes:
    return b""


def foreign(content: bytes) -> bytes:
    """Whole, with the right digest, but not something the engine takes."""
    import hashlib

    return hashlib.sha256(b"something else").digest() + b"something else"


@pytest.mark.parametrize("damage", [cut, flip, nothing, foreign])
def test_a_damaged_entry_is_made_anew(graph: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """And the one after finds it whole; the engine never sees what is not whole."""
    load(tmp_path, graph)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert load(tmp_path, graph) == (["import", "compile"] if damage is foreign else ["compile"])
    assert load(tmp_path, graph) == ["import"]


def test_only_the_last_used_entries_stay(graph: Path, tmp_path: Path) -> None:
    """The oldest goes; use, not making, decides; what is not an entry is left alone."""
    load(tmp_path, graph, "first")
    (first,) = entries(tmp_path)
    for number in range(MAX_ENTRIES - 1):
        (tmp_path / f"{number}{SUFFIX}").write_bytes(b"")
        os.utime(tmp_path / f"{number}{SUFFIX}", (1000 + number, 1000 + number))
    (tmp_path / "notes.txt").touch()
    os.utime(first, (1, 1))
    assert load(tmp_path, graph, "first") == ["import"]
    load(tmp_path, graph, "one more")
    assert first.exists() and (tmp_path / "notes.txt").exists()
    assert not (tmp_path / f"0{SUFFIX}").exists() and (tmp_path / f"1{SUFFIX}").exists()
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == MAX_ENTRIES


def test_a_folder_that_cannot_be_made_costs_time_only(graph: Path, tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "file").touch()
    assert load(tmp_path / "file" / "cache", graph) == ["compile"]


def run(model: Path, cache: Path, **options: Any) -> "subprocess.Popen[str]":
    code = f"""
from pathlib import Path
import numpy as np
from edge import load_engine
engine = load_engine(Path({str(model)!r}), cache=Path({str(cache)!r}), threads=1)
engine.encode(np.zeros((1, 3, 256, 256), np.float32))
"""
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, **options)


def test_a_read_only_folder_serves_what_it_holds(
    tiny_model: Path, tmp_path: Path, obey_permissions: Callable[[], None]
) -> None:
    """As in a container whose root is read-only."""
    load_engine(tiny_model, cache=tmp_path, threads=1).encode(np.zeros((1, 3, 256, 256), np.float32))
    before = {path: path.stat().st_mtime_ns for path in entries(tmp_path)}
    tmp_path.chmod(0o555)
    for path in before:
        path.chmod(0o444)
    process = run(tiny_model, tmp_path, preexec_fn=obey_permissions)
    assert (process.communicate()[1], process.returncode) == ("", 0)
    assert list(before) == entries(tmp_path)
    tmp_path.chmod(0o755)


def test_processes_that_start_together_share_a_folder(tiny_model: Path, tmp_path: Path) -> None:
    """Both end well, and leave two whole entries (encoder, decoder) and nothing half-written."""
    processes = [run(tiny_model, tmp_path) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 3
    assert [path.suffix for path in entries(tmp_path)] == [SUFFIX, SUFFIX]

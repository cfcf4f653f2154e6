"""The commands: light to load, refused with one line where something is missing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Samedge = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("module", ["edge.challenge.submission.cli", "edge.challenge.leaderboard.cli"])
def test_loading_a_command_loads_no_library_of_its_extra(module: str) -> None:
    """`samedge --help` loads every command; the Docker SDK, jinja2 and the engines wait until they are needed."""
    heavy = ["docker", "requests", "jinja2", "openvino", "onnxruntime"]
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize("command", [("submission", "check", "x", "--cases"), ("leaderboard",)])
def test_without_an_engine_it_says_so(
    samedge: Samedge, samedge_environment: dict[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    """One line and exit code 1, before any work."""
    cases = Path(__file__).parents[2] / "cases"
    (tmp_path / "team.tar.gz").write_bytes(b"")
    more = () if command[0] == "submission" else (tmp_path, "--truth", cases, "--out", tmp_path / "out", "--cases")
    environment = {**samedge_environment, "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    run = samedge(*command, *more, cases, env=environment)
    assert run.returncode == 1
    assert run.stderr.startswith("error: no Docker engine answers") and len(run.stderr.splitlines()) == 1


def test_without_the_sdk_it_names_the_extra(
    samedge: Samedge, samedge_environment: dict[str, str], tmp_path: Path
) -> None:
    """The base install has no `docker`; a module of that name that cannot be imported stands for its absence."""
    (tmp_path / "docker.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    run = samedge("submission", "pack", "x", "--team", "x", env={**samedge_environment, "PYTHONPATH": path})
    assert run.returncode == 1 and "pip install 'samedge[docker]'" in run.stderr


def test_rounds_are_checked_before_anything_runs(samedge: Samedge, tmp_path: Path) -> None:
    """An unknown one is named with those there are."""
    run = samedge("submission", "check", "x", "--cases", tmp_path, "--rounds", "cold,hot")
    assert run.returncode == 1 and "cold, warm, hostile, got 'hot'" in run.stderr

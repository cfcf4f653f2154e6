"""`samedge serve` as a user starts it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import Samedge


def test_the_command_shows_its_key_serves_and_ends(tiny_model: Path, samedge_environment: dict[str, str]) -> None:
    """Two starts have different keys; Ctrl-C ends it at once and without a traceback."""
    keys = set()
    for port in (15271, 15272):
        command = [sys.executable, "-m", "edge", "serve", "--port", str(port), "--model", str(tiny_model)]
        with subprocess.Popen(
            command, env=samedge_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            shown = "".join(process.stdout.readline() for _ in range(3))  # page, server, key
            found = re.search(rf"^page: +http://127.0.0.1:{port}/#key=(\S{{32,}})$(?s:.*)^key: +\1$", shown, re.M)
            if not found:
                process.kill()
            assert found, shown + process.stderr.read()
            keys.add(found[1])
            url = f"http://127.0.0.1:{port}/capabilities"
            assert httpx.get(url).status_code == 401
            answer = httpx.get(url, headers={"Authorization": f"Bearer {found[1]}"})
            assert answer.json()["supported_interactions"]["bbox3d"] is True
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0 and "Traceback" not in process.stderr.read()
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "0.0.0.0"), "choose a --key"),
        (("--key", "short"), "at least 16 characters"),
        (("--host", "nowhere.invalid", "--key", "a key that is long"), "cannot listen there"),
        (("--window", "nonsense"), "--window must be"),
    ],
)
def test_what_would_be_unsafe_or_cannot_be_is_refused(
    samedge: Samedge, tiny_model: Path, arguments: tuple[str, ...], words: str
) -> None:
    """In one line, before anything is served."""
    run = samedge("serve", "--model", tiny_model, "--port", 15273, *arguments)
    assert run.returncode == 1 and words in run.stderr and run.stderr.count("\n") == 1


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "blosc2"])
def test_without_the_extra_the_command_says_what_to_install(missing: str) -> None:
    """And every other command, which loads none of it, goes on."""
    code = f"import sys; sys.modules[{missing!r}] = None; from edge.cli import main; main()"
    run = subprocess.run([sys.executable, "-c", code, "serve"], capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr == f"error: {missing} is not installed: pip install 'samedge[serve]'\n"
    helped = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    assert helped.returncode == 0 and "serve" in helped.stdout


def test_no_other_command_loads_the_server() -> None:
    """Not even the help that names it."""
    code = """
import sys
from edge.cli import app
try:
    app(["--help"])
except SystemExit:
    print(*sorted(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.splitlines()[-1].split()}
    assert not loaded & {"starlette", "uvicorn", "blosc2", "anyio"}

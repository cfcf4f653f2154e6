"""What goes into an image and into a submission file, without an engine."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from edge.challenge.submission.build import EPOCH, check_team, write_context
from edge.challenge.submission.build import _passed_on as passed_on
from edge.challenge.submission.pack import describe, load
from edge.challenge.submission.wheel import make_wheel
from edge.errors import RunError


def context(model: Path, wheelhouse: Path | None = None) -> bytes:
    file = io.BytesIO()
    write_context(file, model, wheelhouse, EPOCH)
    return file.getvalue()


def test_the_context_depends_on_contents_alone(tiny_model: Path) -> None:
    """Touched files and another mode give the same bytes; another content does not."""
    first = context(tiny_model)
    graph = tiny_model / "decoder.onnx"
    original = graph.read_bytes()
    os.utime(graph, (1, 1))
    graph.chmod(0o600)
    assert context(tiny_model) == first
    try:
        graph.write_bytes(original + b"x")
        assert context(tiny_model) != first
    finally:
        graph.write_bytes(original)


def test_the_context_holds_what_the_dockerfile_copies(tiny_model: Path, tmp_path: Path) -> None:
    """Lock file, scripts, the wheel, the model, and wheels of a wheelhouse; nothing with the builder's name on it."""
    (tmp_path / "numpy-2-py3-none-any.whl").write_bytes(b"w")
    (tmp_path / "notes.txt").write_bytes(b"n")
    with tarfile.open(fileobj=io.BytesIO(context(tiny_model, tmp_path))) as archive:
        names = archive.getnames()
        assert {(member.uid, member.uname, member.mtime) for member in archive} == {(0, "", EPOCH)}
    assert {"Dockerfile", "requirements.lock", "predict.sh", "entrypoint.sh", "slim.sh", "model/model.json"} <= set(
        names
    )
    assert "wheelhouse/numpy-2-py3-none-any.whl" in names and "wheelhouse/notes.txt" not in names
    assert [name for name in names if name.startswith("wheels/samedge-")]


def test_the_wheel_installs_and_runs(tmp_path: Path) -> None:
    """pip takes it, its record fits, and the commands are there, without the source tree."""
    name, content = make_wheel()
    (tmp_path / name).write_bytes(content)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path / "site",
    ]
    subprocess.run([*command, tmp_path / name], check=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert "edge/challenge/submission/image/Dockerfile" in archive.namelist()
        assert not [file for file in archive.namelist() if "__pycache__" in file or file.endswith("niivue.umd.js")]
        assert [file for file in archive.namelist() if file.endswith("dist-info/licenses/LICENSE")]
    code = "import edge.cli, importlib.metadata as m; print(edge.cli.__file__, len(m.distribution('samedge').files))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.startswith(str(tmp_path / "site"))


def test_proxies_reach_the_build_in_either_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the environment spells them; what is empty is left out."""
    for name in list(os.environ):
        if "proxy" in name.lower() or name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "mirror.example/simple")
    monkeypatch.setenv("HTTP_PROXY", "")
    assert passed_on() == {"https_proxy": "proxy.example:3128", "PIP_INDEX_URL": "mirror.example/simple"}


@pytest.mark.parametrize("team", ["Team", "my team", "../up", "a:b", "", "-a"])
def test_a_name_that_no_image_can_have_is_refused(team: str) -> None:
    """Before anything is built."""
    with pytest.raises(RunError, match="lower-case"):
        check_team(team)


def archive(path: Path, files: list[tuple[str, bytes]]) -> Path:
    with gzip.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as out:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return path


def manifest(*tags: str) -> bytes:
    return json.dumps([{"RepoTags": list(tags)}]).encode()


@pytest.mark.parametrize(
    "files",
    [
        [("manifest.json", manifest("other:latest"))],
        [("manifest.json", manifest("team:latest", "python:3.11-slim-bookworm"))],
        [("manifest.json", manifest())],
        [("manifest.json", manifest("team:latest")), ("./manifest.json", manifest("other:latest"))],
        [
            ("manifest.json", manifest("team:latest")),
            ("index.json", b'{"manifests": [{"annotations": {"io.containerd.image.name": "docker.io/library/o:1"}}]}'),
        ],
        [("layer.tar", b"")],
        [("manifest.json", b"[[]]")],
        [("manifest.json", b"{")],
    ],
)
def test_an_archive_that_could_overwrite_other_images_is_not_loaded(
    tmp_path: Path, files: list[tuple[str, bytes]]
) -> None:
    """Another name, a second name, a second list, no list, no JSON: the engine is not even asked (there is none)."""
    with pytest.raises(RunError, match=r"team\.tar\.gz"):
        load(None, archive(tmp_path / "team.tar.gz", files))


def test_a_file_that_is_no_archive_is_told(tmp_path: Path) -> None:
    """Named, without a traceback."""
    (tmp_path / "team.tar.gz").write_bytes(b"\x1f\x8bno")
    with pytest.raises(RunError, match=r"team\.tar\.gz: not what"):
        load(None, tmp_path / "team.tar.gz")


def test_a_submission_is_described(tmp_path: Path) -> None:
    """Team from the name before the first dot, in lower case, as the challenge does."""
    path = tmp_path / "TeamX.tar.gz"
    path.write_bytes(b"content")
    package = describe(path)
    assert (package.team, package.size_bytes) == ("teamx", 7)
    assert package.sha256 == hashlib.sha256(b"content").hexdigest()

"""A team's image: this version of samedge with the team's model inside. Same inputs, same layers."""

import io
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge.challenge.submission.engine import engine_errors
from edge.challenge.submission.wheel import ROOT, make_wheel
from edge.engines.model_folder import read_description
from edge.errors import RunError

BASE = "python:3.11-slim-bookworm"
EPOCH = 315532800  # 1980-01-01, the earliest date a zip archive knows; SOURCE_DATE_EPOCH overrides it
RECIPE = Path(__file__).with_name("image")  # where the wheel keeps the files that lie at ROOT in a source tree
SHARED_FILES = ("requirements.lock", "predict.sh", "docker/entrypoint.sh", "docker/slim.sh")
PASSED_ON = (  # environment variables that the build sees; none of them is left in the image
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST",
)  # fmt: skip
TEAM = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")


@dataclass(frozen=True)
class BuiltImage:
    """What `build_image` made."""

    name: str  # such as team:latest
    identity: str  # sha256:...
    layers: tuple[str, ...]  # their digests, the base's first
    size_bytes: int


def check_team(team: str) -> str:
    """The team's name, which is the image's and the archive's too.

    Raises:
        RunError: not lower-case letters and digits, joined by - or _.
    """
    if not TEAM.fullmatch(team) or len(team) > 64:
        raise RunError(f"team {team!r}: use lower-case letters and digits, joined by - or _, at most 64")
    return team


def build_image(
    client: Any,
    model: Path,
    name: str,
    *,
    wheelhouse: Path | None = None,
    base: str = BASE,
    cached: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> BuiltImage:
    """Build the predictor with the model of a folder.

    Args:
        name: of the image, such as team:latest.
        wheelhouse: wheels of requirements.lock; the build then has no network. None: pip fetches them.
        base: a Python 3.11 image.
        cached: steps that the engine has done before are not done again.
        say: is handed the engine's lines.

    Raises:
        ModelError: the model folder does not fit.
        RunError: the build fails; the message ends with what the engine said last.
    """
    read_description(model)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or EPOCH)
    arguments = {"BASE": base, "SOURCE_DATE_EPOCH": str(epoch), **_passed_on()}
    if wheelhouse is not None:
        arguments |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/build/wheelhouse"}
    with tempfile.TemporaryFile() as context, engine_errors(f"{name}: the image cannot be built"):
        write_context(context, model, wheelhouse, epoch)
        context.seek(0)
        lines = client.api.build(
            fileobj=context,
            custom_context=True,
            tag=name,
            buildargs=arguments,
            network_mode="host" if wheelhouse is None else "none",
            nocache=not cached,
            rm=True,
            forcerm=True,
            decode=True,
        )
        _follow(name, lines, say)
        attributes = client.images.get(name).attrs
    return BuiltImage(name, attributes["Id"], tuple(attributes["RootFS"]["Layers"]), attributes["Size"])


def write_context(file: IO[bytes], model: Path, wheelhouse: Path | None, epoch: int) -> None:
    """Write the build's context as a tar archive: its bytes depend on the files' contents and `epoch` alone.

    Raises:
        RunError: a file cannot be read.
    """
    wheel, content = make_wheel()
    members: dict[str, bytes | Path] = {f"wheels/{wheel}": content, "Dockerfile": RECIPE / "Dockerfile"}
    members |= {Path(name).name: _shared_file(name) for name in SHARED_FILES}
    members |= {f"model/{path.name}": path for path in model.iterdir() if path.is_file()}
    members |= {f"wheelhouse/{path.name}": path for path in wheelhouse.glob("*.whl")} if wheelhouse else {}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for folder in ("model", "wheelhouse", "wheels"):
            _add(archive, folder, None, epoch)
        for name, source in sorted(members.items()):
            _add(archive, name, source, epoch)


def _add(archive: tarfile.TarFile, name: str, source: bytes | Path | None, epoch: int) -> None:
    member = tarfile.TarInfo(name)
    member.mtime, member.mode = epoch, 0o644
    if source is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(member)
        return
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
            member.size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            archive.addfile(member, stream)
    except OSError as error:
        raise RunError(f"{source if isinstance(source, Path) else name}: cannot be read ({error.strerror})") from None


def _shared_file(name: str) -> Path:
    for path in (RECIPE / Path(name).name, ROOT / name):
        if path.is_file():
            return path
    raise RunError(f"{Path(name).name} is missing from this installation of samedge; install it again")


def _passed_on() -> dict[str, str]:
    """PASSED_ON in either case, as the environment has them; pip's own settings have one spelling."""
    known = {*PASSED_ON, *(name.lower() for name in PASSED_ON if "PROXY" in name)}
    return {name: os.environ[name] for name in sorted(known) if os.environ.get(name)}


def _follow(name: str, lines: Iterable[dict[str, Any]], say: Callable[[str], None]) -> None:
    """Hand on the engine's lines; an error among them ends the build."""
    last = ""
    for line in lines:
        if "error" in line:
            said = f"; before that: {last}" if last else ""
            raise RunError(f"{name}: the image cannot be built ({' '.join(str(line['error']).split())[:300]}{said})")
        for text in str(line.get("stream", "")).splitlines():
            if text.strip():
                last = text.strip()[:300]
                say(last)

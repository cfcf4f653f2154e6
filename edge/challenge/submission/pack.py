"""A submission as one file that `docker load` accepts, and a stranger's such file taken in with care."""

import gzip
import io
import json
import posixpath
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.challenge.submission.build import check_team
from edge.challenge.submission.engine import engine_errors, find_image
from edge.data.files import file_hash, whole_file
from edge.errors import RunError

CHUNK_BYTES = 2**20
COMPRESSION_LEVEL = 6  # gzip's own default, which `docker save | gzip` has
MAX_LIST_BYTES = 2**20  # of manifest.json and index.json
MAX_IMAGE_BYTES = 40 * 2**30  # unpacked
SUFFIX = ".tar.gz"
NAME_ANNOTATIONS = ("io.containerd.image.name",)


@dataclass(frozen=True)
class Package:
    """A submission file."""

    path: Path
    team: str
    sha256: str
    size_bytes: int


def pack(client: Any, image: str, team: str, folder: Path, *, level: int = COMPRESSION_LEVEL) -> Package:
    """Write `<folder>/<team>.tar.gz`, whole or not at all; the image in it is named `<team>:latest`.

    Args:
        level: of gzip, 0 (fast) to 9 (small).

    Raises:
        RunError: no such image, or the file cannot be written.
    """
    path = folder / f"{check_team(team)}{SUFFIX}"
    found = find_image(client, image)
    with engine_errors(f"{image}: the engine cannot save it"):
        found.tag(team, "latest")
        named = client.images.get(f"{team}:latest")
        with whole_file(path) as file, gzip.GzipFile("", "wb", level, file, mtime=0) as packed:
            for chunk in named.save(chunk_size=CHUNK_BYTES, named=f"{team}:latest"):
                packed.write(chunk)
    return describe(path)


def describe(path: Path) -> Package:
    """Team (the file's name before its first dot, lower case), SHA-256 and size of a submission file.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return Package(path, path.name.split(".")[0].lower(), file_hash(path), path.stat().st_size)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None


def load(client: Any, path: Path) -> str:
    """Load a submission file into the engine; returns the image's name, `<team>:latest`.

    Its manifest is read first: a file that brings more than this one image under this one name could overwrite another
    team's, or the base of the next build, and is not loaded.

    Raises:
        RunError: not such a file, or the engine refuses it.
    """
    team = path.name.split(".")[0].lower()
    names = _image_names(path)
    if names != {f"{team}:latest"}:
        brought = ", ".join(sorted(names)[:5]) or "no name"
        raise RunError(f"{path.name}: must hold one image, named {team}:latest; it has {brought}")
    with engine_errors(f"{path.name}: the engine cannot load it"), path.open("rb") as file:
        client.images.load(file)
    return f"{team}:latest"


def _image_names(path: Path) -> set[str]:
    """Every name that loading the archive would give: of manifest.json, and of index.json, which newer engines read."""
    lists: dict[str, Any] = {}
    try:
        stream: Any = _Bounded(path)
        with stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = posixpath.normpath(member.name).lstrip("/")
                if name not in ("manifest.json", "index.json"):
                    continue
                if name in lists or not member.isfile() or member.size > MAX_LIST_BYTES:
                    raise ValueError(f"{name} is there twice, no plain file or too long")
                lists[name] = json.load(archive.extractfile(member) or io.BytesIO())
        if "manifest.json" not in lists:
            raise ValueError("it has no manifest.json")
        names = [tag for image in lists["manifest.json"] for tag in image.get("RepoTags") or []]
        for image in lists.get("index.json", {}).get("manifests", []):
            names += [value for key, value in (image.get("annotations") or {}).items() if key in NAME_ANNOTATIONS]
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, AttributeError, TypeError) as error:
        raise RunError(f"{path.name}: not what `docker save NAME:latest | gzip` writes ({error})") from None
    return {str(name).removeprefix("docker.io/").removeprefix("library/") for name in names}


class _Bounded:
    """A gzip file that ends in an error after MAX_IMAGE_BYTES: a small one may unpack to any size."""

    def __init__(self, path: Path) -> None:
        self._stream, self._left = gzip.open(path), MAX_IMAGE_BYTES  # noqa: SIM115

    def __enter__(self) -> "_Bounded":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"unpacks to more than {MAX_IMAGE_BYTES // 2**30} GiB")
        return content

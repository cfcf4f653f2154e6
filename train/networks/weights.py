"""Public checkpoints: fetched once, checked by SHA-256, kept below SAMEDGE_HOME.

urllib and not pooch: a download that is cut off goes on where it stopped, which pooch does not do.
"""

import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge.errors import RunError
from edge.home import home
from edge.model_folder import file_hash

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


CHECKPOINTS = {
    "litemedsam": Checkpoint(
        name="litemedsam",
        file_name="lite_medsam.pth",
        url="https://huggingface.co/GleghornLab/medsam-vit-b/resolve/main/lite_medsam.pth",
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        licence="Apache-2.0; which data it was trained on is an open question upstream",
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
    """The checked file of a checkpoint, downloaded unless it is there; a download that was cut off goes on.

    Raises:
        RunError: unknown name, offline, refused by the server, wrong hash, or the folder cannot be written.
    """
    checkpoint, final = _checkpoint(name), path(name)
    if final.exists() and _hash(final) == checkpoint.sha256:
        return final
    if os.environ.get("SAMEDGE_OFFLINE", "") not in ("", "0"):
        raise RunError(f"{name}: not downloaded because SAMEDGE_OFFLINE is set; {_way_out(checkpoint)}")
    part = final.with_name(final.name + ".part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _download(checkpoint, part, progress)
        _accept(checkpoint, part, final, checkpoint.url)
    except OSError as error:
        raise RunError(f"{name}: cannot write {final} ({error.strerror or error}); set SAMEDGE_HOME") from None
    return final


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
    """Take a file that came another way (an USB stick, another mirror) into the cache, checked; returns its new place.

    Raises:
        RunError: unknown name, unreadable file, wrong hash, or the folder cannot be written.
    """
    checkpoint, final = _checkpoint(name), path(name)
    part = final.with_name(f"{final.name}.{os.getpid()}.import")  # not the .part of a download that may go on later
    try:
        with source.open("rb") as stream:
            final.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                shutil.copyfileobj(stream, file, CHUNK_BYTES)
        _accept(checkpoint, part, final, str(source))
    except OSError as error:
        raise RunError(f"{name}: cannot copy {source} to {final} ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)
    return final


def _checkpoint(name: str) -> Checkpoint:
    if name not in CHECKPOINTS:
        raise RunError(f"{name}: no such checkpoint; known: {', '.join(CHECKPOINTS)}")
    return CHECKPOINTS[name]


def _way_out(checkpoint: Checkpoint) -> str:
    return f"fetch {checkpoint.url} on another machine, then: samedge weights import {checkpoint.name} FILE"


def _accept(checkpoint: Checkpoint, part: Path, final: Path, source: str) -> None:
    """Give a whole file its final name if its hash is right; otherwise remove it."""
    found = _hash(part)
    if found != checkpoint.sha256:
        part.unlink()
        raise RunError(
            f"{checkpoint.name}: SHA-256 of {source} is {found}, expected {checkpoint.sha256}; nothing was kept"
        )
    part.replace(final)


def _download(checkpoint: Checkpoint, part: Path, progress: Progress | None) -> None:
    """Fill `part`, going on from what it holds.

    Raises:
        RunError: the server refuses, cannot be reached, or cuts off ATTEMPTS times; what came stays in `part`.
    """
    for _ in range(ATTEMPTS):
        try:
            if _fetch(checkpoint.url, part, progress):
                return
        except urllib.error.HTTPError as error:
            message = f"{checkpoint.url} answers {error.code} {error.reason}"
            raise RunError(f"{checkpoint.name}: {message}; {_way_out(checkpoint)}") from None
        except urllib.error.URLError as error:
            message = f"cannot reach {checkpoint.url} ({error.reason})"
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

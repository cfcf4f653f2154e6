"""Files that are written whole or not at all, read within bounds, and hashed.

Until it is whole a file has another name, from which it is read whose it is, so that only what nobody writes to is
removed. A process is known by its machine since its last start, its process-ID namespace (containers number their
processes alike), its number there, and its start time. Where a name is of another machine or container, nothing can be
known of its process, and age alone decides.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, Any

from edge.data.names import ending_of
from edge.errors import CaseError, RunError

SUFFIX = ".partial"
MAX_JSON_BYTES = 2**26  # a report of some 100,000 cases
ABANDONED_S = 24 * 3600.0  # without a write; a slow disk or a stopped process takes less
LONGEST_NAME = 180  # bytes of the final name that are taken over; a file's name has at most 255
OWNER = re.compile(r"\.(?P<place>[0-9a-f]{12})-(?P<pid>\d+)-(?P<start>\d+)-\d+\.partial$")

_numbers = count()  # threads of one process may write the same file


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where it is not there.

    Raises:
        RunError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot make this folder ({error.strerror or error})") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole under its final name, or not at all.

    Raises:
        RunError: the folder cannot be written or the disk is full.
    """
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file open for writing that takes its final name only when the block ends well.

    Raises:
        RunError: the folder cannot be written or the disk is full.
    """
    temporary = partial_path(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        what = f"cannot write {path} ({error.strerror or error}); nothing of it was left behind"
        name = path.name[: len(path.name) - len(ending_of(path))]
        raise RunError(f"{name}: {what}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_bounded(path: Path, limit: int) -> bytes:
    """A file's bytes.

    Raises:
        CaseError: more than `limit`, or no file.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
        raise CaseError(f"{path.stem}: {path} is a folder or a device, expected a file")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise CaseError(f"{path.stem}: {path.name} is larger than {limit / 2**20:.0f} MiB, the limit")
    return content


def read_json(path: Path) -> Any:
    """What a JSON file of at most MAX_JSON_BYTES holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or too large or deep.
    """
    import json

    try:
        return json.loads(read_bounded(path, MAX_JSON_BYTES))
    except (CaseError, RecursionError) as error:
        raise ValueError(str(error)) from None


def file_hash(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def partial_path(path: Path) -> Path:
    """Where a file is written until it is whole: hidden, beside it, under a name that no other writer has."""
    place, start = _place() or "0" * 12, _start_time("self") or 0
    name = os.fsdecode(os.fsencode(path.name)[:LONGEST_NAME])
    return path.with_name(f".{name}.{place}-{os.getpid()}-{start}-{next(_numbers)}{SUFFIX}")


def remove_partial_files(folder: Path) -> None:
    """Delete what interrupted runs left half-written in a folder: their process is gone, or nobody wrote for a day.

    Files and folders named by `partial_path`, and no others.
    """
    for path in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError):
            if _is_abandoned(path):
                if path.is_dir():
                    from shutil import rmtree  # seldom needed

                    rmtree(path)
                else:
                    path.unlink()


def _is_abandoned(path: Path) -> bool:
    found = OWNER.search(path.name)
    if not found:
        return False
    if found["place"] == _place():
        return not _runs(int(found["pid"]), int(found["start"]))
    written = [each.stat().st_mtime for each in (path, *(path.iterdir() if path.is_dir() else ()))]
    return time.time() - max(written) > ABANDONED_S


@cache
def _place() -> str | None:
    """Names this machine since its last start, with this process-ID namespace; None where that cannot be seen."""
    try:
        if Path("/proc/self").readlink().name != str(os.getpid()):
            return None  # /proc is another namespace's
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return None
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:12]


def _runs(pid: int, start: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return _start_time(str(pid)) in (start, None)


def _start_time(process: str) -> int | None:
    """Clock ticks from the machine's start to the process's."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None

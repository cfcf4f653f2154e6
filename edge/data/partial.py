"""Names of half-written files: whose they are is read from them, so that only what nobody writes to is removed.

A process is known by its machine since its last start, its process-ID namespace (containers number their processes
alike), its number there, and its start time. Where a name is of another machine or container, nothing can be known of
its process, and age alone decides.
"""

import hashlib
import os
import re
import time
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path

SUFFIX = ".partial"
ABANDONED_S = 24 * 3600.0  # without a write; a slow disk or a stopped process takes less
LONGEST_NAME = 180  # bytes of the final name that are taken over; a file's name has at most 255
OWNER = re.compile(r"\.(?P<place>[0-9a-f]{12})-(?P<pid>\d+)-(?P<start>\d+)-\d+\.partial$")

_numbers = count()  # threads of one process may write the same file


def partial_path(path: Path) -> Path:
    """Where a file is written until it is whole: hidden, beside it, under a name that no other writer has."""
    place, start = _place() or "0" * 12, _start_time("self") or 0
    name = os.fsdecode(os.fsencode(path.name)[:LONGEST_NAME])
    return path.with_name(f".{name}.{place}-{os.getpid()}-{start}-{next(_numbers)}{SUFFIX}")


def remove_partial_files(folder: Path) -> None:
    """Delete what interrupted runs left half-written in a folder: their process is gone, or nobody wrote for a day."""
    for path in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError):
            if _is_abandoned(path):
                path.unlink()


def _is_abandoned(path: Path) -> bool:
    if not path.is_file():
        return False
    found = OWNER.search(path.name)
    if found and found["place"] == _place():
        return not _runs(int(found["pid"]), int(found["start"]))
    return time.time() - path.stat().st_mtime > ABANDONED_S


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

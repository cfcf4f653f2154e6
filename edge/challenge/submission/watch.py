"""What a container takes while it runs: the peak of its memory, the size of what it writes.

The kernel keeps a control group's peak, but only as long as the group lives; so it is read all the time, and nothing
but the last moment can be missed. It counts the page cache, as the limit does.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
READ_EVERY_S = 0.02
WEIGH_EVERY_S = 1.0
MIB = 2**20
CGROUP, ENGINE = "control group", "engine, once a second"


class Watch(Thread):
    """Reads a running container's memory; kills it where it writes too much."""

    def __init__(self, container: Any, folders: tuple[Path, ...], written_mib: int) -> None:
        """Watch `container`, which may have `written_mib` in `folders`."""
        super().__init__(daemon=True)
        self._container, self._folders, self._written_mib = container, folders, written_mib
        self._ended = Event()
        self._peak_bytes = 0
        self._source: str | None = None
        self._overfull = False

    def run(self) -> None:
        file = self._peak_file()
        weighed = time.perf_counter()
        if file is None:
            Thread(target=self._ask_engine, daemon=True).start()
        while not self._ended.wait(READ_EVERY_S):
            if file is not None:
                self._note(_read_number(file), CGROUP)
            if time.perf_counter() - weighed > WEIGH_EVERY_S:
                weighed = time.perf_counter()
                if sum(map(folder_bytes, self._folders)) > self._written_mib * MIB:
                    self._overfull = True
                    with suppress(Exception):
                        self._container.kill()
                    return

    def stop(self) -> bool:
        """End the watch; whether the container was killed for what it wrote."""
        self._ended.set()
        self.join()
        return self._overfull

    def peak(self) -> tuple[float | None, str | None]:
        """The peak in MiB and who told: CGROUP (exact) or ENGINE (samples); None where nobody did."""
        return (self._peak_bytes / MIB, self._source) if self._source else (None, None)

    def _note(self, peak_bytes: int | None, source: str) -> None:
        if peak_bytes:
            self._peak_bytes, self._source = max(self._peak_bytes, peak_bytes), source

    def _peak_file(self) -> Path | None:
        """The file of the container's control group on this machine, if the engine runs here."""
        with suppress(Exception):
            self._container.reload()
            pid, identity = self._container.attrs["State"]["Pid"], self._container.id
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                _, controllers, path = line.split(":", 2)
                if identity not in path:
                    continue  # another machine's process number, or not this container's group
                for root, file in ((CGROUPS / "memory", "memory.max_usage_in_bytes"), (CGROUPS, "memory.peak")):
                    found = root / path.lstrip("/") / file
                    if (controllers in ("", "memory")) and found.exists():
                        return found
        return None

    def _ask_engine(self) -> None:
        with suppress(Exception):
            for sample in self._container.stats(stream=True, decode=True):
                memory = sample.get("memory_stats", {})
                self._note(memory.get("max_usage") or memory.get("usage"), ENGINE)
                if self._ended.is_set():
                    return


def folder_bytes(folder: Path) -> int:
    """What a folder takes on disk, in bytes; links are not followed."""
    total = 0
    for parent, _, files in os.walk(folder, followlinks=False):
        for file in files:
            with suppress(OSError):
                total += os.lstat(Path(parent) / file).st_blocks * 512
    return total


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None

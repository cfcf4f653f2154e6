"""What is done already, on disk: one JSON file for each team and case, there whole or not at all.

A record is valid for the key it was written with (hashes of what went in); another key makes it as good as absent. So
an evaluation that was killed goes on where it was, and a changed submission or case is done anew.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.data.files import file_hash, make_folder, remove_partial_files, write_whole
from edge.errors import RunError


class Records:
    """The files under a folder: `<kind>/<case>.json` of a team."""

    def __init__(self, folder: Path) -> None:
        """Use the folder, made if missing.

        Raises:
            RunError: it cannot be made.
        """
        self._folder = folder
        tidy_folder(folder)

    def get(self, kind: str, case: str, key: dict[str, Any]) -> dict[str, Any] | None:
        """The record, or None where there is none for this key."""
        try:
            record = json.loads(self._path(kind, case).read_text())
        except (OSError, ValueError):
            return None
        return record["content"] if isinstance(record, dict) and record.get("key") == key else None

    def put(self, kind: str, case: str, key: dict[str, Any], content: dict[str, Any]) -> None:
        """Write a record.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        path = self._path(kind, case)
        tidy_folder(path.parent)
        write_whole(path, (json.dumps({"key": key, "content": content}, indent=1) + "\n").encode())

    def _path(self, kind: str, case: str) -> Path:
        return self._folder / kind / f"{case}.json"


def tidy_folder(folder: Path) -> Path:
    """The folder, made if missing, without what interrupted runs left half-written.

    Raises:
        RunError: it cannot be made.
    """
    make_folder(folder)
    remove_partial_files(folder)
    return folder


def sha256(path: Path) -> str | None:
    """Hash of a file, or None where it cannot be read."""
    try:
        return file_hash(path)
    except OSError:
        return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against a second evaluation; a killed process lets go of it by itself.

    Raises:
        RunError: another one holds it.
    """
    with (tidy_folder(folder) / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"{folder}: another evaluation writes here; wait for it or choose another folder") from None
        yield

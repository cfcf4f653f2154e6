"""What the teams sent: an image as `<team>.tar.gz`, or a folder of outputs with a table of times."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from edge.errors import RunError
from edge.submission.pack import SUFFIX, describe

TIME_COLUMNS = ("CaseName", "RunningTime")
MAX_TABLE_BYTES = 2**24


@dataclass(frozen=True)
class Team:
    """One team's submission."""

    name: str  # lower case, before the first dot of the file's or folder's name
    path: Path
    sha256: str | None = None  # of the image's file; None: a folder of outputs

    @property
    def is_image(self) -> bool:
        return self.sha256 is not None


def find_teams(folder: Path) -> list[Team]:
    """Every `*.tar.gz` and every folder with `.npz` files, by name.

    Raises:
        RunError: none there, one cannot be read, or two have the same name.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror})") from None
    teams = []
    for path in entries:
        if path.is_dir() and any(path.glob("*.npz")):
            teams.append(Team(path.name.lower(), path))
        elif path.name.endswith(SUFFIX):
            package = describe(path)
            teams.append(Team(package.team, path, package.sha256))
    names = [team.name for team in teams]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RunError(f"{folder}: two submissions of {', '.join(sorted(twice))}; keep one")
    if not teams:
        raise RunError(f"{folder}: no submission (*{SUFFIX}, or folders of .npz outputs)")
    return teams


def read_times(folder: Path) -> dict[str, float]:
    """Seconds per case of the first table in a folder with the columns CaseName, RunningTime; empty without one.

    Case names may end in .npz; rows that are not a positive number of seconds are left out.
    """
    for path in sorted(folder.glob("*.csv")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_TABLE_BYTES:
            continue
        try:
            rows = list(csv.DictReader(path.read_text(encoding="utf-8", errors="replace").splitlines()))
        except (OSError, csv.Error):
            continue
        if rows and all(column in rows[0] for column in TIME_COLUMNS):
            times = {str(row["CaseName"]).removesuffix(".npz"): _seconds(row["RunningTime"]) for row in rows}
            return {name: seconds for name, seconds in times.items() if seconds is not None}
    return {}


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None

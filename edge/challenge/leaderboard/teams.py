"""What the teams sent: an image as `<team>.tar.gz`, or a folder of outputs with a table of times."""

import math
import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from edge.challenge.submission.pack import SUFFIX, describe
from edge.data.table import Table, parse_table
from edge.errors import RunError

TIME_COLUMNS = ("CaseName", "RunningTime")
MAX_TABLE_BYTES = 2**24
ARCHIVES = (".tgz", ".tar", ".zip", ".tar.xz", ".tar.zst", ".tar.bz2", ".7z")  # that might be meant for one
NO_TEAMS = ("lost+found", "__MACOSX")


@dataclass(frozen=True)
class Team:
    """One team's submission."""

    name: str  # lower case, before the first dot of the file's or folder's name
    path: Path
    sha256: str | None = None  # of the image's file; None: a folder of outputs

    @property
    def is_image(self) -> bool:
        return self.sha256 is not None


@dataclass(frozen=True)
class Times:
    """A team's own table of times."""

    seconds: dict[str, float]  # by case
    problems: tuple[str, ...]  # one line for each thing in it that cannot be used: file, line, why


def find_teams(folder: Path, leave_out: Path | None = None) -> list[Team]:
    """Every `*.tar.gz` and every folder with `.npz` files, by name.

    Args: leave_out: a folder that may lie among them, such as that of results.

    Raises:
        RunError: none there, one cannot be read, two have the same name, or a folder or archive is neither.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.name not in NO_TEAMS)
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror})") from None
    teams, out = [], leave_out and leave_out.resolve()
    for path in entries:
        if path.resolve() == out:
            continue
        if path.is_dir() and any(path.glob("*.npz")):
            teams.append(Team(path.name.lower(), path))
        elif path.name.lower().endswith(SUFFIX):
            package = describe(path)
            teams.append(Team(package.team, path, package.sha256))
        elif path.is_dir() or path.name.lower().endswith(ARCHIVES):
            found = next((f", as in {one.parent.relative_to(folder)}" for one in path.rglob("*.npz")), "")
            raise RunError(
                f"{path}: neither an image (*{SUFFIX}) nor a folder with .npz files directly in it{found}; "
                "mend it, or move it away"
            )
    names = [team.name for team in teams]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RunError(f"{folder}: two submissions of {', '.join(sorted(twice))}; keep one")
    if not teams:
        raise RunError(f"{folder}: no submission (*{SUFFIX}, or folders of .npz outputs)")
    return teams


def read_times(folder: Path) -> Times:
    """The times of the first table in a folder with the columns CaseName, RunningTime; none without a table.

    Names may be paths and end in .npz. What cannot be used is told, a line each, never passed over in silence.
    """
    others = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".csv" or path.name.startswith("."):
            continue
        try:
            table, columns = _time_table(path)
        except (OSError, ValueError) as error:
            others.append(f"{path}: no table of times: {error}")
            continue
        return _read_rows(path, table, columns)
    return Times({}, tuple(others))


def _time_table(path: Path) -> tuple[Table, list[int]]:
    """A table, and which of its columns are TIME_COLUMNS.

    Raises:
        OSError, ValueError: not such a table; says why.
    """
    if path.is_symlink() or not path.is_file():
        raise ValueError("not a regular file")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise ValueError(f"larger than {MAX_TABLE_BYTES / 2**20:.0f} MiB, the limit")
    table = parse_table(path.read_bytes())
    titles = [title.lower() for title in table.rows[0][1]] if table.rows else []
    wanted = [column.lower() for column in TIME_COLUMNS]
    if not set(wanted) <= set(titles):
        found = f"{table.separator.join(titles)[:80]!r}" if titles else "nothing"
        raise ValueError(f"the first line must name the columns {','.join(TIME_COLUMNS)}, got {found}")
    return table, [titles.index(column) for column in wanted]


def _read_rows(path: Path, table: Table, columns: list[int]) -> Times:
    seconds: dict[str, float] = {}
    problems = []
    width = len(table.rows[0][1])
    for line, fields in table.rows[1:]:
        try:
            name, time_s = _row(table, fields, width, columns)
            if seconds.setdefault(name, time_s) != time_s:
                raise ValueError(f"{name} has another time above; the first counts")
        except ValueError as error:
            problems.append(f"{path} line {line}: {error}")
    return Times(seconds, tuple(problems))


def _row(table: Table, fields: list[str], width: int, columns: list[int]) -> tuple[str, float]:
    """Case and seconds of a row.

    Raises:
        ValueError: says what is wrong with it.
    """
    if len(fields) != width:
        raise ValueError(f"{len(fields)} fields where the first line has {width}; 1,5 for 1.5 needs semicolons between")
    name, text = (fields[column] for column in columns)
    try:
        time_s = table.number(text)
    except ValueError:
        time_s = math.nan
    if not (math.isfinite(time_s) and time_s > 0):
        raise ValueError(f"RunningTime must be a positive number of seconds, got {text[:40]!r}")
    return re.sub(r"\.npz$", "", PureWindowsPath(name).name, flags=re.IGNORECASE), time_s

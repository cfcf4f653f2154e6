"""What files of boxes are called by: columns, keys, units, and which case they mean."""

from pathlib import Path, PurePath
from typing import Any, NamedTuple

from edge.data.names import case_name, without_ending

MAX_BYTES = 2**22  # 65,535 boxes of four numbers with seven digits take half of it
UNITS = ("voxels", "LPS", "RAS")
# axes -> format -> its columns; in a first line in any order, with or without underscores
NAMES: dict[int, dict[str, tuple[str, ...]]] = {
    2: {"xyxy": ("x_min", "y_min", "x_max", "y_max"), "xywh": ("x", "y", "width", "height")},
    3: {
        "xyxy": ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max"),
        "xywh": ("x", "y", "z", "width", "height", "depth"),
    },
}
LINES = {  # axes -> columns of the long axis, and of the short one, which may be left out
    axes: tuple(tuple(f"{axis}{end}" for end in ends for axis in "xyz"[:axes]) for ends in ((1, 2), (3, 4)))
    for axes in NAMES
}
OTHER_NAMES = {"w": "width", "h": "height", "d": "depth"}
SAID = {"file": "file case name image filename", "label": "label class organ structure", "units": "units unit frame"}
SAID_BY = {word: key for key, words in SAID.items() for word in words.split()}


class Found(NamedTuple):
    """What a file has of one case."""

    rows: list[list[float]]
    form: str  # xyxy, xywh or lines
    labels: list[str]
    units: Any


def called(path: Path) -> str:
    """What a file of boxes may call a case."""
    return f"{path.name}, {case_name(path)} or, of this folder only, {path.parent.name}/{case_name(path)}"


def listed(units: set[str]) -> str:
    return ", ".join(sorted(one or "none" for one in units))


def is_of(path: Path, said: Any) -> bool:
    """Whether a file that names a case means this one; one that names none does.

    A folder that is named with it must be the case's: `mr.nii.gz` of another patient is another case.
    """
    if said in (None, ""):
        return True
    *folders, last = PurePath(str(said)).parts or (str(said),)
    if folders and tuple(folders) != path.parts[:-1][-len(folders) :]:
        return False
    return last == path.name or case_name(path) in (last, without_ending(last))

"""The two folders a container sees: a case is put in alone, its output is taken out, all else stays as it was left.

What a container leaves is a stranger's: nothing here follows a link, opens anything but a regular file, or reads
without a bound. What is kept is written anew, so that later readers meet data of ours only.
"""

import io
import os
import shutil
import stat
import zipfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import Case, check_labels
from edge.data.files import write_whole
from edge.data.npz import UNREADABLE, read_npz
from edge.errors import CaseError, RunError

MAX_OUTPUT_BYTES = 2**30  # of an output file as it lies on disk
BYTES_PER_PIXEL = 8  # the widest dtype a label map may come in
INPUT_KEYS = ("imgs", "boxes", "spacing")  # what a case is given with: never its truth
LISTED = 3  # names that a message shows


@dataclass(frozen=True)
class Output:
    """What a container left for a case."""

    labels: npt.NDArray | None = None  # (H, W) or (D, H, W), uint8 or uint16; None where there is a problem
    dtype: str | None = None  # as it was in the file
    problem: str | None = None  # one line with the cure


class Mounts:
    """`inputs` and `outputs` within a folder of ours, both writable by whichever user an image has."""

    def __init__(self, folder: Path) -> None:
        """Use the folder, made if missing.

        Raises:
            RunError: it cannot be made.
        """
        self._folder, self.inputs, self.outputs = folder, folder / "inputs", folder / "outputs"
        try:
            for path in (self.inputs, self.outputs):
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o777)
        except OSError as error:
            raise RunError(f"{folder}: cannot make the mounted folders ({error.strerror})") from None

    def put(self, case_path: Path) -> None:
        """Lay a case into `inputs`, as the only one and without its truth; an old output of it is removed.

        Raises:
            CaseError: the case cannot be read, or what the container left in `inputs` stands in its way.
            RunError: our own folder cannot be written.
        """
        name = f"{case_path.stem}.npz"
        aside = self._folder / name  # not written in place: whoever writes to `inputs` could have laid a link there
        _copy_without_truth(case_path, aside)
        for folder in (self.inputs, self.outputs):
            with suppress(OSError):  # it may have become another user's, and open
                folder.chmod(0o777)  # whatever the container before made of it
        try:
            for old in self.inputs.iterdir():
                if old.suffix.lower() == ".npz":
                    remove(old)
            remove(self.outputs / name)
            aside.chmod(0o644)
            aside.replace(self.inputs / name)
        except OSError as error:
            raise CaseError(f"{case_path.stem}: cannot be laid into inputs ({error.strerror})") from None

    def take(self, case: Case) -> Output:
        """Move the case's output out of `outputs` and read it; the input and any link left behind are removed."""
        name = f"{case.name}.npz"
        remove(self.inputs / name)
        output = read_output(self.outputs / name, case)
        remove(self.outputs / name)
        for folder in (self.inputs, self.outputs):
            _remove_links(folder)
        return output


def read_output(path: Path, case: Case) -> Output:
    """Read a stranger's label map for a case; whatever is wrong with it is told in the result, never raised."""
    try:
        output = _read(path, case)
    except CaseError as error:
        output = Output(problem=str(error).removeprefix(f"{case.name}: "))
    except Exception as error:  # what nobody thought of must not end an evaluation of many teams
        output = Output(problem=f"the output cannot be read ({type(error).__name__}: {error})")
    return replace(output, problem=output.problem and _printable(output.problem))


def remove(path: Path) -> None:
    """Remove a file, link or folder, whatever it is; what cannot be removed is left."""
    with suppress(OSError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)  # does not follow links
        else:
            path.unlink()


def _copy_without_truth(case_path: Path, out: Path) -> None:
    """The arrays of a case that a container gets, byte for byte: boxes may be records, which nothing here unpickles.

    Raises:
        CaseError: the case cannot be read.
        RunError: `out` cannot be written.
    """
    content = io.BytesIO()
    try:
        with zipfile.ZipFile(case_path) as case, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as copy:
            for name in case.namelist():
                if (key := Path(name).stem) in INPUT_KEYS and name.endswith(".npy"):
                    copy.writestr(zipfile.ZipInfo(f"{key}.npy"), case.read(name), zipfile.ZIP_DEFLATED)
    except (OSError, ValueError, *UNREADABLE) as error:
        raise CaseError(f"{case_path.stem}: cannot be read ({error})") from None
    write_whole(out, content.getvalue())


def _read(path: Path, case: Case) -> Output:
    problem = _not_a_plain_file(path)
    if problem:
        return Output(problem=problem)
    arrays = read_npz(path, ["segs"], max_bytes=BYTES_PER_PIXEL * int(np.prod(case.shape)))
    if "segs" not in arrays:
        return Output(problem=f"the output has no key 'segs' (it has {_keys(path)}): save it with segs=labels")
    segs = arrays["segs"]
    labels = check_labels(case.name, "segs", segs, case.shape)
    highest = int(labels.max(initial=0))
    if highest > len(case.boxes):
        problem = f"segs has label {highest}, the case has {len(case.boxes)} boxes: label k is of box k"
        return Output(None, str(segs.dtype), problem)
    return Output(labels, str(segs.dtype))


def _not_a_plain_file(path: Path) -> str | None:
    try:
        status = os.lstat(path)
    except OSError:
        there = sorted(other.name for other in path.parent.iterdir() if not other.name.startswith("."))
        more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
        shown = f"the folder has {', '.join(there[:LISTED])}{more}" if there else "the folder is empty"
        return f"no output: {path.name} is not in outputs ({shown}); write it as /workspace/outputs/{path.name}"
    if stat.S_ISLNK(status.st_mode):
        return f"{path.name} is a symbolic link, which is not followed: write a regular file"
    if not stat.S_ISREG(status.st_mode):
        return f"{path.name} is not a regular file: write one .npz file"
    if status.st_size > MAX_OUTPUT_BYTES:
        return f"{path.name} takes {status.st_size / 2**20:.0f} MiB, the limit is {MAX_OUTPUT_BYTES // 2**20}"
    return None


def _printable(text: str) -> str:
    """One line that any terminal and file can hold: names come from strangers."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _keys(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = [repr(Path(name).stem) for name in archive.namelist()[:LISTED]]
    return ", ".join(names) or "none"


def _remove_links(folder: Path) -> None:
    """Remove the symbolic links anywhere in a folder, without following one."""
    for parent, folders, files in os.walk(folder, followlinks=False):
        for path in (Path(parent) / name for name in (*folders, *files)):
            if path.is_symlink():
                remove(path)

"""Half-written files: whose they are, and which of them are nobody's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.data.files import ABANDONED_S, partial_path, remove_partial_files, whole_file, write_whole
from edge.errors import RunError

HALF = """
import os, signal, sys, time
from pathlib import Path
from edge.data.files import whole_file
signal.signal(signal.SIGINT, signal.default_int_handler)
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"first half, ")
    file.flush()
    print("writing", flush=True)
    {then}
    file.write(b"second half")
"""
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]  # as a container has: processes numbered anew


def writer(path: Path, then: str, *before: str) -> subprocess.Popen[str]:
    """A process that has written the first half of a file."""
    command = [*before, sys.executable, "-c", HALF.format(then=then), str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


def partial_files(folder: Path) -> list[Path]:
    return list(folder.glob(".*.partial"))


def test_what_a_killed_process_left_goes_at_once(tmp_path: Path) -> None:
    """SIGKILL in the middle; nobody has its number, or another process that began at another time."""
    writer(tmp_path / "a.npz", "os.kill(os.getpid(), signal.SIGKILL)").communicate()
    (left,) = partial_files(tmp_path)
    reused = left.name.split("-")
    reused[1] = str(os.getpid())
    (tmp_path / "-".join(reused)).touch()
    remove_partial_files(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_running_process_writes_stays(tmp_path: Path) -> None:
    """Also when it has not written for long: it can be seen to run."""
    process = writer(tmp_path / "a.npz", "input()")
    (left,) = partial_files(tmp_path)
    os.utime(left, (0, 0))
    remove_partial_files(tmp_path)
    process.communicate("\n")
    assert process.returncode == 0
    assert (tmp_path / "a.npz").read_bytes() == b"first half, second half"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to make namespaces")
def test_what_another_container_writes_stays(tmp_path: Path) -> None:
    """Two process-ID namespaces on one machine and one folder: neither sees the other's processes."""
    if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make namespaces")
    process = writer(tmp_path / "a.npz", "input()", *NAMESPACE)
    clean = "import pathlib, sys; from edge.data.files import remove_partial_files as r; r(pathlib.Path(sys.argv[1]))"
    for before in ([], NAMESPACE):
        subprocess.run([*before, sys.executable, "-c", clean, str(tmp_path)], check=True)
    process.communicate("\n")
    assert (tmp_path / "a.npz").read_bytes() == b"first half, second half"
    assert partial_files(tmp_path) == []


def test_of_another_machine_only_what_is_old_goes(tmp_path: Path) -> None:
    """A node that shares the folder: its processes cannot be asked for. A folder goes with what is in it."""
    names = [f".a.npz.{'f' * 12}-1-1-0.partial", f".prepared.{'f' * 12}-1-1-1.partial"]
    (tmp_path / names[0]).touch()
    (tmp_path / names[1]).mkdir()
    (tmp_path / names[1] / "pixels").touch()
    remove_partial_files(tmp_path)
    assert len(partial_files(tmp_path)) == len(names)
    for name in names:
        os.utime(tmp_path / name, (time.time() - ABANDONED_S - 60,) * 2)
    remove_partial_files(tmp_path)
    assert [path.name for path in partial_files(tmp_path)] == names[1:]  # what is in it is being written
    os.utime(tmp_path / names[1] / "pixels", (time.time() - ABANDONED_S - 60,) * 2)
    remove_partial_files(tmp_path)
    assert partial_files(tmp_path) == []


def test_other_files_stay(tmp_path: Path) -> None:
    """Whatever their age."""
    for name in ("a.npz.1.partial", ".hidden", "a.npz", ".download.partial", ".a.npz.1.partial"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    remove_partial_files(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_two_writers_of_one_name_in_one_process_do_not_meet(tmp_path: Path) -> None:
    """As two threads would; the last to end has its file there."""
    with whole_file(tmp_path / "a") as first:
        first.write(b"first")
        write_whole(tmp_path / "a", b"second")
        assert (tmp_path / "a").read_bytes() == b"second"
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_name_as_long_as_can_be_is_written(tmp_path: Path) -> None:
    """255 bytes, not all of them whole letters; one more is an error."""
    name = "é" * 127 + "a"
    write_whole(tmp_path / name, b"x")
    assert len(os.fsencode(partial_path(tmp_path / name).name)) < 255
    assert (tmp_path / name).read_bytes() == b"x"
    with pytest.raises(RunError, match="too long"):
        write_whole(tmp_path / f"{name}a", b"x")


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle, also where a shell that runs things in the background lets them ignore it."""
    process = writer(tmp_path / "a.npz", "time.sleep(60)")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert list(tmp_path.iterdir()) == []

"""Archives as data: bounded, never executed, whole or absent."""

import io
import resource
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge.data import npz
from edge.data.files import remove_partial_files
from edge.data.npz import read_npz, write_npz
from edge.errors import CaseError, RunError

MIB = 2**20
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)


def write_member(path: Path, declared: int, held: int) -> None:
    """An archive whose member `imgs` declares and holds so many bytes, all zero and so compressed a thousandfold."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("imgs.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (declared,)})
        for _ in range(held // MIB):
            member.write(bytes(MIB))


def peak_of_reading(path: Path) -> tuple[dict[str, np.ndarray], int]:
    tracemalloc.start()
    try:
        return read_npz(path, ["imgs"]), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["?", "|u1", ">i2", "<u8", ">f4", "<f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (3, 4, 5)])
def test_arrays_come_back_as_numpy_saved_them(tmp_path: Path, dtype: str, order: str, shape: tuple[int, ...]) -> None:
    """Any byte order, memory order and shape, compressed or not; absent keys are left out."""
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape), dtype=dtype, order=order)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", imgs=array, other=array)
        read = read_npz(tmp_path / "a.npz", ["imgs", "absent"])
        assert list(read) == ["imgs"]
        assert read["imgs"].dtype == array.dtype
        assert np.array_equal(read["imgs"], array)


def test_what_is_read_can_be_written_to(tmp_path: Path) -> None:
    """The caller owns the arrays."""
    np.savez(tmp_path / "a.npz", imgs=np.zeros(3))
    read_npz(tmp_path / "a.npz", ["imgs"])["imgs"][0] = 1


def test_numpy_opens_what_is_written(tmp_path: Path) -> None:
    """Keys, dtype, shape and values."""
    write_npz(tmp_path / "a.npz", {"segs": NOISE.T.astype(np.uint16), "none": np.zeros((0, 4))})
    with np.load(tmp_path / "a.npz") as read:
        assert sorted(read) == ["none", "segs"]
        assert read["segs"].dtype == np.uint16
        assert np.array_equal(read["segs"], NOISE.T)
        assert read["none"].shape == (0, 4)


def test_the_bytes_written_depend_on_the_arrays_alone(tmp_path: Path) -> None:
    """Not on the time, the name, or the memory order."""
    write_npz(tmp_path / "a.npz", {"segs": NOISE})
    write_npz(tmp_path / "b.npz", {"segs": np.asfortranarray(NOISE)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_an_array_above_the_limit_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real deflate bomb: 64 MiB in an archive of 64 KiB, refused in less than 1 MiB."""
    monkeypatch.setattr(npz, "MAX_ARRAY_BYTES", MIB)
    write_member(tmp_path / "bomb.npz", declared=64 * MIB, held=64 * MIB)
    assert (tmp_path / "bomb.npz").stat().st_size < MIB / 8
    tracemalloc.start()
    with pytest.raises(CaseError, match=r"^bomb: imgs declares 0\.1 GiB, the limit is"):
        read_npz(tmp_path / "bomb.npz", ["imgs"])
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()


def test_no_more_is_unpacked_than_the_header_declares(tmp_path: Path) -> None:
    """A member of 64 MiB that declares 1000 bytes costs about as much as an honest one."""
    write_member(tmp_path / "bomb.npz", declared=1000, held=64 * MIB)
    read, peak = peak_of_reading(tmp_path / "bomb.npz")
    assert read["imgs"].nbytes == 1000
    assert peak < MIB


def test_a_header_that_declares_more_than_there_is_claims_no_memory(tmp_path: Path) -> None:
    """3 GiB declared, below the limit, with 2 MiB there."""
    write_member(tmp_path / "liar.npz", declared=3 * 2**30, held=2 * MIB)
    tracemalloc.start()
    with pytest.raises(CaseError, match=f"cut short: {2 * MIB} of {3 * 2**30} bytes"):
        read_npz(tmp_path / "liar.npz", ["imgs"])
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    tracemalloc.stop()


def test_a_single_changed_byte_is_noticed(tmp_path: Path) -> None:
    """In the data of a compressed or stored member: by its checksum, or before."""
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", imgs=NOISE)
        content = bytearray((tmp_path / "a.npz").read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(CaseError, match=r"^a: not a readable \.npz archive"):
            read_npz(tmp_path / "a.npz", ["imgs"])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_anywhere_is_a_case_error_in_one_line(tmp_path: Path, compression: int) -> None:
    """Bytes changed, lost or put in, at 300 seeded places of each kind of archive; whatever still reads, reads."""
    buffer = io.BytesIO()
    np.save(buffer, np.arange(12.0).reshape(3, 4))
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("boxes.npy", buffer.getvalue())
    whole = path.read_bytes()
    random = np.random.default_rng(compression)
    refused = 0
    for _ in range(300):
        at, lost, junk = random.integers(len(whole)), random.integers(3), random.bytes(random.integers(3))
        path.write_bytes(whole[:at] + junk + whole[at + lost :])
        try:
            read_npz(path, ["boxes"])
        except CaseError as error:
            refused += 1
            assert str(error).startswith("a: ")
            assert len(str(error).splitlines()) == 1
    assert refused > 100


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """A process may write 10 KB here, and 90 KB of noise are to be written."""
    write_npz(tmp_path / "a.npz", {"segs": np.zeros(3)})
    before = (tmp_path / "a.npz").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(RunError, match=r"^a: cannot write .* \(File too large\); nothing of it was left behind"):
            write_npz(tmp_path / "a.npz", {"segs": NOISE})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == before


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while an array is being written."""

    class Interrupting:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_npz(tmp_path / "a.npz", {"first": NOISE, "segs": Interrupting()})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def test_a_killed_write_is_never_seen_under_its_name_and_is_cleaned_up_later(tmp_path: Path) -> None:
    """SIGKILL between two arrays; what the process left has a hidden name, and goes once the process is gone."""
    program = (
        "import os, signal, sys, pathlib, numpy as np\n"
        "from edge.data.npz import write_npz\n"
        "class Killing:\n"
        "    def __array__(self, *_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        "noise = np.random.default_rng(0).integers(0, 256, (2000, 2000), dtype=np.uint8)\n"
        "write_npz(pathlib.Path(sys.argv[1]), {'first': noise, 'segs': Killing()})\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.npz")], check=False)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.npz.")
    assert left.stat().st_size > MIB
    remove_partial_files(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_a_run_error(tmp_path: Path) -> None:
    """The case and the path are named."""
    shutil.rmtree(tmp_path)
    with pytest.raises(RunError, match=r"^a: cannot write .*a\.npz \(No such file or directory\)"):
        write_npz(tmp_path / "a.npz", {"segs": NOISE})

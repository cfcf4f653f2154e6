"""Broken cases, all in one folder beside good ones: each is named once with its cure, and the good ones are written."""

import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

IMAGE = np.zeros((32, 48, 3), np.uint8)
VOLUME = np.zeros((8, 32, 48), np.uint8)
BOX = np.array([[4, 5, 20, 25]])
BOX_3D = np.array([[4, 5, 2, 20, 25, 6]])
TIMEOUT_S = 120
PEAK_KIB = 2**20  # of the whole run; one array of the folder declares a hundred times as much


class Intruder:
    """Unpickling it makes a folder, which is how a test sees that code was run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@dataclass(frozen=True)
class Broken:
    """A broken case file: its name without .npz, how to write it, what its error line says."""

    name: str
    write: Callable[[Path], None]
    says: str


def arrays(**content: npt.ArrayLike) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **{"imgs": IMAGE, "boxes": BOX, **content})


def only(**content: npt.ArrayLike) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **content)


def header(text: str, *, version: int = 1) -> bytes:
    """The start of a .npy file with any text where its description belongs."""
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin1")


def described(descr: str, shape: str) -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n")


def image_member(content: bytes) -> Callable[[Path], None]:
    """A case whose member imgs.npy holds these bytes."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("imgs.npy", content)
            buffer = io.BytesIO()
            np.save(buffer, BOX)
            archive.writestr("boxes.npy", buffer.getvalue())

    return write


def altered(change: Callable[[bytearray], bytes], compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    """A good case whose bytes were changed afterwards."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            for key, array in {"imgs": IMAGE, "boxes": BOX}.items():
                buffer = io.BytesIO()
                np.save(buffer, array)
                archive.writestr(f"{key}.npy", buffer.getvalue())
        path.write_bytes(change(bytearray(path.read_bytes())))

    return write


def halved(content: bytearray) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytearray, at: int) -> bytes:
    content[at] ^= 0xFF
    return content


def with_member_fields(content: bytearray, *, flags: int | None = None, method: int | None = None) -> bytes:
    """The first member's flags or compression method, in both places where a zip archive states them."""
    for start, offset in ((0, 6), (content.index(b"PK\x01\x02"), 8)):
        for value, at in ((flags, offset), (method, offset + 2)):
            if value is not None:
                content[start + at : start + at + 2] = value.to_bytes(2, "little")
    return content


def unreadable(path: Path) -> None:
    arrays()(path)
    path.chmod(0)


def twin(path: Path) -> None:
    arrays()(path)
    path.with_suffix(".NPZ").write_bytes(path.read_bytes())


def broken_cases(marker: Path) -> list[Broken]:
    archive, damaged = "not a readable .npz archive", "damaged array header"
    return [
        Broken("2DBox_CT_truncated", altered(halved), f"{archive} (File is not a zip file); write it again with"),
        Broken("2DBox_CT_crc", altered(partial(flipped, at=500)), f"{archive} (Bad CRC-32 for file 'imgs.npy')"),
        Broken("2DBox_CT_empty", Path.touch, f"{archive} (File is not a zip file)"),
        Broken("2DBox_CT_text", lambda path: path.write_text("hello"), f"{archive} (File is not a zip file)"),
        Broken("2DBox_CT_encrypted", altered(partial(with_member_fields, flags=1)), f"{archive} (File 'imgs.npy' is e"),
        Broken("2DBox_CT_method", altered(partial(with_member_fields, method=97)), f"{archive} (That compression meth"),
        Broken("2DBox_CT_lzma", altered(partial(flipped, at=60), zipfile.ZIP_LZMA), f"{archive} (Corrupt input data)"),
        Broken("2DBox_CT_pickled", arrays(boxes=np.array([{}], object)), "boxes record 0 lacks x_min"),
        Broken("2DBox_CT_intruder", arrays(imgs=np.array([Intruder(marker)], object)), "pickled), which are never lo"),
        Broken("2DBox_CT_code", image_member(header(f"__import__('os').mkdir({str(marker)!r})")), damaged),
        Broken("2DBox_CT_records", arrays(boxes=np.zeros(3, [("x", float)])), "record 0 lacks x_min, y_min, x_m"),
        Broken("2DBox_CT_record-image", arrays(imgs=np.zeros(9, [("x", "u1")])), "imgs must be a plain numeric array"),
        Broken("2DBox_CT_json", arrays(boxes='{"x_min": 1'), "boxes is text, but no JSON, got '{"),
        Broken("2DBox_CT_weightless", image_member(described("'S0'", "(3,)")), "imgs must be a plain numeric array"),
        Broken("2DBox_CT_no-imgs", only(boxes=BOX), "key 'imgs' is missing; a case needs 'imgs' and 'boxes'"),
        Broken("2DBox_CT_no-boxes", only(imgs=IMAGE), "key 'boxes' is missing; a case needs 'imgs' and 'boxes'"),
        Broken("2DBox_CT_no-array", image_member(b"hello"), "imgs is not a NumPy array"),
        Broken("2DBox_CT_volume", arrays(imgs=VOLUME), "got (8, 32, 48); a 3D case's name starts with 3DBox_"),
        Broken("3DBox_CT_image", arrays(boxes=BOX_3D, imgs=IMAGE[None]), "(1, 32, 48, 3); a 2D case's name starts"),
        Broken("3DBox_CT_flat-boxes", arrays(imgs=VOLUME), "(N, 6) for a 3D case, got (1, 4); a 2D case's name start"),
        Broken("2DBox_CT_deep-boxes", arrays(boxes=BOX_3D), "(N, 4) for a 2D case, got (1, 6); a 3D case's name star"),
        Broken("2DBox_CT_nan-box", arrays(boxes=BOX * np.nan), "boxes must be finite, got NaN or infinity"),
        Broken("2DBox_CT_endless-box", arrays(boxes=[[0, 0, np.inf, 9]]), "boxes must be finite, got NaN or infinity"),
        Broken("2DBox_CT_far-box", arrays(boxes=[[0, 0, 1e9, 9]]), "row 0 (0 0 1e+09 9) lies far outside the image of"),
        Broken("2DBox_CT_past-box", arrays(boxes=[*BOX, [50, 0, 60, 9]]), "row 1 (50 0 60 9) does not touch the image"),
        Broken("3DBox_CT_past-z", arrays(imgs=VOLUME, boxes=BOX_3D + [0, 0, 8] * 2), "does not touch the image of sha"),
        Broken("2DBox_CT_complex", arrays(boxes=BOX + 1j), "boxes must be real numbers, got complex128"),
        Broken("2DBox_CT_words", arrays(boxes=BOX.astype(str)), "boxes must be real numbers, got <U21"),
        Broken("2DBox_CT_word-image", arrays(imgs=IMAGE.astype(str)), "imgs must be numeric, got <U3"),
        Broken("3DBox_CT_hounsfield", arrays(imgs=VOLUME - 1000.5, boxes=BOX_3D), "255, got -1000.5 to -1000.5; wind"),
        Broken("2DBox_CT_nan-image", arrays(imgs=IMAGE * np.nan), "must lie in 0 to 255, got nan to nan; window or sc"),
        Broken("2DBox_CT_negative", arrays(imgs=IMAGE.astype(np.int16) - 1), "must lie in 0 to 255, got -1 to -1; win"),
        Broken("2DBox_CT_no-rows", arrays(imgs=IMAGE[:0]), "imgs is empty, shape (0, 48, 3)"),
        Broken("2DBox_CT_bomb", image_member(described("'|u1'", "(100000, 1000000)")), "declares 93.1 GiB, the limit"),
        Broken("2DBox_CT_short", image_member(described("'|u1'", "(9, 9, 3)") + bytes(9)), "cut short: 9 of 243 bytes"),
        Broken("2DBox_CT_below-zero", image_member(described("'|u1'", "(-9, 9, 3)")), damaged),
        Broken("2DBox_CT_endless", image_member(described("'|u1'", "(1e999,)")), damaged),
        Broken("2DBox_CT_header", image_member(header(" " * 5000)), "header of 5000 bytes, expected less than 4096"),
        Broken("2DBox_CT_swapped", arrays(boxes=[[20, 5, 4, 25]]), "row 0 (20 5 4 25) has a minimum above its maximum"),
        Broken("2DBox_CT_shares", arrays(boxes=[[0.1, 0.2, 0.5, 0.9]]), "lies within 0 to 1; expected x_min y_min x_"),
        Broken("2DBox_CT_folder", Path.mkdir, "is a folder or a device, expected an .npz file"),
        Broken("2DBox_CT_pipe", os.mkfifo, "is a folder or a device, expected an .npz file"),
        Broken("2DBox_CT_dangling", lambda path: path.symlink_to("nowhere"), "does not exist"),
        Broken("2DBox_CT_unreadable", unreadable, "cannot be read (permission denied)"),
        Broken("2DBox_CT_twin", twin, "twin.NPZ and 2DBox_CT_twin.npz would write the same output; rename one"),
    ]  # fmt: skip


GOOD = {
    "2DBox_CT_good": (IMAGE, BOX),
    "2DBox_US_größe 1 脳": (IMAGE, BOX),
    "3DBox_MR_good": (VOLUME, BOX_3D),
    "2DBox_CT_twin": (IMAGE, BOX),  # written by `twin`
}


NAMES = [case.name for case in broken_cases(Path())]


@dataclass(frozen=True)
class Run:
    """What came of the one run over all broken and good cases."""

    cases: dict[str, Broken]
    outputs: Path
    marker: Path
    returncode: int
    stdout: str
    stderr: str
    peak_kib: int


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    samedge_environment: dict[str, str],
    obey_permissions: Callable[[], None],
) -> Run:
    folder = tmp_path_factory.mktemp("bad")
    inputs, outputs, marker = folder / "in", folder / "out", folder / "code-was-run"
    inputs.mkdir()
    cases = broken_cases(marker)
    for case in cases:
        case.write(inputs / f"{case.name}.npz")
    for name, (image, boxes) in GOOD.items():
        np.savez(inputs / f"{name}.npz", imgs=image, boxes=boxes)
    command = [sys.executable, "-m", "edge", "predict", str(inputs), str(outputs), "--model", str(tiny_model)]
    with (folder / "stdout").open("w") as stdout, (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, env=samedge_environment, preexec_fn=obey_permissions
        )
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        _, status, usage = os.wait4(process.pid, 0)
        watchdog.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    texts = [(folder / stream).read_text(encoding="utf-8") for stream in ("stdout", "stderr")]
    return Run({case.name: case for case in cases}, outputs, marker, process.returncode, *texts, usage.ru_maxrss)


def test_there_are_at_least_24_broken_cases() -> None:
    """And their names differ, so that a line of the error output can be told to belong to one."""
    assert len(set(NAMES)) == len(NAMES) >= 24


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_case_is_named_once_with_what_is_wrong(run: Run, name: str) -> None:
    """One line on stderr that starts with the case and says what came, what was expected and the cure."""
    lines = [line for line in run.stderr.splitlines() if line.startswith(f"error: {name}: ")]
    assert len(lines) == 1
    assert run.cases[name].says in lines[0]


def test_nothing_but_one_line_per_broken_case_and_the_count_is_on_stderr(run: Run) -> None:
    """No traceback, no warning of a library, and exit code 1."""
    lines = run.stderr.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [
        f"{len(GOOD)} of {len(run.cases) + len(GOOD)} cases done",
        *["error"] * len(run.cases),
    ]
    assert run.returncode == 1


@pytest.mark.parametrize("name", GOOD)
def test_good_cases_beside_broken_ones_are_written_whole(run: Run, name: str) -> None:
    """The label lies inside its box and covers nearly all of it (the model fills boxes)."""
    image, boxes = GOOD[name]
    x_min, y_min, x_max, y_max = boxes[0, [0, 1, 3, 4]] if boxes.shape[1] == 6 else boxes[0]
    with np.load(run.outputs / f"{name}.npz") as written:
        labels = written["segs"]
    assert labels.shape == image.shape[: 3 if boxes.shape[1] == 6 else 2]
    inside = labels[..., y_min + 1 : y_max, x_min + 1 : x_max]
    middle = inside[4] if labels.ndim == 3 else inside
    assert np.all(middle == 1)
    assert name in run.stdout


def test_nothing_else_is_left_in_the_outputs(run: Run) -> None:
    """No file for a broken case, whole or half."""
    assert {path.name for path in run.outputs.iterdir()} == {f"{name}.npz" for name in GOOD}


def test_a_hundred_declared_gigabytes_take_no_memory(run: Run) -> None:
    """The whole run, engine included, stays under 1 GiB."""
    assert run.peak_kib < PEAK_KIB


def test_code_in_a_case_is_never_run(run: Run, tmp_path: Path) -> None:
    """Neither a pickle's nor a header's; the pickle is live, as NumPy shows when it is told to trust it."""
    assert not run.marker.exists()
    live = tmp_path / "live"
    np.save(tmp_path / "intruder.npy", np.array([Intruder(live)], object))
    np.load(tmp_path / "intruder.npy", allow_pickle=True)
    assert live.exists()

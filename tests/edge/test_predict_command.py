"""`samedge predict` as a process: resumed, killed, interrupted, reported on, out of space."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import Samedge

SIDE = 256  # of the model frame: boxes come back to the pixel
IMAGE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
VOLUME = np.ascontiguousarray(IMAGE.transpose(2, 0, 1))
SLOW_CASES = 14


def write(folder: Path, name: str, image: npt.NDArray, boxes: npt.ArrayLike) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{name}.npz", imgs=image, boxes=boxes)
    return folder / f"{name}.npz"


def segs(path: Path) -> npt.NDArray:
    with np.load(path) as file:
        assert list(file) == ["segs"]
        return file["segs"]


def cpu_seconds_of_children() -> float:
    """Of processes that have ended; wall time would measure the machine's other work too."""
    times = os.times()
    return times.children_user + times.children_system


def test_the_second_run_does_nothing_and_loads_no_model(tmp_path: Path, tiny_model: Path, samedge: Samedge) -> None:
    """It succeeds in under 3 s of CPU time without a model; --overwrite needs one and does the work again."""
    outputs = tmp_path / "out"
    write(tmp_path / "in", "2DBox_CT_1", IMAGE, [[0, 0, 9, 9]])
    first = samedge("predict", tmp_path / "in", outputs, "--model", tiny_model)
    assert (first.returncode, first.stderr) == (0, "1 of 1 cases done\n")
    assert first.stdout.startswith("2DBox_CT_1: 256 x 256, 1 box, ")
    written = (outputs / "2DBox_CT_1.npz").read_bytes()

    (outputs / "2DBox_CT_1.npz").write_bytes(b"kept")
    start = cpu_seconds_of_children()
    again = samedge("predict", tmp_path / "in", outputs, "--model", tmp_path / "no model")
    assert cpu_seconds_of_children() - start < 3
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr == "0 of 0 cases done, 1 were there already\n"
    assert (outputs / "2DBox_CT_1.npz").read_bytes() == b"kept"

    refused = samedge("predict", tmp_path / "in", outputs, "--model", tmp_path / "no model", "--overwrite")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].endswith("model.json is missing; make one with samedge export")
    overwritten = samedge("predict", tmp_path / "in", outputs, "--model", tiny_model, "--overwrite", "-q")
    assert (overwritten.returncode, overwritten.stdout, overwritten.stderr) == (0, "", "")
    assert (outputs / "2DBox_CT_1.npz").read_bytes() == written


def test_reports_and_overlays_tell_what_was_done(tmp_path: Path, tiny_model: Path, samedge: Samedge) -> None:
    """A done, a failed and a skipped case; a picture of at most 1024 px a tile for each done case."""
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    write(inputs, "2DBox_CT_1", IMAGE[:100], [[10, 20, 30, 40]])
    write(inputs, "2DBox_CT_bad", IMAGE, [[np.nan] * 4])
    write(inputs, "2DBox_CT_skipped", IMAGE, [])
    write(inputs, "3DBox_CT_1", VOLUME, [[10, 20, 0, 30, 40, 1], [10, 20, 2, 30, 40, 2]])
    write(outputs, "2DBox_CT_skipped", IMAGE, [])
    options = ["--model", tiny_model, "--precision", "f32", "--overlay", "--threads", 1]
    run = samedge("predict", inputs, outputs, "--report", tmp_path / "report.json", *options)
    assert run.returncode == 1
    assert [line.split(":")[0] for line in run.stdout.splitlines()] == ["2DBox_CT_1", "3DBox_CT_1"]
    assert "1 were there already, 1 of them without the .png asked for: --overwrite does them again" in run.stderr

    report = json.loads((tmp_path / "report.json").read_text())
    cases = {case["name"]: case for case in report["cases"]}
    assert {name: case["status"] for name, case in cases.items()} == {
        "2DBox_CT_1": "done", "2DBox_CT_bad": "failed", "2DBox_CT_skipped": "skipped", "3DBox_CT_1": "done",
    }  # fmt: skip
    assert cases["2DBox_CT_bad"]["error"].startswith("2DBox_CT_bad: boxes must be finite")
    assert (cases["3DBox_CT_1"]["shape"], cases["3DBox_CT_1"]["slices"]) == ([3, SIDE, SIDE], 3)
    stages = cases["3DBox_CT_1"]["stage_s"]
    assert list(stages) == ["read", "preprocess", "encode", "decode", "restore+merge", "save"]
    assert 0 < sum(stages.values()) <= cases["3DBox_CT_1"]["total_s"]
    assert report["engine"]["model"]["name"] == "box filler"
    assert (report["engine"]["precision"], report["engine"]["threads"]) == ("f32", 1)
    assert report["options"]["method"] == "auto"
    assert report["machine"]["cpu"]

    assert cv2.imread(str(outputs / "2DBox_CT_1.png")).shape == (400, 1024, 3)
    assert cv2.imread(str(outputs / "3DBox_CT_1.png")).shape == (1024, 2048, 3)
    assert not (outputs / "2DBox_CT_bad.png").exists()


def test_what_is_chosen_is_what_is_done(tmp_path: Path, tiny_model: Path, samedge: Samedge) -> None:
    """The baseline's box grows by 3 px a slice; the report says by what method and margin."""
    write(tmp_path / "in", "3DBox_CT_1", VOLUME, [[50, 60, 0, 80, 90, 2]])
    chosen = ["--method", "baseline", "--box-margin", 1, "--report", tmp_path / "report.json"]
    run = samedge("predict", tmp_path / "in", tmp_path / "out", "--model", tiny_model, *chosen, "-q")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    options = json.loads((tmp_path / "report.json").read_text())["options"]
    assert (options["method"], options["box_margin_px"]) == ("baseline", 1)
    expected = np.zeros((3, SIDE, SIDE), np.uint8)
    for z, margin in ((0, 3), (1, 0), (2, 3)):
        expected[z, 60 - margin : 91 + margin, 50 - margin : 81 + margin] = 1
    assert np.array_equal(segs(tmp_path / "out" / "3DBox_CT_1.npz"), expected)


@pytest.fixture(scope="module")
def slow_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes whose labels take a while to compress."""
    folder = tmp_path_factory.mktemp("slow") / "in"
    volume = np.tile(VOLUME, (4, 2, 2))
    path = write(folder, "3DBox_CT_00", volume, [[x, x, 0, x + 90, x + 90, 11] for x in range(0, 400, 40)])
    for number in range(1, SLOW_CASES):
        (folder / f"3DBox_CT_{number:02d}.npz").hardlink_to(path)
    return folder


@contextmanager
def running(command: list[object], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def watch(outputs: Path, process: subprocess.Popen[str], enough: int) -> None:
    """Open every result as soon as it can be seen, until there are enough of them."""
    opened: set[Path] = set()
    while len(opened) < enough:
        assert process.poll() is None
        for path in set(outputs.glob("[!.]*")) - opened:
            assert segs(path).max() == 10
            opened.add(path)
        time.sleep(0.002)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_run_stopped_in_the_middle_keeps_whole_files_and_is_completed_by_the_next(
    tmp_path: Path,
    tiny_model: Path,
    slow_inputs: Path,
    samedge: Samedge,
    samedge_environment: dict[str, str],
    sent: signal.Signals,
    code: int,
) -> None:
    """No file is ever half-written under its final name; the next run redoes none and leaves nothing else behind."""
    arguments = ["predict", slow_inputs, tmp_path / "out", "--model", tiny_model, "-q"]
    with running([sys.executable, "-m", "edge", *arguments], samedge_environment) as process:
        watch(tmp_path / "out", process, enough=3)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    if sent == signal.SIGINT:
        assert errors == "interrupted; what is finished is kept, run the same command again to go on\n"
        assert list((tmp_path / "out").glob(".*")) == []
    kept = {path: path.stat().st_ino for path in (tmp_path / "out").glob("[!.]*")}
    assert 3 <= len(kept) < SLOW_CASES
    assert all(segs(path).max() == 10 for path in kept)

    left_half_written(tmp_path / "out" / "3DBox_CT_13.npz")
    assert samedge(*arguments).returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [p.name for p in sorted(slow_inputs.iterdir())]
    assert all(path.stat().st_ino == inode for path, inode in kept.items())
    assert len({path.read_bytes() for path in (tmp_path / "out").iterdir()}) == 1


def left_half_written(path: Path) -> None:
    """Leave what a process leaves that is killed while it writes."""
    program = (
        "import os, pathlib, sys\n"
        "from edge.data.files import whole_file\n"
        "with whole_file(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -9
    assert len(list(path.parent.glob(".*.partial"))) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_costs_the_case_that_does_not_fit(
    tmp_path: Path, tiny_model: Path, small_disk: Path, samedge: Samedge
) -> None:
    """Labels of 900 boxes take more than 8 KiB, one box does not; nothing half-written stays."""
    random = np.random.default_rng(0)
    low = random.integers(0, SIDE - 3, (900, 2))
    write(tmp_path / "in", "2DBox_CT_large", IMAGE, np.concatenate([low, low + 2], axis=1))
    write(tmp_path / "in", "2DBox_CT_small", IMAGE, [[0, 0, 9, 9]])
    run = samedge("predict", tmp_path / "in", small_disk, "--model", tiny_model, "-q")
    assert run.returncode == 1
    assert run.stderr == (
        f"error: 2DBox_CT_large: cannot write {small_disk}/2DBox_CT_large.npz (No space left on device); "
        "nothing of it was left behind\n"
    )
    assert [path.name for path in small_disk.iterdir()] == ["2DBox_CT_small.npz"]
    assert segs(small_disk / "2DBox_CT_small.npz").sum() == 100


@pytest.mark.parametrize("writable", ["nothing", "a file"])
def test_outputs_that_cannot_be_written_are_said_before_any_work(
    tmp_path: Path, samedge: Samedge, obey_permissions: Callable[[], None], writable: str
) -> None:
    """A folder without write permission, and a file where the folder should be: one line, and no model is loaded."""
    write(tmp_path / "in", "2DBox_CT_1", IMAGE, [[0, 0, 9, 9]])
    if writable == "a file":
        (tmp_path / "out").touch()
    else:
        (tmp_path / "out").mkdir(mode=0o555)
    arguments = ["predict", tmp_path / "in", tmp_path / "out", "--model", tmp_path / "no model"]
    run = samedge(*arguments, preexec_fn=obey_permissions)
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'out'}: cannot ")


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_file_on_a_disk_is_given_by_its_path(tmp_path: Path, samedge: Samedge, scheme: str) -> None:
    """Its address would be a folder called file: in this one, where nobody looks."""
    write(tmp_path / "in", "2DBox_CT_1", IMAGE, [[0, 0, 9, 9]])
    for given in ((f"{scheme}://{tmp_path}/in", "out"), (tmp_path / "in", f"{scheme}://{tmp_path}/out")):
        run = samedge("predict", *given, cwd=tmp_path)
        assert run.returncode == 1 and f"give a file on a disk by its path alone, {tmp_path}" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]

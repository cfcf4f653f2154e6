"""A Dask cluster does what one process does, also where a worker is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.cluster import spread
from edge.errors import RunError
from edge.scoring.evaluate import evaluate
from tests.conftest import Samedge

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of Dask's own, in this process
CASES, WORKERS = 6, 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Three worker processes of one thread each, which come again when they die."""
    with distributed.LocalCluster(
        n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
    ) as made:
        yield made


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes that take a second each, and a broken file."""
    folder = tmp_path_factory.mktemp("cases")
    for number in range(CASES):
        image = np.random.default_rng(number).integers(0, 256, (20, 256, 256), dtype=np.uint8)
        truth = np.zeros_like(image)
        truth[5:15, 50:150, 40:120] = 1
        np.savez_compressed(folder / f"3DBox_CT_{number}.npz", imgs=image, gts=truth, boxes=[[40, 50, 5, 119, 149, 14]])
    (folder / "3DBox_CT_broken.npz").touch()
    return folder


def test_a_killed_workers_case_is_done_by_another(
    samedge: Samedge, samedge_environment: dict[str, str], cluster: "distributed.LocalCluster", cases: Path,
    tiny_model: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """Every case once, the bytes those of one process; the broken one is named, and the run ends with 1."""
    options = [str(cases), "--model", str(tiny_model), "--precision", "f32", "--threads", "1"]
    command = [sys.executable, "-m", "edge", "predict", *options, "--dask", cluster.scheduler_address]
    command.insert(5, str(tmp_path / "spread"))
    with (
        distributed.Client(cluster, set_as_default=False) as client,
        subprocess.Popen(
            command, env=samedge_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as run,
    ):
        worker = _busy_worker(client, tmp_path / "spread")
        client.run(_begin_to_write, str(tmp_path / "spread"), workers=[worker])
        os.kill(client.run(os.getpid)[worker], signal.SIGKILL)
        said, errors = run.communicate(timeout=240)
    assert run.returncode == 1, errors
    assert sorted(line.split(":")[0] for line in said.splitlines()) == [f"3DBox_CT_{n}" for n in range(CASES)]
    assert "error: 3DBox_CT_broken: not a readable .npz" in errors and f"{CASES} of {CASES + 1} cases done" in errors
    assert samedge("predict", *[options[0], tmp_path / "alone", *options[1:]], "-q").returncode == 1
    spread, alone = (sorted((tmp_path / name).iterdir()) for name in ("spread", "alone"))
    assert [path.name for path in spread] == [path.name for path in alone] and len(spread) == CASES
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(spread, alone, strict=True))
    truths = tmp_path / "truths"
    truths.mkdir()
    for path in cases.glob("*_[0-9].npz"):
        (truths / path.name).symlink_to(path)
    scored = evaluate(tmp_path / "spread", truths, dask=cluster.scheduler_address)
    assert scored == evaluate(tmp_path / "alone", truths) and len(scored.cases) == CASES


def _begin_to_write(folder: str) -> None:
    """On a worker: what it leaves that is killed while it writes a case; to be gone in the end."""
    from edge.data.files import partial_path

    partial_path(Path(folder) / "3DBox_CT_0.npz").touch()


def _busy_worker(client: "distributed.Client", outputs: Path) -> str:
    """One that is in the middle of a case, once the first case is done."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        busy = [worker for worker, tasks in client.processing().items() if tasks]
        if busy and any(outputs.glob("*.npz")):
            return busy[0]
        time.sleep(0.02)
    raise TimeoutError("no worker began a second case")


def test_a_scheduler_that_does_not_answer_is_named(samedge: Samedge, cases: Path, tmp_path: Path) -> None:
    """In one line; no output folder is left that looks like a result."""
    run = samedge("predict", cases, tmp_path / "out", "--dask", "tcp://127.0.0.1:9")
    assert run.returncode == 1 and len(run.stderr.splitlines()) == 1
    assert "error: tcp://127.0.0.1:9: no Dask scheduler answers" in run.stderr


@pytest.mark.parametrize(("workers", "says"), [(0, "has no worker; start `dask worker"), (1, "has no samedge; pip")])
def test_workers_that_cannot_work_are_said(monkeypatch: pytest.MonkeyPatch, workers: int, says: str) -> None:
    """None at all, and one that cannot import this package, which would be asked for ever."""
    monkeypatch.setattr("edge.cluster.CONNECT_S", 2)
    with distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
    ) as made:
        if workers:
            with distributed.Client(made, set_as_default=False) as client:
                client.run(_forget_the_package)
        with pytest.raises(RunError, match=says):
            list(spread(made.scheduler_address, str, ["a"]))


def _forget_the_package() -> None:
    """As on a machine where it is not installed."""
    import importlib.util

    real = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: None if name == "edge" else real(name, package)

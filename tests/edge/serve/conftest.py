"""A server in this process, as `samedge serve` runs it, and the real client of the protocol."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from edge.data.scan import Reading
from edge.segmenter import Segmenter
from edge.serve.app import create_app
from edge.serve.guard import timed_protocol
from edge.serve.leases import Leases, Limits
from edge.serve.page import Page

KEY = "a key for tests"


@dataclass
class Server:
    """What a test knows of it."""

    url: str
    port: int
    leases: Leases


@contextmanager
def serving(
    segmenter: Segmenter, reading: Reading | None = None, limits: Limits | None = None, folder: Path | None = None
) -> Iterator[Server]:
    """Run it in a thread, on a free port."""
    limits = limits or Limits()
    pages = Page(segmenter, folder, reading).routes()
    app = create_app(segmenter, KEY, reading=reading, limits=limits, pages=pages)
    config = uvicorn.Config(
        app, port=0, http=timed_protocol(limits.header_s), ws="none", log_level="error", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Server(f"http://127.0.0.1:{port}", port, app.state.leases)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def filler(tiny_model: Path) -> Segmenter:
    """A model for whole slices that fills boxes."""
    return Segmenter(tiny_model)


@pytest.fixture(scope="session")
def shipped() -> Segmenter:
    """The model that ships, in f32, which is the same on every CPU."""
    return Segmenter(precision="f32")


@pytest.fixture(scope="module")
def server(filler: Segmenter) -> Iterator[Server]:
    """With a model that fills boxes."""
    with serving(filler) as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Callable[[Server], Any]]:
    """Makes clients, which are closed in the end."""
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

    with ExitStack() as stack:
        yield lambda server: stack.enter_context(nnInteractiveRemoteInferenceSession(server.url, api_key=KEY))

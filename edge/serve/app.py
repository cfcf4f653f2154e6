"""`samedge serve` put together: guard, protocol and pages around one loaded model."""

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from edge.data.scan import Reading
from edge.errors import SamedgeError
from edge.segmenter import Segmenter
from edge.serve.guard import Guard
from edge.serve.leases import Full, Gone, Leases, Limits
from edge.serve.protocol import Protocol

OPEN = re.compile(r"/healthz|/|/static/[^/].*")  # no key needed: nothing of a user's is there
REAP_S = 1.0
STATUS: dict[type[Exception], int] = {Gone: 410, Full: 503}  # of other errors 400


def create_app(
    segmenter: Segmenter,
    key: str,
    *,
    names: Collection[str] = (),
    reading: Reading | None = None,
    limits: Limits | None = None,
    pages: Sequence[BaseRoute] = (),
) -> Starlette:
    """The server as an ASGI application; its leases are `app.state.leases`.

    Args:
        key: that every request but those to OPEN bears.
        names: hosts by name that it is known as, besides `localhost` and addresses.
        reading: modality and window of all images; None: guessed from each.
        limits: None: the usual ones.
        pages: further routes, which the guard watches over as well.
    """
    leases = Leases(limits or Limits())

    @asynccontextmanager
    async def reaping(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_reap(leases))
        yield
        task.cancel()

    app = Starlette(
        routes=[*Protocol(segmenter, leases, reading or Reading()).routes(), *pages],
        middleware=[Middleware(Guard, leases=leases, key=key, names=names, is_open=OPEN)],
        exception_handlers={SamedgeError: _told},
        lifespan=reaping,
    )
    app.state.leases = leases
    return app


def warm_up(segmenter: Segmenter) -> None:
    """Load the graphs of all sizes, so that the first box does not wait for them."""
    import numpy as np

    engine, ladder = segmenter.engine, segmenter.engine.description.ladder
    for size in ladder.sizes if ladder else (engine.description.input_size,):
        embedding = engine.encode(np.zeros((1, 3, size, size), np.float32))
        engine.decode(embedding, np.array([[0, 0, size - 1, size - 1]], np.float32))


async def _reap(leases: Leases) -> None:
    while True:
        await asyncio.sleep(REAP_S)
        leases.reap()


async def _told(request: Request, error: Exception) -> Response:
    status = STATUS.get(type(error), 400)
    return JSONResponse({"detail": str(error)}, status, {"Retry-After": "10"} if status == 503 else {})

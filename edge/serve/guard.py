"""Who may ask, and how much at once: before any route sees a request.

A page from elsewhere that a browser has open may send requests to this machine: it is told by its Origin, and where its
name was made to point here (DNS rebinding) by the Host it asks for. So Host must be an address, `localhost` or a name
that was served on purpose, and Origin, where there is one, the same.
"""

import asyncio
import hmac
import ipaddress
import re
from collections.abc import Collection
from contextlib import nullcontext
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.memory import MIB
from edge.serve.leases import LEASE, Full, Leases

JSON_BYTES = 2**20


class Guard:
    """An ASGI application that lets through to another what may pass."""

    def __init__(
        self, app: ASGIApp, leases: Leases, key: str, names: Collection[str], is_open: re.Pattern[str]
    ) -> None:
        """What is let through.

        Args:
            key: the bearer key.
            names: hosts by name that this server is known as, besides `localhost` and addresses.
            is_open: paths that need no key, matched in full.
        """
        self._app, self._leases, self._key = app, leases, key.encode()
        self._names, self._is_open = {"localhost", *(name.lower() for name in names)}, is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope["path"], headers)
        if refused is not None:
            await _refuse(*refused)(scope, receive, send)
            return
        length = int(headers.get("content-length", 0))
        try:
            asking = self._leases.find(headers.get(LEASE))
            with self._leases.hold(length, asking) if length > JSON_BYTES else nullcontext():
                await self._answer(length, scope, receive, send)
        except Full as error:
            await _refuse(503, str(error))(scope, receive, send)

    async def _answer(self, length: int, scope: Scope, receive: Receive, send: Send) -> None:
        body = _TimedBody(receive, self._leases.limits.body_s + length / MIB)
        begun = False

        async def begin(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, body.receive, begin)
        except TimeoutError:
            if begun or body.is_there:
                raise
            await _refuse(408, "the request's body comes too slowly")(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, f"this server is not known as {host[:80]!r}; start it with --host, or ask by address"
        if "origin" in headers and headers["origin"].partition("://")[2].lower() != host.lower():
            return 403, "requests from other sites' pages are refused"
        if not self._is_open.fullmatch(path) and not self._has_key(headers.get("authorization", "")):
            return 401, "the key is missing or wrong; samedge serve shows it when it starts"
        return self._too_much(headers)

    def _is_ours(self, host: str) -> bool:
        name = re.sub(r":\d*$", "", host.lower())
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name in self._names
        return True

    def _has_key(self, authorization: str) -> bool:
        kind, _, key = authorization.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self._key)

    def _too_much(self, headers: Headers) -> tuple[int, str] | None:
        if "transfer-encoding" in headers:
            return 411, "a body needs a Content-Length"
        length = headers.get("content-length", "0")
        is_json = headers.get("content-type", "").startswith("application/json")
        most = JSON_BYTES if is_json else self._leases.limits.body_mib * MIB
        if not length.isdecimal() or int(length) > most:
            return 413, f"a body of {length[:20]} bytes is more than {most}"
        return None


class _TimedBody:
    """A request's body, all of which must come within a time."""

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive, self._until = receive, asyncio.get_running_loop().time() + seconds
        self.is_there = False

    async def receive(self) -> Message:
        if self.is_there:  # whoever still asks waits for the client to go
            return await self._receive()
        async with asyncio.timeout_at(self._until):
            message = await self._receive()
        self.is_there = not message.get("more_body", False)
        return message


def timed_protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's HTTP, ending connections that begin no request within a time: it has no such limit of its own."""

    class TimedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(seconds, self._end)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._end)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _end(self) -> None:
            self._timer = None
            self.transport.close()

    return TimedProtocol


def _refuse(status: int, detail: str) -> JSONResponse:
    retry = {"Retry-After": "10"} if status == 503 else {}
    return JSONResponse({"detail": detail}, status, {"Connection": "close", **retry})

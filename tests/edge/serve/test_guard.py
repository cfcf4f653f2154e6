"""What must not get in, and what must not take the server from others."""

import resource
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import blosc2
import httpx
import numpy as np
import pytest

from edge.errors import CaseError
from edge.segmenter import Segmenter
from edge.serve.leases import MIB, Full, Gone, Leases, Limits
from edge.serve.session import Session
from edge.serve.wire import announced, pack_array, unpack_array
from tests.edge.serve.conftest import KEY, Server, serving
from tests.edge.serve.test_protocol import begin

AUTHORISED = {"Authorization": f"Bearer {KEY}"}


def talk(port: int, request: bytes, *, wait_s: float = 5) -> bytes:
    """What comes back over a bare connection until the server ends it."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(2**16):
            answer += piece
        return answer


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (401, {}),
        (401, {"Authorization": "Bearer a wrong key"}),
        (401, {"Authorization": f"Basic {KEY}"}),
        (403, {**AUTHORISED, "Origin": "http://evil.example"}),
        (403, {**AUTHORISED, "Origin": "null"}),
        (421, {**AUTHORISED, "Host": "evil.example"}),
        (421, {**AUTHORISED, "Host": "127.0.0.1.evil.example:1527"}),
        (421, {**AUTHORISED, "Host": "localhost.evil.example", "Origin": "http://localhost.evil.example"}),
        (421, {**AUTHORISED, "Host": ""}),
        (200, {**AUTHORISED, "Host": "localhost:1527", "Origin": "http://localhost:1527"}),
        (200, {**AUTHORISED, "Host": "[::1]:1527"}),
        (200, AUTHORISED),
    ],
)
def test_only_who_has_the_key_and_asks_this_server_is_answered(
    server: Server, status: int, headers: dict[str, str]
) -> None:
    """On every route; a claim that is refused takes no session."""
    before = len(server.leases._leases)
    assert httpx.get(f"{server.url}/capabilities", headers=headers).status_code == status
    claimed = httpx.post(f"{server.url}/claim", headers=headers)
    assert claimed.status_code == status and len(server.leases._leases) - before == (status == 200)
    if status == 200:
        server.leases.release(claimed.json()["lease_token"])


def test_only_a_sign_of_life_needs_no_key(server: Server) -> None:
    """And no other path, however it is written, leads to a file or a route."""
    assert httpx.get(f"{server.url}/healthz").json() == {"ok": True}
    for path in (
        "/static/../capabilities", "/static/%2e%2e/capabilities", "//capabilities", "/healthz/../capabilities",
        "/static/../../../../../../etc/passwd", "/..%2f..%2f..%2fetc/passwd", "/healthz/", "/claim/", "http://x/claim",
    ):  # fmt: skip
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        answer = talk(server.port, request.encode())
        assert answer.split()[1] in (b"401", b"404", b"405", b"307"), (path, answer)
        assert b"root:" not in answer and b"supported" not in answer


def test_bodies_are_bounded_before_they_come(server: Server) -> None:
    """By what they announce; and one that announces nothing is not read."""
    head = f"POST /set_image HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
    for extra, status in (
        ("Content-Length: 9999999999999\r\n", b"413"),
        ("Content-Length: 2000000000\r\nContent-Type: application/octet-stream\r\n", b"413"),
        ("Content-Length: 2000000\r\nContent-Type: application/json\r\n", b"413"),
        ("Transfer-Encoding: chunked\r\n", b"411"),
    ):
        assert talk(server.port, f"{head}{extra}\r\n".encode()).split()[1] == status


def chunk(unpacked: int, frame: bytes) -> bytes:
    return struct.pack("<QQ", unpacked, len(frame)) + frame


def packed(shape: tuple[int, ...], *chunks: bytes, name: bytes = b"uint8", magic: bytes = b"NNIA") -> bytes:
    head = struct.pack("<4sBBBB", magic, 1, 1, len(shape), len(name)) + name + struct.pack(f"<{len(shape)}q", *shape)
    return head + struct.pack("<I", len(chunks)) + b"".join(chunks)


ZEROS = bytes(blosc2.compress2(np.zeros(2**26, np.uint8), typesize=1))  # 64 MiB in a few bytes
NOISE = bytes(blosc2.compress2(np.random.default_rng(0).integers(0, 99, 256, np.uint8), typesize=1))
BOMBS = {
    "announces a TiB": packed((1, 2**14, 2**13, 2**13)),
    "overflows": packed((1, 2**62, 2**62, 2**62)),
    "unpacks to more than it announces": packed((1, 1, 16, 16), chunk(256, ZEROS)),
    "chunks of more than it announces": packed((1, 1, 16, 16), *[chunk(2**26, ZEROS)] * 64),
    "chunks of less": packed((1, 4, 16, 16), chunk(256, blosc2.compress2(np.zeros(256, np.uint8)))),
    "reaches beyond its end": packed((1, 1, 16, 16), struct.pack("<QQ", 256, 2**40)),
    "many chunks, none there": packed((1, 1, 16, 16))[:-4] + struct.pack("<I", 2**32 - 1),
    "a damaged frame": packed((1, 1, 16, 16), chunk(256, b"\x05" * 64)),
    "half a frame": packed((1, 1, 16, 16), chunk(256, NOISE[: len(NOISE) // 2])),
    "a cut frame": packed((1, 1, 16, 16), chunk(256, b"")),
    "of objects": packed((1, 1, 16, 16), name=b"object"),
    "of many sides": packed((1,) * 255),
    "without a side": packed((1, 0, 16, 16)),
    "of a negative side": packed((1, -4, -4, 16)),
    "another form": packed((1, 1, 16, 16), magic=b"NNIB"),
    "cut short": packed((1, 1, 16, 16))[:20],
    "nothing": b"",
}


def test_a_bomb_of_an_array_is_refused_and_takes_no_memory(server: Server, connect: Callable[[Server], Any]) -> None:
    """Whatever it announces; the session goes on."""
    client = connect(server)
    target = begin(client)
    headers = {**AUTHORISED, "X-Lease-Token": client._lease_token, "X-Meta": "{}"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, bomb in BOMBS.items():
        answer = httpx.post(f"{server.url}/set_image", content=bomb, headers=headers)
        assert answer.status_code == 400 and "\n" not in answer.json()["detail"], name
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB
    client.add_bbox_interaction([[0, 12], [5, 20], [5, 20]], True)
    assert target.any()


def test_what_is_no_request_of_the_protocol_is_refused(server: Server, connect: Callable[[Server], Any]) -> None:
    """With 400 and a line, never with 500; the session goes on."""
    client = connect(server)
    target = begin(client)
    headers = {**AUTHORISED, "X-Lease-Token": client._lease_token, "Content-Type": "application/json"}
    for path, content in (
        ("add_bbox_interaction", "["), ("add_bbox_interaction", "[]"), ("add_bbox_interaction", "{}"),
        ("add_bbox_interaction", "[" * 100000), ("add_bbox_interaction", '{"bbox_coords": 5}'),
        ("add_bbox_interaction", '{"bbox_coords": [[0, 1e999], [0, 1], [0, 1]]}'),
        ("add_bbox_interaction", '{"bbox_coords": [[0, 1' + "0" * 400 + '], [0, 1], [0, 1]]}'),
        ("add_bbox_interaction", '{"bbox_coords": [["a", "b"], [0, 1], [0, 1]]}'),
        ("set_target_buffer", '{"shape": 5}'), ("set_target_buffer", '{"shape": [12, 200, 256], "dtype": "U9999999"}'),
        ("set_target_buffer", '{"shape": [99999999, 99999999, 99999999], "dtype": "uint8"}'),
    ):  # fmt: skip
        answer = httpx.post(f"{server.url}/{path}", content=content, headers=headers)
        assert answer.status_code == 400 and "\n" not in answer.json()["detail"], content[:80]
    answer = httpx.post(
        f"{server.url}/set_image",
        content=pack_array(np.zeros((1, 4, 8, 8), np.uint8)),
        headers={
            **AUTHORISED,
            "X-Lease-Token": client._lease_token,
            "X-Meta": '{"image_properties": {"spacing": "a"}}',
        },
    )
    assert answer.json() == {"original_image_shape": [1, 4, 8, 8]}  # a spacing that is none is left out
    begin(client)
    client.add_bbox_interaction([[0, 12], [5, 20], [5, 20]], True)
    assert target.any() or client.target_buffer.any()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64, np.float16, np.float64])
def test_arrays_come_back_as_they_were(dtype: type) -> None:
    """Ours and the client's, both ways."""
    from nnInteractive.inference.remote.serialization import pack_array as theirs_pack
    from nnInteractive.inference.remote.serialization import unpack_array as theirs_unpack

    array = (np.random.default_rng(0).random((3, 5, 7)) * 9).astype(dtype)
    for pack, unpack in ((pack_array, theirs_unpack), (theirs_pack, unpack_array), (pack_array, unpack_array)):
        found = unpack(pack(array[:, ::-1]))
        assert found.dtype == array.dtype and np.array_equal(found, array[:, ::-1])
    with pytest.raises(CaseError, match="every side"):
        announced(pack_array(np.zeros((0, 3), dtype)))


def test_two_hundred_sessions_are_not_given_out(server: Server, connect: Callable[[Server], Any]) -> None:
    """Only as many as there may be; who has one goes on."""
    client = connect(server)
    target = begin(client)
    with httpx.Client(base_url=server.url, headers=AUTHORISED) as http:
        answers = [http.post("/claim") for _ in range(200)]
        given = [answer.json()["lease_token"] for answer in answers if answer.status_code == 200]
        assert len(given) == server.leases.limits.sessions - 1
        assert {answer.status_code for answer in answers} == {200, 503} and "Retry-After" in answers[-1].headers
        client.add_bbox_interaction([[0, 12], [5, 20], [5, 20]], True)
        assert target.any()
        for token in given:
            http.post("/release", headers={"X-Lease-Token": token})
        assert http.post("/claim").status_code == 200


def test_slow_clients_do_not_hold_up_others(filler: Segmenter, connect: Callable[[Server], Any]) -> None:
    """A hundred connections that say half a word, on new connections and used ones, and a body that does not come."""
    with ExitStack() as closing, serving(filler, limits=Limits(header_s=1, body_s=1)) as server:
        half, used = b"POST /claim HTTP/1.1\r\nHost: 127.0", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        slow = [
            closing.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)) for _ in range(100)
        ]
        for connection in slow[::2]:
            connection.sendall(used)
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
        for connection in slow:
            connection.sendall(half)
        client = connect(server)
        target = begin(client)
        client.add_bbox_interaction([[0, 12], [5, 20], [5, 20]], True)
        assert target.any()
        head = f"POST /undo HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        head += f"X-Lease-Token: {client._lease_token}\r\nContent-Length: 9\r\n\r\n"
        assert talk(server.port, head.encode() + b"{").split()[1] == b"408"
        time.sleep(0.5)
        for connection in slow:
            while connection.recv(2**16):  # what was answered, then the end
                pass


def test_idle_sessions_make_room_for_others(filler: Segmenter) -> None:
    """The idlest first, never one that was used lately or that asks; and what is under way counts."""
    from edge.data.case import make_case

    now = [0.0]
    leases = Leases(Limits(memory_mib=10, idle_s=1000), clock=lambda: now[0])
    case = make_case("image", np.zeros((1, 1024, 1024), np.uint8), np.zeros((0, 6)))  # 3 MiB of a session
    held = [leases.claim() for _ in range(3)]
    for second, lease in enumerate(held):
        lease.session, lease.active_s = Session(filler, case), float(second)
    with pytest.raises(Full, match="not enough memory"), leases.hold(2 * MIB):
        pass
    now[0] = 31.5  # the first two were used more than 30 s ago
    with leases.hold(2 * MIB, held[0]):
        assert leases.peek(held[0].token) and leases.peek(held[2].token)
        with pytest.raises(Gone):
            leases.get(held[1].token)
        with pytest.raises(Full), leases.hold(4 * MIB, held[0]):
            pass
    with leases.hold(4 * MIB, held[0]):
        pass
    now[0] = 2000
    with pytest.raises(Gone):
        leases.peek(held[2].token)

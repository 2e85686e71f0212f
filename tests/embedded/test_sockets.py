"""The port of the embedded server, and misbehaving clients: too many, too slow, too much data, or invalid data."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from starlette.types import Message
from wsproto.connection import Connection

from lmstudio_async.embedded import EmbeddedServer, ServerLimits, create_app
from lmstudio_async.embedded._timing import ServerTiming
from lmstudio_async.testing import served
from tests.embedded.sockets import (
    CREDENTIALS,
    answer,
    frame,
    other_end,
    plain_socket,
    raw_websocket,
    read_frame,
    upgrade,
    upgraded,
)

#: Bytes that the server accepts from a client before it is authenticated.
STRANGER_BYTES = 32_768
TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    limits = ServerLimits(
        connections=5,
        message_bytes=100_000,
        body_bytes=2000,
        # This is longer than a busy machine takes to connect ten times.
        authentication_seconds=60,
        unread_seconds=0.2,
        unread_bytes=100_000,
    )
    with served(EmbeddedServer(tmp_path_factory.mktemp("models"), limits=limits, threads=1)) as place:
        yield place


@pytest.fixture(scope="module")
def short_limit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a short limit for requests and authentication."""
    limits = ServerLimits(authentication_seconds=0.5)
    with served(EmbeddedServer(tmp_path_factory.mktemp("models"), limits=limits, threads=1)) as place:
        yield place


def greeting(host: str = "localhost") -> bytes:
    return f"GET /lmstudio-greeting HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def received_until(connection: socket.socket, end: bytes) -> bytes:
    """Return the received bytes up to the first piece with ``end``, or all if the server closes before."""
    received = b""
    while end not in received and (piece := connection.recv(65536)):
        received += piece
    return received


def is_served(address: str) -> bool:
    with plain_socket(address, greeting()) as connection:
        return connection.recv(12) == b"HTTP/1.1 200"


# -- socket options


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the server's end in /proc")
def test_accepted_sockets_have_tcp_nodelay_set(address: str) -> None:
    with raw_websocket(address) as connection, other_end(connection) as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- pings


def test_pings_leave_the_random_numbers_of_the_program_alone(tmp_path: Path) -> None:
    before = random.getstate()
    server = EmbeddedServer(tmp_path, threads=1, _timing=ServerTiming(ping_seconds=0.01))
    with served(server) as address, plain_socket(address, upgrade("system")) as connection:
        upgraded(connection)
        pings: set[bytes] = set()
        while len(pings) < 3:
            opcode, payload = read_frame(connection)
            assert opcode == 9
            pings.add(payload)
            connection.sendall(frame(payload, 10))
    assert random.getstate() == before


# -- too many


def test_a_socket_above_the_limit_is_answered_with_503(address: str) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(plain_socket(address))
        response = answer(stack.enter_context(plain_socket(address)))
        assert response.status_code == 503
        assert "too many connections" in response.json()["error"]["message"]
    assert is_served(address)


# -- too slow


@pytest.mark.parametrize("beginning", [b"", b"GET /lmstudio-greeting HTTP/1.1\r\nHost: "])
def test_a_request_that_does_not_arrive_in_time_is_answered_with_408(
    short_limit: str, beginning: bytes
) -> None:
    with plain_socket(short_limit, beginning) as connection:
        assert answer(connection).status_code == 408


def test_a_second_request_has_to_arrive_in_time_too(short_limit: str) -> None:
    received = b""
    # Repeat, because a busy machine may exceed the limit with the first request already.
    while not received.startswith(b"HTTP/1.1 200 "):
        with plain_socket(short_limit, greeting(), b"GET") as connection:
            received = received_until(connection, b"HTTP/1.1 408 ")
    assert b"HTTP/1.1 408 " in received


def test_a_body_has_to_arrive_in_time(short_limit: str) -> None:
    head = b"POST /api/v1/models/load HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{"
    with plain_socket(short_limit, head) as connection:
        assert answer(connection).status_code == 408


def test_a_websocket_has_to_authenticate_in_time(short_limit: str) -> None:
    expected = b'{"success":false,"error":"Authentication timed out"}'
    received = b""
    # Repeat, because a busy machine may exceed the limit with the upgrade already.
    while not received.startswith(b"HTTP/1.1 101 "):
        with plain_socket(short_limit, upgrade("llm")) as connection:
            received = received_until(connection, expected)
    assert expected in received


@pytest.mark.parametrize(
    "sent",
    [
        # A call with a long answer fills the network buffers sooner.
        frame(b'{"type":"rpcCall","endpoint":"nothing","callId":1}'),
        frame(b"x" * 125, 9),
    ],
    ids=["calls", "pings"],
)
def test_a_client_that_reads_nothing_is_disconnected(address: str, sent: bytes) -> None:
    with raw_websocket(address) as connection, pytest.raises(OSError, match=r"reset|[Bb]roken pipe|aborted"):
        while True:
            connection.sendall(sent * 1000)
    assert is_served(address)


# -- too much data


def test_a_message_that_is_too_long_is_answered_with_the_limit(address: str) -> None:
    with raw_websocket(address) as connection:
        connection.sendall(frame(b" " * 100_001))
        opcode, payload = read_frame(connection)
        assert (opcode, payload[:2]) == (8, b"\x03\xf1")  # 1009
        assert b"100000 bytes" in payload
    with raw_websocket(address) as connection:
        connection.sendall(frame(b" " * 60_000, fin=False) + frame(b" " * 60_000, 0))
        assert read_frame(connection)[1][:2] == b"\x03\xf1"


@pytest.mark.parametrize(
    "sent",
    [
        frame(b"", fin=False) + frame(b"", 0, fin=False) * 10_000,
        frame(b"x" * 125, 9) * 1000,
        frame(b" " * 40_000),
    ],
    ids=["fragments", "pings", "message"],
)
def test_a_connection_is_closed_before_credentials_when_it_sends_much(address: str, sent: bytes) -> None:
    with plain_socket(address, upgrade("llm")) as connection:
        upgraded(connection)
        # The server has to read every byte before it closes, because otherwise its close frame would be lost.
        connection.sendall(sent[: STRANGER_BYTES + 1])
        while (closed := read_frame(connection))[0] == 10:
            pass
    assert closed[0] == 8
    assert closed[1][:2] == b"\x03\xf0"  # 1008
    assert b"before the credentials" in closed[1]


def test_credentials_may_be_followed_at_once_by_a_long_message(address: str) -> None:
    with plain_socket(address, upgrade("llm")) as connection:
        upgraded(connection)
        call = b'{"type":"rpcCall","endpoint":"listLoaded","callId":7%s}' % (b" " * 90_000)
        connection.sendall(frame(CREDENTIALS) + frame(call))
        assert read_frame(connection) == (1, b'{"success":true}')
        assert b'"callId":7' in read_frame(connection)[1]


def test_many_frames_without_credentials_end_the_connection(address: str) -> None:
    with plain_socket(address, upgrade("llm")) as connection:
        upgraded(connection)
        connection.sendall(frame(b"{}") * 65)
        assert b"credentials" in read_frame(connection)[1]
        assert read_frame(connection)[0] == 8


def test_a_flood_of_frames_is_parsed_in_many_turns_of_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = 0
    parsed: list[tuple[int, int]] = []
    receive_data = Connection.receive_data

    def next_turn() -> None:
        nonlocal turn
        turn += 1

    def receive(self: Connection, data: bytes | None) -> None:
        parsed.append((turn, len(data or b"")))
        asyncio.get_running_loop().call_soon(next_turn)
        receive_data(self, data)

    server = EmbeddedServer(tmp_path, threads=1, _timing=ServerTiming(turn_seconds=0))
    with served(server) as address, raw_websocket(address) as connection:
        monkeypatch.setattr(Connection, "receive_data", receive)
        connection.sendall(frame(b"", fin=False) + frame(b"", 0, fin=False) * 20_000 + frame(b"end", 9))
        assert read_frame(connection) == (10, b"end")
    turns = [turn for turn, _ in parsed]
    assert len(set(turns)) == len(turns)
    assert max(size for _, size in parsed) <= 1024


def test_a_body_that_is_too_long_is_refused(address: str) -> None:
    with httpx.Client(trust_env=False, timeout=20) as http:
        response = http.post(f"http://{address}/api/v1/models/load", content=b" " * 2001)
    assert response.status_code == 413
    assert "2000 bytes" in response.json()["error"]["message"]


# -- invalid data


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"\xff\xfe\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /llm HTTP/1.1\r\n\r\n",
        b"GET /llm HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /llm HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"A" * 100_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000,
        b"POST /api/v1/models/load HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        CREDENTIALS,
    ],
)
def test_invalid_requests_are_refused(short_limit: str, data: bytes) -> None:
    # Some of the data could begin a request, which the server refuses because it is not complete in time.
    with contextlib.suppress(ConnectionError), plain_socket(short_limit, data) as connection:
        assert 400 <= answer(connection).status_code < 500
    # Repeat, because a busy machine may exceed the limit with a valid request, too.
    while not is_served(short_limit):
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x05hello",  # not masked
        b"\xf1\x80mask",  # reserved bits
        b"\x83\x80mask",  # an unknown opcode
        b"\x80\x80mask",  # a continuation of no message
        frame(b"a", fin=False) + frame(b"b"),
        frame(b"\xff\xfe"),  # no text
        b"\x89\xfe\x00\x7emask" + b"x" * 126,  # a ping that is too long
        b"\x81\xff" + b"\xff" * 8 + b"mask",
        frame(b"\x00", 8),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_invalid_frames_end_only_their_own_connection(address: str, data: bytes) -> None:
    with raw_websocket(address) as other:
        with raw_websocket(address) as connection:
            connection.sendall(data)
            # The server sends a close frame, or only closes the connection.
            with contextlib.suppress(EOFError, ConnectionError):
                assert read_frame(connection)[0] == 8
        other.sendall(frame(b'{"type":"keepAlive"}'))
        assert read_frame(other) == (1, b'{"type":"keepAliveAck"}')


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Host: localhost", b"Host: xn--a-.localhost"),
        (b"Host: localhost", b"Host: xn--\xc2\x80"),
        (b"Connection: Upgrade", b"Connection: Upgrade, \xff"),
        (b"Sec-WebSocket-V", b"Sec-WebSocket-Protocol: \xff\r\nSec-WebSocket-V"),
        (b"Sec-WebSocket-V", b"Sec-WebSocket-Extensions: \xff\r\nSec-WebSocket-V"),
    ],
)
def test_an_upgrade_with_an_unreadable_header_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: bytes, new: bytes
) -> None:
    limits = ServerLimits(connections=1)
    with served(EmbeddedServer(tmp_path, limits=limits, threads=1)) as address:
        # There are more attempts than allowed connections, so that a refused one must not stay counted.
        for _ in range(4):
            with plain_socket(address, upgrade("llm").replace(old, new)) as connection:
                assert answer(connection).status_code == 400
        assert is_served(address)
    assert not caplog.records


# -- addresses and host names


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("LOCALHOST:1234", True),
        ("localhost.", True),
        ("127.0.0.1.", True),
        ("127.9.9.9:80", True),
        ("app.localhost", True),
        ("[::1]:9", True),
        ("[::ffff:127.0.0.1]:9", True),
        ("[::ffff:10.0.0.1]", False),
        ("localhost.evil.example", False),
        ("evil-localhost", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("0.0.0.0", False),
        ("[::]", False),
        ("[::1", False),
        ("localhost evil", False),
        ("localhost:80.evil.example", False),
        ("2130706433", False),
    ],
)
def test_only_host_headers_that_name_this_machine_are_accepted(
    address: str, host: str, allowed: bool
) -> None:
    for path in ("lmstudio-greeting", "api/v1/models", "nothing"):
        with plain_socket(address, greeting(host).replace(b"lmstudio-greeting", path.encode())) as it:
            assert (it.recv(12) == b"HTTP/1.1 403") is not allowed


@pytest.mark.parametrize("namespace", ["llm", "nothing"])
def test_a_websocket_with_a_foreign_host_header_is_refused(address: str, namespace: str) -> None:
    with plain_socket(address, upgrade(namespace, "evil.example")) as connection:
        assert answer(connection).status_code == 403


async def ask(server: EmbeddedServer, served_at: tuple[str, int | None], **headers: str) -> int:
    """Return the status of the response to a request that arrives at this address."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/lmstudio-greeting",
        "raw_path": b"/lmstudio-greeting",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "server": served_at,
        "client": ("10.0.0.9", 5),
        "scheme": "http",
        "root_path": "",
        "http_version": "1.1",
    }
    await create_app(server)(scope, receive, send)
    return statuses[0]


@pytest.mark.parametrize(
    ("served_at", "guests"),
    [
        (("127.0.0.1", 1234), True),
        (("::1", 1234), True),
        (("::ffff:127.0.0.1", 1234), True),
        (("/run/models.sock", None), True),
        (("10.0.0.5", 1234), False),
        (("::ffff:10.0.0.5", 1234), False),
        (("fe80::1", 1234), False),
    ],
)
async def test_an_app_without_tokens_serves_its_own_machine_only(
    served_at: tuple[str, int | None], guests: bool
) -> None:
    assert await ask(EmbeddedServer(), served_at, host="localhost") == (200 if guests else 403)
    assert await ask(EmbeddedServer(api_tokens=[TOKEN]), served_at, host="models.example") == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://[", "//localhost", "evil"])
async def test_web_pages_are_refused_also_by_a_server_with_api_tokens(origin: str) -> None:
    server = EmbeddedServer(api_tokens=[TOKEN])
    assert await ask(server, ("10.0.0.5", 1), host="models.example", origin=origin) == 403


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors in /proc")
def test_refused_connections_leave_no_open_descriptors(address: str) -> None:
    assert is_served(address)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with plain_socket(address, b"\x00\r\n\r\n") as connection:
            answer(connection)
        with raw_websocket(address) as connection:
            connection.sendall(frame(b"", 8))
            while connection.recv(100):
                pass
    # The server closes the last connections a moment after their clients.
    assert len(os.listdir("/proc/self/fd")) <= before + 4

"""Websockets: odd servers, pings, timeouts, and the end of a connection."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from wsproto.events import CloseConnection, Ping, Pong

from lmstudio_async._transport import WebSocketConnector, parse_api_host
from lmstudio_async.errors import (
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioUnreachableError,
)
from tests.clock import let_pass

RawServer = Callable[[Any], AbstractAsyncContextManager[str]]
Connected = Callable[..., AbstractAsyncContextManager[tuple[Any, Any]]]


@asynccontextmanager
async def a_connector(api_host: str, **options: Any) -> AsyncGenerator[WebSocketConnector, None]:
    connector = WebSocketConnector(parse_api_host(api_host), **{"close_timeout": 0.1, **options})
    try:
        yield connector
    finally:
        await connector.aclose()


async def test_the_namespace_is_requested_below_the_prefix(raw_server: RawServer, server_end: Any) -> None:
    paths = []

    async def handler(stream: anyio.abc.SocketStream) -> None:
        end = server_end(stream)
        paths.append(await end.accept())
        await end.receive()

    async with raw_server(handler) as api_host, a_connector(f"http://{api_host}/lm") as connector:
        assert connector.address == f"{api_host}/lm"
        async with connector.connect("embedding"), connector.connect("system"):
            pass
    assert paths == ["/lm/embedding", "/lm/system"]


async def echo(stream: anyio.abc.SocketStream, end: Any) -> None:
    await end.accept()
    while True:
        for frame in await end.receive():
            await end.send(frame)


async def test_an_exception_in_the_block_is_raised_unchanged(raw_server: RawServer, server_end: Any) -> None:
    async with (
        raw_server(lambda stream: echo(stream, server_end(stream))) as api_host,
        a_connector(api_host) as connector,
    ):
        with pytest.raises(ZeroDivisionError, match="mine"):
            async with connector.connect("llm"):
                raise ZeroDivisionError("mine")


async def test_a_closed_connector_raises_closed_error(raw_server: RawServer, server_end: Any) -> None:
    async with (
        raw_server(lambda stream: echo(stream, server_end(stream))) as api_host,
        a_connector(api_host) as connector,
    ):
        async with connector.connect("llm") as transport:
            await transport.send("x")
            assert list(await transport.receive()) == ["x"]
        await connector.aclose()
        await connector.aclose()
        with pytest.raises(LMStudioConnectionClosedError):
            async with connector.connect("llm"):
                pytest.fail("connected")


async def why_broken(transport: Any) -> str:
    for _ in range(2):
        with pytest.raises(LMStudioConnectionBrokenError) as caught:
            await transport.receive()
        with pytest.raises(LMStudioConnectionBrokenError):
            await transport.send("x")
    assert "ws://127.0.0.1:" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("reason", "shown"), [("out of memory", "out of memory"), ("\x1b[2J", r"\x1b[2J")])
async def test_the_error_has_the_code_and_reason_of_the_close_frame(
    connected: Connected, reason: str, shown: str
) -> None:
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            await server.stream.send(bytes(server.connection.send(CloseConnection(1011, reason))))
            assert f"code 1011: {shown}" in await why_broken(transport)
            answer = await server.next_event()
            assert isinstance(answer, CloseConnection)


async def test_a_server_that_hangs_up_breaks_the_connection(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            await server.send("last")
            await server.stream.aclose()
            assert list(await transport.receive()) == ["last"]
            assert "without a close frame" in await why_broken(transport)


async def test_a_reset_within_a_frame_breaks_the_connection(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            await server.stream.send(b"\x81\x7e\x10\x00half")
            raw = server.stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.stream.aclose)
                assert "network failed" in await why_broken(transport) or sys.platform == "win32"


@pytest.mark.parametrize(
    ("data", "expected", "code"),
    [
        (b"\x81\x02\xff\xfe", "not UTF-8", 1007),
        (b"\x81\x82abcdhi", "masked", 1002),
        (b"\x82\x01x", "binary", 1003),
        (b"\x81\x7f" + (1 << 40).to_bytes(8), "above the limit", 1009),
    ],
)
async def test_a_server_that_violates_the_protocol_breaks_the_connection(
    connected: Connected, data: bytes, expected: str, code: int
) -> None:
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            await server.stream.send(data)
            assert expected in await why_broken(transport)
            close_frame = await server.next_event()
            assert isinstance(close_frame, CloseConnection)
            assert close_frame.code == code


async def test_a_ping_is_answered_between_frames(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            ping = bytes(server.connection.send(Ping(b"alive?")))
            await server.stream.send(b"\x81\x03one" + ping + b"\x81\x03two")
            frames: list[str] = []
            while len(frames) < 2:
                frames += await transport.receive()
            assert frames == ["one", "two"]
            answer = await server.next_event()
            assert isinstance(answer, Pong)
            assert answer.payload == b"alive?"


async def test_receive_returns_all_frames_that_have_arrived(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            await server.stream.send(b"\x81\x01x" * 1000)
            assert len(await transport.receive()) == 1000


async def test_messages_of_many_megabytes_go_both_ways(connected: Connected) -> None:
    text = "0123456789abcdef" * (2 << 20)
    received: list[str] = []
    with anyio.fail_after(60):
        async with connected() as (transport, server), anyio.create_task_group() as tasks:

            async def receive() -> None:
                received.extend(await transport.receive())

            tasks.start_soon(receive)
            await server.stream.send(b"\x81\x7f" + len(text).to_bytes(8) + text.encode())
            tasks.start_soon(transport.send, text[: 4 << 20])
            assert list(await server.receive()) == [text[: 4 << 20]]
    assert received == [text]


async def test_a_silent_server_that_answers_pings_keeps_its_connection(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with (
            connected(ping_interval=0.01, ping_timeout=60) as (transport, server),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(transport.receive)
            for _ in range(3):
                ping = await server.next_event()
                assert isinstance(ping, Ping)
                await server.stream.send(bytes(server.connection.send(ping.response())))
            await server.send("here")


async def test_a_server_that_answers_no_ping_breaks_the_connection(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected(ping_interval=0.02, ping_timeout=0.03) as (transport, _):
            assert "did not answer a ping" in await why_broken(transport)


async def test_a_connection_survives_a_long_time_without_a_receiver(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected(ping_interval=2, ping_timeout=2) as (transport, server):
            await server.send("waiting")
            # Longer than both limits together, and no task receives meanwhile.
            await let_pass(5)
            assert list(await transport.receive()) == ["waiting"]


async def test_a_program_that_stood_still_pings_again_before_it_gives_up(
    connected: Connected,
) -> None:
    with anyio.fail_after(3600 + 60):
        async with (
            connected(ping_interval=20, ping_timeout=20) as (transport, server),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(transport.receive)
            await let_pass(20)
            assert isinstance(await server.next_event(), Ping)
            await let_pass(3600)
            assert isinstance(await server.next_event(), Ping)
            await server.send("here")


async def test_sending_to_a_server_that_reads_nothing_times_out(connected: Connected) -> None:
    caught: list[str] = []
    with anyio.fail_after(20):
        async with connected(write_timeout=0.1) as (transport, _):

            async def send() -> None:
                try:
                    while True:
                        await transport.send("x" * 1_000_000)
                except LMStudioConnectionBrokenError as exc:
                    caught.append(str(exc))

            async def receive() -> None:
                with pytest.raises(LMStudioConnectionBrokenError):
                    await transport.receive()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                for _ in range(3):
                    tasks.start_soon(send)
    assert len(caught) == 3
    assert all("did not read the sent data for 0.1 seconds" in message for message in caught)


async def test_a_cancelled_sender_leaves_whole_frames_only(connected: Connected) -> None:
    large = "x" * 8_000_000
    with anyio.fail_after(30):
        async with connected() as (transport, server), anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()

            async def send_and_be_cancelled() -> None:
                with scope:
                    await transport.send(large)

            tasks.start_soon(send_and_be_cancelled)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            tasks.start_soon(transport.send, "after")
            assert list(await server.receive()) == [large]
            assert list(await server.receive()) == ["after"]


async def test_concurrent_senders_share_their_writes(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            write = transport._bytes._write

            async def counting(data: bytes) -> None:
                writes.append(len(data))
                await write(data)

            monkeypatch.setattr(transport._bytes, "_write", counting)
            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(transport.send, str(number))
            received = [text for _ in range(100) for text in await server.receive()]
            assert sorted(received, key=int) == [str(number) for number in range(100)]
    # All senders start before the first write is over; the last write is the close frame.
    assert 1 < len(writes) <= 5


async def test_closing_waits_for_the_close_frame_of_the_server(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected(close_timeout=30) as (transport, server), anyio.create_task_group() as tasks:
            tasks.start_soon(transport.aclose)
            with pytest.raises(EOFError):
                await server.receive()
            with pytest.raises(LMStudioConnectionClosedError):
                await transport.receive()


async def test_closing_takes_over_from_a_cancelled_receiver(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected(close_timeout=30) as (transport, server), anyio.create_task_group() as tasks:
            receiving = anyio.CancelScope()

            async def receive() -> None:
                with receiving:
                    await transport.receive()

            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(transport.aclose)
            await anyio.wait_all_tasks_blocked()
            receiving.cancel()
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(EOFError):
                await server.receive()


async def test_closing_does_not_wait_long_for_a_silent_server(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected(close_timeout=0.05) as (transport, _):
            await transport.aclose()
            with pytest.raises(LMStudioConnectionClosedError):
                await transport.send("x")


async def _echo_until_close_request(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while (text := await websocket.receive_text()) != "leave":
            await websocket.send_text(text)
        await websocket.close(1011, "as you wish")
    except WebSocketDisconnect:
        pass


@pytest.fixture(scope="module")
def real_server() -> Iterator[str]:
    """A server of real libraries, Starlette on uvicorn, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[WebSocketRoute("/llm", _echo_until_close_request)])
    server = uvicorn.Server(uvicorn.Config(app, ws="wsproto", log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


async def test_a_real_server_echoes_the_texts_of_many_connections(real_server: str) -> None:
    async def talk(connector: WebSocketConnector, name: int) -> None:
        received: list[str] = []
        async with connector.connect("llm") as transport:
            sent = [f"{name}: {'ä' * size}" for size in (0, 1, 100, 60_000, 400_000)]
            for text in sent:
                await transport.send(text)
            while len(received) < len(sent):
                received += await transport.receive()
        assert received == sent

    with anyio.fail_after(60):
        async with a_connector(real_server, close_timeout=5) as connector, anyio.create_task_group() as tasks:
            for name in range(5):
                tasks.start_soon(talk, connector, name)


async def test_the_error_has_the_close_code_of_a_real_server(real_server: str) -> None:
    with anyio.fail_after(10):
        async with a_connector(real_server) as connector, connector.connect("llm") as transport:
            await transport.send("leave")
            assert "code 1011: as you wish" in await why_broken(transport)


async def test_a_real_server_refuses_an_unknown_namespace(real_server: str) -> None:
    async with a_connector(real_server) as connector:
        with pytest.raises(LMStudioUnreachableError, match="HTTP status 403"):
            async with connector.connect("nonsense"):
                pytest.fail("connected")

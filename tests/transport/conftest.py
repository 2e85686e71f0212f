"""Connections under test, with a server that writes its bytes by hand, to do things that no real server would."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage

from lmstudio_async._transport import FrameTransport, WebSocketConnector, memory_pair, parse_api_host

Handler = Callable[[anyio.abc.SocketStream], Awaitable[None]]


class ServerEnd:
    """The server's end of a websocket, as simple as can be: any end of the connection raises an ``EOFError``."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self.connection = Connection(ConnectionType.SERVER)
        self.events: list[Any] = []

    async def accept(self) -> str:
        """Do the upgrade, and return the requested path."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += await self.stream.receive()
        lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        digest = hashlib.sha1(headers["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        await self.stream.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest.digest()) + b"\r\n\r\n"
        )
        return lines[0].split()[1]

    async def next_event(self) -> Any:
        while not self.events:
            try:
                data = await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise EOFError from None
            self.connection.receive_data(data)
            self.events.extend(self.connection.events())
        return self.events.pop(0)

    async def send(self, *frames: str) -> None:
        for frame in frames:
            await self.stream.send(bytes(self.connection.send(TextMessage(frame))))

    async def receive(self) -> Sequence[str]:
        text = ""
        while True:
            event = await self.next_event()
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    return [text]
            elif isinstance(event, CloseConnection):
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self.stream.send(bytes(self.connection.send(event.response())))
                raise EOFError  # noqa: TRY004 - the end of the connection, not a wrong type
            elif isinstance(event, Ping):
                await self.stream.send(bytes(self.connection.send(event.response())))

    async def aclose(self) -> None:
        if self.connection.state is ConnectionState.OPEN:
            await self.stream.send(bytes(self.connection.send(CloseConnection(1000))))
        await self.stream.aclose()


@asynccontextmanager
async def _raw_server(handler: Handler) -> AsyncGenerator[str, None]:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                await handler(stream)
            except (EOFError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        yield f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _connected(**options: Any) -> AsyncGenerator[tuple[FrameTransport, ServerEnd], None]:
    ends: list[ServerEnd] = []
    accepted, left = anyio.Event(), anyio.Event()

    async def handler(stream: anyio.abc.SocketStream) -> None:
        end = ServerEnd(stream)
        await end.accept()
        ends.append(end)
        accepted.set()
        await left.wait()

    async with _raw_server(handler) as api_host:
        connector = WebSocketConnector(parse_api_host(api_host), **{"close_timeout": 0.1, **options})
        try:
            async with connector.connect("llm") as transport:
                await accepted.wait()
                yield transport, ends[0]
        finally:
            left.set()
            await connector.aclose()


@asynccontextmanager
async def _memory(**_: Any) -> AsyncGenerator[tuple[FrameTransport, FrameTransport], None]:
    one, other = memory_pair()
    try:
        yield one, other
    finally:
        await one.aclose()
        await other.aclose()


@pytest.fixture
def raw_server() -> Callable[[Handler], AbstractAsyncContextManager[str]]:
    """A context manager: runs a server that leaves every byte to the test, and yields its api_host."""
    return _raw_server


@pytest.fixture
def server_end() -> type[ServerEnd]:
    """The class of a server's end, for tests that accept a websocket themselves."""
    return ServerEnd


@pytest.fixture
def connected() -> Callable[..., AbstractAsyncContextManager[tuple[FrameTransport, ServerEnd]]]:
    """A context manager: connects a websocket, and yields its client's end, which is under test, and its server's."""
    return _connected


@pytest.fixture(params=["memory", "websocket"])
def pair(request: pytest.FixtureRequest) -> Callable[[], AbstractAsyncContextManager[tuple[Any, Any]]]:
    """A context manager for each kind of connection in turn: yields the end under test, and its peer."""
    return _memory if request.param == "memory" else _connected

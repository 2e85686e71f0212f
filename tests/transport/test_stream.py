"""The byte stream under a websocket: taken from httpcore, or replaced by a fallback if it is not found there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.abc
import pytest

from lmstudio_async._transport import WebSocketConnector, _websocket, parse_api_host
from lmstudio_async._transport._asyncio_stream import AsyncioStream
from lmstudio_async._transport._stream import WrappedStream
from lmstudio_async.errors import LMStudioConnectionBrokenError

RawServer = Callable[[Any], AbstractAsyncContextManager[str]]
Connected = Callable[..., AbstractAsyncContextManager[tuple[Any, Any]]]


async def there_and_back(transport: Any, server: Any) -> None:
    for text in ("one", "x" * 10_000):
        await transport.send(text)
        assert list(await server.receive()) == [text]
        await server.send(text)
        assert list(await transport.receive()) == [text]


async def test_the_stream_under_httpcore_is_found_and_used(
    connected: Connected, anyio_backend_name: str
) -> None:
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            await server.send("x")
            await transport.receive()
        assert type(transport._bytes) is (AsyncioStream if anyio_backend_name == "asyncio" else WrappedStream)
        assert getattr(transport._bytes, "_read", None) != transport._stream.read


async def test_httpcores_own_stream_is_used_if_none_is_found_under_it(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_websocket, "stream_under", lambda _: None)
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            await there_and_back(transport, server)
            await server.stream.aclose()
            with pytest.raises(LMStudioConnectionBrokenError, match="without a close frame|network failed"):
                await transport.receive()


async def test_anyios_stream_is_used_if_asyncios_transport_is_not_found(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AsyncioStream, "taking_over", lambda _: None)
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            await there_and_back(transport, server)
            assert type(transport._bytes) is WrappedStream


async def test_texts_that_are_sent_at_once_arrive_in_order(connected: Connected) -> None:
    # Written at once, gathered, too large to be gathered, and more than the system takes at a time.
    texts = ["first", "second", "third", "x" * 100_000, "fifth", "y" * 4_000_000, "seventh"]
    with anyio.fail_after(30):
        async with connected() as (transport, server):
            await there_and_back(transport, server)
            async with anyio.create_task_group() as tasks:
                for text in texts:
                    tasks.start_soon(transport.send, text)
                    await anyio.lowlevel.checkpoint()
                assert [(await server.receive())[0] for _ in texts] == texts


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_client_stops_reading_while_no_task_receives(connected: Connected) -> None:
    piece = "x" * 100_000
    with anyio.fail_after(30):
        async with connected() as (transport, server):
            await there_and_back(transport, server)
            sent, received = 0, 0
            while transport._bytes._transport.is_reading():
                await server.send(piece)
                sent += 1
            while received < sent:
                received += len(await transport.receive())
            assert transport._bytes._transport.is_reading()


async def test_a_frame_that_comes_with_the_upgrade_response_is_not_lost(
    raw_server: RawServer, server_end: Any
) -> None:
    async def handler(stream: anyio.abc.SocketStream) -> None:
        end = server_end(stream)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stream, "send", lambda data, send=stream.send: send(data + b"\x81\x03one"))
            await end.accept()
        await end.receive()
        await end.send("two")
        await end.next_event()

    with anyio.fail_after(10):
        async with raw_server(handler) as api_host:
            connector = WebSocketConnector(parse_api_host(api_host), close_timeout=0.1)
            async with connector.connect("llm") as transport:
                assert list(await transport.receive()) == ["one"]
                await transport.send("go on")
                assert list(await transport.receive()) == ["two"]
            await connector.aclose()

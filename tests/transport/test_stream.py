"""The stream of bytes under a websocket: found where httpcore keeps it, and done without where it is not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.abc
import pytest

from lmstudio_async._transport import WebSocketConnector, _link, parse_api_host
from lmstudio_async.errors import LMStudioConnectionBrokenError

RawServer = Callable[[Any], AbstractAsyncContextManager[str]]
Connected = Callable[..., AbstractAsyncContextManager[tuple[Any, Any]]]


async def test_it_is_where_it_is_looked_for(connected: Connected) -> None:
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            await server.send("x")
            await transport.receive()
        assert transport._inner is not None


async def test_without_it_httpcores_own_stream_does(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "stream_under", lambda _: None)
    with anyio.fail_after(10):
        async with connected() as (transport, server):
            for text in ("one", "x" * 10_000):
                await transport.send(text)
                assert list(await server.receive()) == [text]
                await server.send(text)
                assert list(await transport.receive()) == [text]
            await server.stream.aclose()
            with pytest.raises(LMStudioConnectionBrokenError, match="hung up|network failed"):
                await transport.receive()


async def test_what_comes_together_with_the_servers_agreement_is_not_lost(
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

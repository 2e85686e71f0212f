"""Answers of a worker over HTTP arrive whole, however the network splits them; a broken one raises an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async.embedded._engine._engine_http_client import (
    EngineConnectionLost,
    EngineHttpClient,
    _Chunks,
)

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[EngineHttpClient]:
    """Yield a client to a server that answers one request with these pieces, then closes the connection."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            for piece in pieces:
                await stream.send(piece)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer)
            yield EngineHttpClient(f"http://127.0.0.1:{port}", "key")
            tasks.cancel_scope.cancel()


async def body(client: EngineHttpClient) -> bytes:
    with anyio.fail_after(10):
        exchange = await client.open("GET", "/")
        try:
            return await exchange.read()
        finally:
            await exchange.aclose()


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


async def test_a_streamed_answer_is_the_contents_of_its_chunks() -> None:
    async with answering(HEAD + chunk(b"one "), chunk(b"two\r\n"), chunk(b"three") + b"0\r\n\r\n") as client:
        assert await body(client) == b"one two\r\nthree"


async def test_an_answer_without_chunks_is_as_long_as_its_content_length() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole") as client:
        assert await body(client) == b"whole"


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + chunk(b"one"),
        HEAD + b"5\r\nhal",
        HEAD + b"no number\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal",
        b"",
    ],
    ids=["no last chunk", "half a chunk", "no chunk at all", "too short", "nothing"],
)
async def test_an_incomplete_answer_raises_engine_connection_lost(answer: bytes) -> None:
    async with answering(answer) as client:
        with pytest.raises(EngineConnectionLost):
            await body(client)


@given(contents=st.lists(st.binary(min_size=1, max_size=40)), cuts=st.lists(st.integers(1, 30), min_size=1))
def test_chunks_are_found_wherever_the_network_splits_them(
    contents: Sequence[bytes], cuts: Sequence[int]
) -> None:
    sent = b"".join(map(chunk, contents)) + b"0\r\n\r\n"
    chunks, taken, number = _Chunks(b""), [], 0
    while sent:
        size = cuts[number % len(cuts)]
        chunks.feed(sent[:size])
        taken.append(chunks.take())
        sent, number = sent[size:], number + 1
    assert b"".join(taken) == b"".join(contents)
    assert chunks.ended

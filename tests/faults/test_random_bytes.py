"""Random bytes from a socket: each request ends, the next one succeeds, and no task or descriptor is left."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async import AsyncClient
from lmstudio_async._client_limits import ClientLimits
from tests.faults.attempting import attempt_all
from tests.faults.socket_server import Peer, SocketServer
from tests.scripted_server import INSTANCE
from tests.soak import bounded

SECONDS = 30.0
DESCRIPTORS = Path("/proc/self/fd")


def a_frame(first: int, size: int, masked: bool, payload: bytes) -> bytes:
    """Return a frame whose header may not match its payload."""
    if size < 126:
        length, more = size, b""
    elif size <= 0xFFFF:
        length, more = 126, size.to_bytes(2)
    else:
        length, more = 127, size.to_bytes(8)
    return bytes((first, length | 0x80 * masked)) + more + payload


def true_frame(first: int, payload: bytes) -> bytes:
    return a_frame(first, len(payload), False, payload)


texts = st.sampled_from(
    [
        {"type": "rpcResult", "callId": 1, "result": INSTANCE},
        {"type": "rpcError", "callId": 1, "error": {"title": "no"}},
        {"type": "channelSend", "channelId": 1, "message": {"type": "success", "info": INSTANCE}},
        {"type": "channelClose", "channelId": 1},
        {"success": True},
        None,
    ]
).map(lambda message: json.dumps(message).encode())
opcodes = st.sampled_from([0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x83, 0x88, 0x89, 0x8A, 0xC1]) | st.integers(
    0, 255
)
frames = (
    st.builds(true_frame, st.just(0x81), texts | st.binary(max_size=200))
    | st.builds(true_frame, opcodes, texts | st.binary(max_size=130))
    | st.builds(a_frame, opcodes, st.integers(0, 1 << 62), st.booleans(), st.binary(max_size=20))
    | st.binary(max_size=40)
)
#: The response that the server replaces by random bytes before it closes the connection.
moments = st.sampled_from(["the upgrade", "authentication", "an answer"])
streams = st.lists(frames, max_size=10).map(b"".join)
status_lines = st.sampled_from(
    [b"", b"HTTP/1.1 101 Yes\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 Yes\r\n\r\n"]
)


def saying(data: bytes, moment: str, rudely: bool) -> Callable[[Peer], object]:
    def fault(peer: Peer) -> None:
        if moment == "the upgrade":
            peer.read_request()
        else:
            peer.upgrade()
            first = peer.next_message()
            if moment == "an answer":
                peer.answer(first)
                peer.next_message()
        peer.socket.sendall(data)
        if rudely:
            peer.reset()

    return fault


async def use_all_methods(server: SocketServer) -> None:
    with anyio.fail_after(SECONDS):
        async with AsyncClient(server.api_host, _limits=ClientLimits(back_off_seconds=0.0)) as client:
            requests: list[Callable[[], Awaitable[object]]] = [
                lambda: client.llm.get_model_info("qwen3-4b"),
                lambda: client.llm.load_new_instance("qwen3-4b", "qwen3-4b"),
                lambda: client.llm.model("qwen3-4b"),
                lambda: client.llm.unload("qwen3-4b"),
            ]
            await attempt_all(requests)
            (llm,) = await client.llm.list_loaded()
            assert str(await llm.respond("Hello")) == "Hi"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(stream=streams, status=status_lines, moment=moments, rudely=st.booleans())
@bounded(60)
def test_requests_end_whatever_bytes_the_server_sends(
    backend: str, stream: bytes, status: bytes, moment: str, rudely: bool
) -> None:
    data = status + stream if moment == "the upgrade" else stream
    before = open_descriptors()
    with SocketServer(saying(data, moment, rudely)) as server:
        # No task can be left, because the client's task group waits for all of them.
        anyio.run(use_all_methods, server, backend=backend)
    assert open_descriptors() <= before


def open_descriptors() -> set[str]:
    """Return the open descriptors of this process, also those of garbage; an empty set where there is no /proc."""
    return set(os.listdir(DESCRIPTORS)) if DESCRIPTORS.exists() else set()


@pytest.fixture(autouse=True)
def without_garbage() -> None:
    """Close the descriptors that the garbage of other tests holds."""
    gc.collect()

"""Faults that only a socket can have: of the upgrade, of the frames, of the goodbye."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import lmstudio_sync
from lmstudio_async import (
    AsyncClient,
    LMStudioConnectionBrokenError,
    LMStudioError,
    LMStudioUnreachableError,
)
from lmstudio_async import _session as session_module
from tests.faults.socket_server import Peer, SocketServer, serve_well

Fault = Callable[[Peer], object]
Outcome = tuple[type[LMStudioError], str]


def refusing(reply: bytes) -> Fault:
    def fault(peer: Peer) -> None:
        peer.read_request()
        peer.socket.sendall(reply)

    return fault


def after_a_call(*actions: Callable[[Peer], object]) -> Fault:
    """What the server does in place of answering."""

    def fault(peer: Peer) -> None:
        peer.accept()
        peer.next_message()
        for action in actions:
            action(peer)
        peer.wait_until_left()

    return fault


def raw(data: bytes) -> Callable[[Peer], object]:
    return lambda peer: peer.socket.sendall(data)


def closing(code: int, reason: str = "") -> Callable[[Peer], object]:
    return lambda peer: peer.close(code, reason)


def upgrade_and_reset(peer: Peer) -> None:
    peer.upgrade()
    peer.reset()


WRONG_ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: c29tZXRoaW5nIGVsc2U=\r\n\r\n"
)

NOT_LET_IN: dict[str, tuple[Fault, str]] = {
    "an upgrade refused": (refusing(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), "403"),
    "a page instead": (refusing(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), "200"),
    "a redirection": (refusing(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), "302"),
    "no HTTP": (refusing(b"220 mail.example ESMTP\r\n\r\n"), "not as LM Studio does"),
    "half an answer": (refusing(b"HTTP/1.1 101 Swi"), "not as LM Studio does"),
    "no answer and hanging up": (refusing(b""), "not as LM Studio does"),
    "an upgrade for somebody else": (refusing(WRONG_ACCEPT), "not as a websocket server does"),
    "an upgrade that never comes": (Peer.wait_until_left, "did not let us in"),
    "hanging up after the upgrade": (upgrade_and_reset, "did not let us in"),
}

LOST: dict[str, tuple[Fault, str]] = {
    "a goodbye": (after_a_call(closing(1000)), "code 1000"),
    "a server that goes away": (after_a_call(closing(1001)), "code 1001"),
    "a server that objects": (after_a_call(closing(1008, "not you")), "code 1008: not you"),
    "a server that broke": (after_a_call(closing(1011)), "code 1011"),
    "a server that restarts": (after_a_call(closing(1012)), "code 1012"),
    "a goodbye of the server's own": (after_a_call(closing(4000, "bye")), "code 4000: bye"),
    "a goodbye without a code": (after_a_call(raw(b"\x88\x00")), "code 1005"),
    "a goodbye cut short": (after_a_call(raw(b"\x88\x01\x03")), "lost"),
    "a reset": (after_a_call(Peer.reset), "lost"),
    "a reset within a frame": (after_a_call(raw(b"\x81\x7f\x00\x00"), Peer.reset), "lost"),
    "a binary frame": (after_a_call(raw(b"\x82\x02{}")), "lost"),
    "text that is not UTF-8": (after_a_call(raw(b"\x81\x02\xff\xfe")), "lost"),
    "a frame of an unknown kind": (after_a_call(raw(b"\x83\x00")), "lost"),
    "a frame with a reserved bit": (after_a_call(raw(b"\xc1\x00")), "lost"),
    "a masked frame": (after_a_call(raw(b"\x81\x82\x00\x00\x00\x00{}")), "lost"),
    "a continuation of nothing": (after_a_call(raw(b"\x80\x00")), "lost"),
    "a frame larger than memory": (after_a_call(raw(b"\x81\x7f" + struct.pack(">Q", 1 << 60))), "lost"),
    "HTTP after the upgrade": (after_a_call(raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")), "lost"),
}


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "BACK_OFF_SECONDS", 0.001)
    monkeypatch.setattr(session_module, "CONNECT_SECONDS", 0.5)


@pytest.mark.parametrize("name", NOT_LET_IN)
async def test_whoever_is_not_let_in_is_told_why_and_may_try_again(name: str) -> None:
    fault, match = NOT_LET_IN[name]
    with anyio.fail_after(20), SocketServer(fault) as server:
        async with AsyncClient(server.api_host) as client:
            with pytest.raises(LMStudioUnreachableError, match=match):
                await client.llm.list_loaded()
            assert len(await client.llm.list_loaded()) == 1


@pytest.mark.parametrize("name", LOST)
async def test_a_call_whose_connection_is_lost_is_repeated(name: str) -> None:
    with anyio.fail_after(20), SocketServer(LOST[name][0]) as server:
        async with AsyncClient(server.api_host) as client:
            assert len(await client.llm.list_loaded()) == 1
    assert server.connections == 2


@pytest.mark.parametrize("name", LOST)
async def test_an_unload_whose_connection_is_lost_says_what_happened(name: str) -> None:
    fault, match = LOST[name]
    with anyio.fail_after(20), SocketServer(fault) as server:
        async with AsyncClient(server.api_host) as client:
            with pytest.raises(LMStudioConnectionBrokenError, match=match):
                await client.llm.unload("qwen3-4b")
            await client.llm.unload("qwen3-4b")
    assert server.connections == 2


@pytest.mark.parametrize("name", NOT_LET_IN | LOST)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_blocking_client_comes_through_it_too(name: str, backend: Any) -> None:
    fault, match = (NOT_LET_IN | LOST)[name]
    error = LMStudioUnreachableError if name in NOT_LET_IN else LMStudioConnectionBrokenError
    with SocketServer(fault) as server, lmstudio_sync.Client(server.api_host, backend=backend) as client:
        with pytest.raises(error, match=match):
            client.llm.unload("qwen3-4b")
        client.llm.unload("qwen3-4b")


async def test_a_server_that_was_restarted_on_its_port_is_found_again() -> None:
    with anyio.fail_after(20), SocketServer(serve_well) as server:
        async with AsyncClient(server.api_host) as client:
            (llm,) = await client.llm.list_loaded()
            port = server.port
            server.stop()
            with pytest.raises(LMStudioUnreachableError):
                await client.llm.list_loaded()
            with SocketServer(serve_well, port):
                assert await client.llm.list_loaded() == [llm]
                assert str(await llm.respond("Hello")) == "Hi"


async def test_an_answer_of_a_hundred_megabytes_arrives() -> None:
    def fault(peer: Peer) -> None:
        peer.accept()
        number = peer.next_message()["callId"]
        tokens = "1," * 50_000_000
        peer.say('{"type": "rpcResult", "callId": %d, "result": "%s"}' % (number, tokens))  # noqa: UP031
        while True:
            peer.answer(peer.next_message())

    with anyio.fail_after(60), SocketServer(fault) as server:
        async with AsyncClient(server.api_host) as client:
            assert len(await client.call("llm", "anything")) == 100_000_000
            assert len(await client.llm.list_loaded()) == 1
    assert server.connections == 1

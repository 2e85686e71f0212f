"""Faults that only a socket can have: in the upgrade, in the frames, in the closing handshake."""

from __future__ import annotations

import json
import struct
import threading
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
from lmstudio_async._client_limits import ClientLimits
from tests.faults.sleeping_consumer import SleepingConsumer
from tests.faults.socket_server import Peer, SocketServer, serve_well
from tests.scripted_server import INSTANCE

Fault = Callable[[Peer], object]
Outcome = tuple[type[LMStudioError], str]


def refusing(reply: bytes) -> Fault:
    def fault(peer: Peer) -> None:
        peer.read_request()
        peer.socket.sendall(reply)

    return fault


def after_a_call(*actions: Callable[[Peer], object]) -> Fault:
    """Return a fault: the server carries out these actions instead of answering a call."""

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

NOT_CONNECTED: dict[str, tuple[Fault, str]] = {
    "an upgrade refused": (refusing(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), "403"),
    "a page instead": (refusing(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), "200"),
    "a redirection": (refusing(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), "302"),
    "no HTTP": (refusing(b"220 mail.example ESMTP\r\n\r\n"), "not as LM Studio does"),
    "half an answer": (refusing(b"HTTP/1.1 101 Swi"), "not as LM Studio does"),
    "a connection closed without an answer": (refusing(b""), "not as LM Studio does"),
    "an upgrade with a wrong key": (refusing(WRONG_ACCEPT), "not as a websocket server does"),
    "an upgrade that never comes": (Peer.wait_until_left, "did not complete the handshake"),
    "a reset after the upgrade": (upgrade_and_reset, "lost before the handshake was complete"),
}

LOST: dict[str, tuple[Fault, str]] = {
    "a normal close frame": (after_a_call(closing(1000)), "code 1000"),
    "a server that goes away": (after_a_call(closing(1001)), "code 1001"),
    "a policy violation": (after_a_call(closing(1008, "not you")), "code 1008: not you"),
    "an internal error of the server": (after_a_call(closing(1011)), "code 1011"),
    "a server that restarts": (after_a_call(closing(1012)), "code 1012"),
    "a close frame with a private code": (after_a_call(closing(4000, "bye")), "code 4000: bye"),
    "a close frame without a code": (after_a_call(raw(b"\x88\x00")), "code 1005"),
    "a close frame with half a code": (after_a_call(raw(b"\x88\x01\x03")), "lost"),
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


LIMITS = ClientLimits(back_off_seconds=0.001)


def limits_of(name: str) -> ClientLimits:
    """Return limits for the faulty connection. The next one has `LIMITS`, because it must succeed on a slow machine."""
    return LIMITS._replace(connect_seconds=0.5) if "never comes" in name else LIMITS


@pytest.mark.parametrize("name", NOT_CONNECTED)
async def test_failed_connect_raises_with_the_reason_and_the_next_one_succeeds(name: str) -> None:
    fault, match = NOT_CONNECTED[name]
    with anyio.fail_after(20), SocketServer(fault) as server:
        async with AsyncClient(server.api_host, _limits=limits_of(name)) as client:
            with pytest.raises(LMStudioUnreachableError, match=match):
                await client.llm.list_loaded()
            client._session("llm").limits = LIMITS
            assert len(await client.llm.list_loaded()) == 1


@pytest.mark.parametrize("name", LOST)
async def test_a_call_whose_connection_is_lost_is_repeated(name: str) -> None:
    with anyio.fail_after(20), SocketServer(LOST[name][0]) as server:
        async with AsyncClient(server.api_host, _limits=LIMITS) as client:
            assert len(await client.llm.list_loaded()) == 1
    assert server.connections == 2


@pytest.mark.parametrize("name", LOST)
async def test_an_unload_whose_connection_is_lost_raises_with_the_reason(name: str) -> None:
    fault, match = LOST[name]
    with anyio.fail_after(20), SocketServer(fault) as server:
        async with AsyncClient(server.api_host, _limits=LIMITS) as client:
            with pytest.raises(LMStudioConnectionBrokenError, match=match):
                await client.llm.unload("qwen3-4b")
            await client.llm.unload("qwen3-4b")
    assert server.connections == 2


@pytest.mark.parametrize("name", NOT_CONNECTED | LOST)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_blocking_client_raises_and_its_next_call_succeeds(name: str, backend: Any) -> None:
    fault, match = (NOT_CONNECTED | LOST)[name]
    error = LMStudioUnreachableError if name in NOT_CONNECTED else LMStudioConnectionBrokenError
    limits = limits_of(name)
    with (
        SocketServer(fault) as server,
        lmstudio_sync.Client(server.api_host, backend=backend, _limits=limits) as client,
    ):
        with pytest.raises(error, match=match):
            client.llm.unload("qwen3-4b")
        client._core._session("llm").limits = LIMITS
        client.llm.unload("qwen3-4b")


async def test_a_client_reconnects_to_a_server_restarted_on_its_port(closed_port: int) -> None:
    with anyio.fail_after(20), SocketServer(serve_well, closed_port) as server:
        async with AsyncClient(server.api_host, _limits=LIMITS) as client:
            (llm,) = await client.llm.list_loaded()
            server.stop()
            with pytest.raises(LMStudioUnreachableError):
                await client.llm.list_loaded()
            with SocketServer(serve_well, closed_port):
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
        async with AsyncClient(server.api_host, _limits=LIMITS) as client:
            assert len(await client.call("llm", "anything")) == 100_000_000
            assert len(await client.llm.list_loaded()) == 1
    assert server.connections == 1


# -- unusual but correct behaviour


def in_pieces(peer: Peer, message: dict[str, Any]) -> None:
    """Send the answer in frames of one byte, with pings between them."""
    text = json.dumps({"type": "rpcResult", "callId": message["callId"], "result": [INSTANCE]}).encode()
    data = bytearray()
    for at in range(len(text)):
        first, last = at == 0, at == len(text) - 1
        data += bytes((0x80 * last + 0x01 * first, 1)) + text[at : at + 1]
        if at % 10 == 0 and not last:
            data += b"\x89\x02hi"
    peer.socket.sendall(data)


def in_packets(peer: Peer, message: dict[str, Any]) -> None:
    """Send each byte of the answer by itself."""
    text = json.dumps({"type": "rpcResult", "callId": message["callId"], "result": [INSTANCE]}).encode()
    for byte in b"\x81\x7e" + len(text).to_bytes(2) + text:
        peer.socket.sendall(bytes((byte,)))


def after_a_flood(peer: Peer, message: dict[str, Any]) -> None:
    """Send the answer after a hundred thousand pings, without reading a pong before the last ping."""
    peer.socket.sendall((b"\x89\x7d" + b"x" * 125) * 100_000 + b"\x89\x04last")
    peer.wait_for_pong(b"last")
    peer.answer(message)


@pytest.mark.parametrize("way", [in_pieces, in_packets, after_a_flood], ids=lambda way: way.__name__)
async def test_an_answer_arrives_in_any_split_and_after_any_number_of_pings(
    way: Callable[[Peer, dict[str, Any]], None],
) -> None:
    def fault(peer: Peer) -> None:
        peer.accept()
        way(peer, peer.next_message())
        while True:
            peer.answer(peer.next_message())

    with anyio.fail_after(60), SocketServer(fault) as server:
        async with AsyncClient(server.api_host, _limits=LIMITS) as client:
            for _ in range(2):
                assert len(await client.llm.list_loaded()) == 1
    assert server.connections == 1


async def test_a_consumer_that_sleeps_delays_neither_pongs_nor_other_calls() -> None:
    answered, consumer = threading.Event(), SleepingConsumer()

    def fault(peer: Peer) -> None:
        peer.accept()
        peer.answer(peer.next_message())
        number = peer.next_message()["channelId"]
        piece = {"type": "fragment", "fragment": {"content": "Hi"}}
        frame = json.dumps({"type": "channelSend", "channelId": number, "message": piece})
        # Far more than the buffers of two sockets hold.
        for _ in range(50_000):
            peer.say(frame)
        peer.ping(b"there?")
        peer.wait_for_pong(b"there?")
        answered.set()
        peer.answer(peer.next_message())
        success = {"type": "success", "stats": {"stopReason": "eosFound"}}
        peer.say(json.dumps({"type": "channelSend", "channelId": number, "message": success}))
        peer.wait_until_left()

    with anyio.fail_after(60), SocketServer(fault) as server:
        async with AsyncClient(server.api_host, _limits=LIMITS) as client, anyio.create_task_group() as tasks:
            (llm,) = await client.llm.list_loaded()
            tasks.start_soon(consumer.read, llm)
            await consumer.asleep.wait()
            await anyio.to_thread.run_sync(answered.wait, 50)
            assert await client.llm.list_loaded() == [llm]
            assert (answered.is_set(), consumer.fragments) == (True, 1)
            consumer.awake.set()
    assert consumer.fragments == 50_000
    assert server.connections == 1


async def test_a_thousand_calls_and_two_hundred_answers_share_a_socket() -> None:
    names: list[str] = []
    texts: list[str] = []
    with anyio.fail_after(60), SocketServer(serve_well) as server:
        async with AsyncClient(server.api_host, _limits=LIMITS) as client:
            (llm,) = await client.llm.list_loaded()

            async def call() -> None:
                names.append((await client.llm.get_model_info("qwen3-4b")).identifier)

            async def ask() -> None:
                texts.append("".join([piece.content async for piece in llm.respond_stream("Hello")]))

            async with anyio.create_task_group() as tasks:
                for number in range(1200):
                    tasks.start_soon(ask if number % 6 == 0 else call)
    assert names == ["qwen3-4b"] * 1000
    assert texts == ["Hi"] * 200
    assert server.connections == 1

"""The contract of every connection, whether it goes through a socket or stays in the process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from lmstudio_async._transport import FrameTransport
from lmstudio_async.errors import (
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioRuntimeError,
    LMStudioValueError,
)

Pair = Callable[[], AbstractAsyncContextManager[tuple[FrameTransport, Any]]]


@pytest.mark.parametrize("text", ["", "plain", "żółw 🐢", "x" * 125, "x" * 126, "x" * 65_535, "é" * 65_536])
async def test_a_frame_arrives_as_it_was_sent(pair: Pair, text: str) -> None:
    with anyio.fail_after(10):
        async with pair() as (client, peer):
            await client.send(text)
            assert list(await peer.receive()) == [text]
            await peer.send(text)
            assert list(await client.receive()) == [text]


async def test_frames_of_concurrent_senders_arrive_in_the_order_of_sending(pair: Pair) -> None:
    received: list[str] = []
    with anyio.fail_after(10):
        async with pair() as (client, peer):
            order: list[str] = []

            async def sender(name: int) -> None:
                for number in range(20):
                    order.append(f"{name}-{number}")
                    await client.send(order[-1])

            async with anyio.create_task_group() as tasks:
                for name in range(20):
                    tasks.start_soon(sender, name)
            while len(received) < 400:
                received += await peer.receive()
            assert received == order


async def test_receive_waits_for_a_frame(pair: Pair) -> None:
    received: list[str] = []
    with anyio.fail_after(10):
        async with pair() as (client, peer):

            async def receive() -> None:
                received.extend(await client.receive())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                await anyio.wait_all_tasks_blocked()
                assert received == []
                await peer.send("at last")
    assert received == ["at last"]


async def test_a_cancelled_receive_loses_nothing(pair: Pair) -> None:
    with anyio.fail_after(10):
        async with pair() as (client, peer):
            with anyio.move_on_after(0.01):
                await client.receive()
            await peer.send("still here")
            assert list(await client.receive()) == ["still here"]


async def test_a_second_receiver_is_refused(pair: Pair) -> None:
    with anyio.fail_after(10):
        async with pair() as (client, peer), anyio.create_task_group() as tasks:
            tasks.start_soon(client.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(LMStudioRuntimeError, match="one task receives"):
                await client.receive()
            await peer.send("for the first one")


async def test_half_a_surrogate_pair_is_refused_and_harms_nothing(pair: Pair) -> None:
    with anyio.fail_after(10):
        async with pair() as (client, peer):
            with pytest.raises(LMStudioValueError, match="character 2"):
                await client.send("ab\ud800")
            await client.send("fine")
            assert list(await peer.receive()) == ["fine"]


async def test_every_call_after_aclose_raises_closed_error(pair: Pair) -> None:
    with anyio.fail_after(10):
        async with pair() as (client, _):
            await client.aclose()
            await client.aclose()
            for _ in range(2):
                with pytest.raises(LMStudioConnectionClosedError):
                    await client.receive()
                with pytest.raises(LMStudioConnectionClosedError):
                    await client.send("x")


async def test_closing_wakes_the_receiving_task(pair: Pair) -> None:
    caught: list[type[Exception]] = []
    with anyio.fail_after(10):
        async with pair() as (client, _):

            async def receive() -> None:
                try:
                    await client.receive()
                except LMStudioConnectionClosedError as exc:
                    caught.append(type(exc))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                await anyio.wait_all_tasks_blocked()
                await client.aclose()
    assert caught == [LMStudioConnectionClosedError]


async def test_frames_that_were_sent_before_the_peer_closed_still_arrive(pair: Pair) -> None:
    received: list[str] = []
    with anyio.fail_after(10):
        async with pair() as (client, peer):
            await peer.send("one")
            await peer.send("two")
            await peer.aclose()
            while len(received) < 2:
                received += await client.receive()
            for _ in range(2):
                with pytest.raises(LMStudioConnectionBrokenError):
                    await client.receive()
                with pytest.raises(LMStudioConnectionBrokenError):
                    await client.send("x")
    assert received == ["one", "two"]


async def test_aclose_completes_in_a_cancelled_scope(pair: Pair) -> None:
    with anyio.fail_after(10):
        async with pair() as (client, _):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await client.aclose()
            with pytest.raises(LMStudioConnectionClosedError):
                await client.receive()

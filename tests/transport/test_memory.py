"""Connections inside one process: backpressure, and frames that are received together."""

from __future__ import annotations

import anyio
import pytest

from lmstudio_async._transport import memory_pair
from lmstudio_async.errors import LMStudioConnectionBrokenError, LMStudioConnectionClosedError


async def test_a_sender_waits_for_a_receiver_that_is_far_behind() -> None:
    one, other = memory_pair(max_unread=3)
    sent: list[int] = []

    async def send() -> None:
        for number in range(6):
            await one.send(str(number))
            sent.append(number)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            assert sent == [0, 1, 2]
            assert list(await other.receive()) == ["0", "1", "2", "3"]
    assert sent == [0, 1, 2, 3, 4, 5]
    assert list(await other.receive()) == ["4", "5"]


@pytest.mark.parametrize("own", [True, False])
async def test_closing_frees_a_waiting_sender(own: bool) -> None:
    one, other = memory_pair(max_unread=1)
    expected = LMStudioConnectionClosedError if own else LMStudioConnectionBrokenError
    caught: list[type[Exception]] = []

    async def send() -> None:
        try:
            await one.send("b")
        except (LMStudioConnectionBrokenError, LMStudioConnectionClosedError) as exc:
            caught.append(type(exc))

    with anyio.fail_after(20):
        await one.send("a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            await (one if own else other).aclose()
    assert caught == [expected]


async def test_receive_returns_all_waiting_frames() -> None:
    one, other = memory_pair()
    for number in range(100):
        await one.send(str(number))
    assert len(await other.receive()) == 100

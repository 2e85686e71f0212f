"""Longest time that a client blocks the event loop at its first use and at its second use in a process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

TICK_SECONDS = 0.001


class Ticker:
    """A task that checks the time once a millisecond. Its longest gap is the longest wait of any other task."""

    def __init__(self, sleep: Callable[[float], Awaitable[object]]) -> None:
        self.longest = 0.0
        self.is_stopped = False
        self._sleep = sleep

    async def run(self) -> None:
        last = time.perf_counter()
        while not self.is_stopped:
            await self._sleep(TICK_SECONDS)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    figures = {}
    for name in ("first", "second"):
        ticker = Ticker(asyncio.sleep)
        ticking = asyncio.create_task(ticker.run())
        await asyncio.sleep(10 * TICK_SECONDS)
        await _use(lms, host)
        ticker.is_stopped = True
        await ticking
        figures[f"{name}.gap"] = ticker.longest
    return figures


async def measure_trio(lms: Any, host: str) -> dict[str, float]:
    import trio

    figures = {}
    for name in ("first", "second"):
        ticker = Ticker(trio.sleep)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticker.run)
            await trio.sleep(10 * TICK_SECONDS)
            await _use(lms, host)
            ticker.is_stopped = True
        figures[f"{name}.gap"] = ticker.longest
    return figures


async def _use(lms: Any, host: str) -> None:
    async with lms.AsyncClient(host) as client:
        llm = await client.llm.model("tiny")
        async for _ in await llm.respond_stream("n=10 mode=burst"):
            pass
        await client.llm.list_loaded()

"""Calls: one after the other, and many in parallel."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.meter import Meter
from benchmarks.plain import PlainLoop

SEQUENTIAL = 1000


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    async with lms.AsyncClient(host) as client:
        llm = await client.llm.model("tiny")

        async def call(times: int) -> None:
            for _ in range(times):
                await llm.count_tokens("How many?")

        async def at_once(tasks: int, times: int) -> Meter:
            with Meter(tasks * times) as meter:
                async with asyncio.TaskGroup() as group:
                    for _ in range(tasks):
                        group.create_task(call(times))
            return meter

        await call(100)
        with Meter(SEQUENTIAL) as sequential:
            await call(SEQUENTIAL)
        await at_once(100, 2)
        hundred = await at_once(100, 20)
        thousand = await at_once(1000, 3)
    return sequential.figures("sequential") | hundred.figures("hundred") | thousand.figures("thousand")


def measure_sync(lms: Any, host: str) -> dict[str, float]:
    with lms.Client(host) as client:
        llm = client.llm.model("tiny")
        for _ in range(100):
            llm.count_tokens("How many?")
        with Meter(SEQUENTIAL) as sequential:
            for _ in range(SEQUENTIAL):
                llm.count_tokens("How many?")
    return sequential.figures("sequential")


async def measure_plain(loop: PlainLoop) -> dict[str, float]:
    async def call(number: int) -> None:
        await loop.send({"type": "rpcCall", "endpoint": "countTokens", "callId": number, "parameter": {}})
        assert (await loop.receive())["result"]["tokenCount"] == 7

    for number in range(100):
        await call(number)
    with Meter(SEQUENTIAL) as sequential:
        for number in range(SEQUENTIAL):
            await call(number)
    return sequential.figures("sequential")

"""Many parallel answers, in a burst and at the speed of models; and one answer at the speed of a fast model."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.meter import Meter

STREAMS = 100
PER_SECOND = 50
EACH = 100


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    async with lms.AsyncClient(host) as client:
        llm = await client.llm.model("tiny")
        first, last, count = 0.0, 0.0, 0

        async def read(order: str) -> None:
            nonlocal first, last, count
            async for _ in await llm.respond_stream(order):
                last = time.perf_counter()
                first = first or last
                count += 1

        async def read_all(order: str, streams: int) -> Meter:
            nonlocal first, count
            first, count = 0.0, 0
            with Meter(streams * EACH) as meter:
                async with asyncio.TaskGroup() as group:
                    for _ in range(streams):
                        group.create_task(read(order))
            assert count == streams * EACH
            return meter

        await read("n=100 mode=burst")
        burst = await read_all(f"n={EACH} mode=burst", STREAMS)
        paced = await read_all(f"n={EACH} mode=rate rate={PER_SECOND}", STREAMS)
        reached = (count - STREAMS) / (last - first) / (STREAMS * PER_SECOND)
        one = await read_all(f"n={EACH} mode=rate rate=500", 1)
    return (
        burst.figures("burst")
        | paced.figures("paced")
        | one.figures("one")
        | {"paced.reached": min(reached, 1.0)}
    )

"""A thousand open channels: opening them, calling beside them, leaving them."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.measuring import Meter

CHANNELS = 1000
CALLS = 200


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    streams: list[Any] = []
    async with lms.AsyncClient(host) as client:
        llm = await client.llm.model("tiny")

        async def call() -> float:
            times = []
            for _ in range(CALLS):
                began = time.perf_counter()
                await llm.count_tokens("How many?")
                times.append(time.perf_counter() - began)
            return statistics.median(times)

        async def open_one() -> None:
            stream = await llm.respond_stream("n=1 mode=hold")
            streams.append(await stream.__aenter__())

        await call()
        alone = await call()
        await open_one()
        with Meter(CHANNELS) as opening:
            for _ in range(CHANNELS):
                await open_one()
        beside = await call()
    return opening.figures("open") | {"call.beside": beside / alone}

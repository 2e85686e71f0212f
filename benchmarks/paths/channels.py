"""Opening of 1000 channels, calls while they are open, and the closing of a client that has 100 open channels."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.meter import Meter

CHANNELS = 1000
CALLS = 200
LEFT_OPEN = 100
TIMES = 5


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
    closing = [await _close(lms, host) for _ in range(TIMES)]
    return opening.figures("open") | {"call.beside": beside / alone, "close.wall": statistics.median(closing)}


async def _close(lms: Any, host: str) -> float:
    client = await lms.AsyncClient(host).__aenter__()
    llm = await client.llm.model("tiny")
    # Keep the streams until the end, because a stream without a reference is cancelled.
    streams = [await llm.respond_stream("n=1 mode=hold") for _ in range(LEFT_OPEN)]
    # The server answers in order: after this call, all channels are open.
    await llm.count_tokens("How many?")
    began = time.perf_counter()
    await client.__aexit__(None, None, None)
    took = time.perf_counter() - began
    del streams
    return took

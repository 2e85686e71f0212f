"""Memory that an open channel takes."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

CHANNELS = 300


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    streams: list[Any] = []
    async with lms.AsyncClient(host) as client:
        llm = await client.llm.model("tiny")

        async def open_some(count: int) -> None:
            for _ in range(count):
                stream = await llm.respond_stream("n=1 mode=hold")
                streams.append(await stream.__aenter__())
            await llm.count_tokens("All there?")

        # Do not measure the first channels, because they fill caches that do not belong to a channel.
        await open_some(10)
        tracemalloc.start()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        await open_some(CHANNELS)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return {"channel.KiB": (after - before) / CHANNELS / 1024}

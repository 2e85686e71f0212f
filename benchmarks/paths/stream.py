"""One long answer, sent as fast as possible."""

from __future__ import annotations

from typing import Any

from benchmarks.meter import Meter
from benchmarks.plain import PlainLoop, predict

FRAGMENTS = 10_000
ORDER = f"n={FRAGMENTS} mode=burst"


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    async with lms.AsyncClient(host) as client:
        llm = await client.llm.model("tiny")

        async def read(order: str) -> int:
            count = 0
            async for fragment in await llm.respond_stream(order):
                count += len(fragment.content) > 0
            return count

        await read("n=100 mode=burst")
        with Meter(FRAGMENTS) as meter:
            assert await read(ORDER) == FRAGMENTS
    return meter.figures("stream")


def measure_sync(lms: Any, host: str) -> dict[str, float]:
    with lms.Client(host) as client:
        llm = client.llm.model("tiny")

        def read(order: str) -> int:
            count = 0
            for fragment in llm.respond_stream(order):
                count += len(fragment.content) > 0
            return count

        read("n=100 mode=burst")
        with Meter(FRAGMENTS) as meter:
            assert read(ORDER) == FRAGMENTS
    return meter.figures("stream")


async def measure_plain(loop: PlainLoop) -> dict[str, float]:
    async def read(order: str, channel: int) -> int:
        await predict(loop, order, channel)
        count = 0
        while (message := await loop.receive())["type"] != "channelClose":
            count += message["message"]["type"] == "fragment"
        return count

    await read("n=100 mode=burst", 1)
    with Meter(FRAGMENTS) as meter:
        assert await read(ORDER, 2) == FRAGMENTS
    return meter.figures("stream")

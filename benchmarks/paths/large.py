"""Large messages from the server: one of 4 MiB, one of 32 MiB."""

from __future__ import annotations

from typing import Any

from benchmarks.meter import Meter
from benchmarks.plain import PlainLoop

SIZES = {"4MiB": 4 * 2**20, "32MiB": 32 * 2**20}
TIMES = 3


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    figures: dict[str, float] = {}
    async with lms.AsyncClient(host) as client:
        for name, size in SIZES.items():
            await client.call("llm", f"big:{size}")
            with Meter(TIMES) as meter:
                for _ in range(TIMES):
                    assert len(await client.call("llm", f"big:{size}")) == size
            figures |= meter.figures(name)
    return figures


async def measure_plain(loop: PlainLoop) -> dict[str, float]:
    figures: dict[str, float] = {}

    async def call(size: int) -> int:
        await loop.send({"type": "rpcCall", "endpoint": f"big:{size}", "callId": size})
        return len((await loop.receive())["result"])

    for name, size in SIZES.items():
        await call(size)
        with Meter(TIMES) as meter:
            for _ in range(TIMES):
                assert await call(size) == size
        figures |= meter.figures(name)
    return figures

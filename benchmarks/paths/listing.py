"""A list of 200 downloaded models."""

from __future__ import annotations

from typing import Any

from benchmarks.meter import Meter

TIMES = 50


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    async with lms.AsyncClient(host) as client:
        await client.list_downloaded_models()
        with Meter(TIMES) as meter:
            for _ in range(TIMES):
                assert len(await client.list_downloaded_models()) == 200
    return meter.figures("list")


def measure_sync(lms: Any, host: str) -> dict[str, float]:
    with lms.Client(host) as client:
        client.list_downloaded_models()
        with Meter(TIMES) as meter:
            for _ in range(TIMES):
                assert len(client.list_downloaded_models()) == 200
    return meter.figures("list")

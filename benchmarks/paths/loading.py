"""A load that reports its progress a thousand times."""

from __future__ import annotations

from typing import Any

from benchmarks.meter import Meter

LOADS = 5


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    received: list[float] = []
    async with lms.AsyncClient(host) as client:
        await client.llm.load_new_instance("tiny:10", **_callback(lms, received))
        with Meter(LOADS) as meter:
            for _ in range(LOADS):
                await client.llm.load_new_instance("tiny:1000", **_callback(lms, received))
    assert received[-1] == 1.0
    return meter.figures("load")


def measure_sync(lms: Any, host: str) -> dict[str, float]:
    received: list[float] = []
    with lms.Client(host) as client:
        client.llm.load_new_instance("tiny:10", **_callback(lms, received))
        with Meter(LOADS) as meter:
            for _ in range(LOADS):
                client.llm.load_new_instance("tiny:1000", **_callback(lms, received))
    assert received[-1] == 1.0
    return meter.figures("load")


def _callback(lms: Any, received: list[float]) -> dict[str, Any]:
    """Return the callback for progress as a keyword argument, whose name differs between the packages."""
    return {"on_load_progress" if lms.__name__ == "lmstudio" else "on_progress": received.append}

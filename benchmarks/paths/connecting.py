"""Connecting and closing of a client, in a process that has used a client before."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.meter import Meter

TIMES = 5


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    cpu, wall, closing = [], [], []
    for _ in range(TIMES + 1):
        with Meter() as meter:
            client = await lms.AsyncClient(host).__aenter__()
            await client.llm.list_loaded()
        began = time.perf_counter()
        await client.__aexit__(None, None, None)
        closing.append(time.perf_counter() - began)
        cpu.append(meter.cpu)
        wall.append(meter.wall)
    return _medians(cpu, wall, closing)


def measure_sync(lms: Any, host: str) -> dict[str, float]:
    cpu, wall, closing = [], [], []
    for _ in range(TIMES + 1):
        with Meter() as meter:
            client = lms.Client(host).__enter__()
            client.llm.list_loaded()
        began = time.perf_counter()
        client.__exit__(None, None, None)
        closing.append(time.perf_counter() - began)
        cpu.append(meter.cpu)
        wall.append(meter.wall)
    return _medians(cpu, wall, closing)


def _medians(cpu: list[float], wall: list[float], closing: list[float]) -> dict[str, float]:
    """Return the medians without the first run, which imports modules; the whole scripts measure the imports."""
    middle = statistics.median
    return {
        "connect.cpu": middle(cpu[1:]),
        "connect.wall": middle(wall[1:]),
        "close.wall": middle(closing[1:]),
    }

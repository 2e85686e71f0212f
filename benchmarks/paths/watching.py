"""A watch of 64 instances, of which none changes: the part of a core that it takes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

INSTANCES = 64
INTERVAL = 1.0
SECONDS = 5


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    async with lms.AsyncClient(host) as client:
        # The two namespaces share the instances.
        for namespace in ("llm", "embedding"):
            await client.call(namespace, f"many:{INSTANCES // 2}")
        async with client.watch_instances(interval=INTERVAL) as watch:
            for _ in range(INSTANCES):
                await anext(watch)
            began, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(SECONDS)
            used = (time.process_time() - cpu) / (time.perf_counter() - began)
    return {"core.part": used}

"""One contender on one hot path, in a separate process: ``python -m benchmarks.child PATH CONTENDER HOST``."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

from benchmarks.meter import take_a_core

__all__ = ["MODULES"]

#: A contender's package, and whether it blocks.
MODULES = {
    "ours": ("lmstudio_async", False),
    "ours, orjson": ("lmstudio_async", False),
    "ours, trio": ("lmstudio_async", False),
    "ours, blocking": ("lmstudio_sync", True),
    "official": ("lmstudio", False),
    "official, blocking": ("lmstudio", True),
}


async def _measure_plain(path: Any, contender: str, host: str) -> dict[str, float]:
    from benchmarks.plain import LOOPS, authenticate

    async with LOOPS[contender].connect(host, "llm") as loop:
        await authenticate(loop)
        figures: dict[str, float] = await path.measure_plain(loop)
        return figures


def _measure(name: str, contender: str, host: str) -> dict[str, float]:
    path = importlib.import_module(f"benchmarks.paths.{name}")
    if contender not in MODULES:
        return asyncio.run(_measure_plain(path, contender, host))
    package, is_blocking = MODULES[contender]
    lms = importlib.import_module(package)
    if contender == "ours, trio":
        import trio

        on_trio: dict[str, float] = trio.run(path.measure_trio, lms, host)
        return on_trio
    figures: dict[str, float] = (
        path.measure_sync(lms, host) if is_blocking else asyncio.run(path.measure_async(lms, host))
    )
    return figures


def main(name: str, contender: str, host: str, *options: str) -> None:
    """Measure, and print the figures as JSON."""
    if "--pin" in options:
        take_a_core(0, real_time="--real-time" in options)
    if contender != "ours, orjson":
        # Use the JSON module of the standard library, because the extra `orjson` is a separate contender.
        sys.modules["orjson"] = None  # type: ignore[assignment]
    print(json.dumps(_measure(name, contender, host)))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A wait that ends only with the cancellation of its task."""

from __future__ import annotations

import anyio

__all__ = ["wait_until_cancelled"]


async def wait_until_cancelled() -> None:
    """Wait without a timer. `anyio.sleep_forever` sets one at an infinite time, and qasync does not support that."""
    await anyio.Event().wait()

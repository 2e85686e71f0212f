"""Waiting for nothing but the cancellation of a task."""

from __future__ import annotations

import anyio

__all__ = ["wait_until_cancelled"]


async def wait_until_cancelled() -> None:
    """Wait, without a timer: `anyio.sleep_forever` asks for one at the end of time, which qasync cannot set."""
    await anyio.Event().wait()

"""The clock of the event loop: for limits that are to be reached, but not by waiting, nor by a machine that is busy."""

from __future__ import annotations

import time
from typing import Any

import anyio
from anyio.lowlevel import current_token

__all__ = ["let_pass"]


async def let_pass(seconds: float) -> None:
    """Have so many seconds gone by, as soon as all other tasks wait for something, if only for a socket.

    The limits in this event loop that are reached by then end; those that are longer have so much less left.
    """
    await anyio.wait_all_tasks_blocked()
    loop: Any = current_token().native_token
    if hasattr(loop, "call_at"):
        began, then = time.monotonic(), loop.time() + seconds
        loop.time = lambda: then + time.monotonic() - began
    else:
        from trio.lowlevel import current_clock

        clock: Any = current_clock()
        # The class is frozen.
        object.__setattr__(clock, "offset", clock.offset + seconds)
    # A timer of now comes after all that are due.
    await anyio.sleep(0.001)

"""The clock of the event loop, moved forward by a test to reach a timeout without waiting.

The timeout can be so long that a busy machine does not reach it by itself.
"""

from __future__ import annotations

import time
from typing import Any

import anyio
from anyio.lowlevel import current_token

__all__ = ["let_pass"]


async def let_pass(seconds: float) -> None:
    """Move the clock of this event loop forward, as soon as all other tasks wait for something, if only for a socket.

    Timeouts that end within these seconds expire. Longer ones are shortened by them.

    :param seconds: the distance.
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
    # A timer set now fires after all timers that are due.
    await anyio.sleep(0.001)

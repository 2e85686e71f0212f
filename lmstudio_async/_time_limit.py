"""Time limits that begin anew after the event loop stood still."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

__all__ = ["stood_still_since", "within"]

#: If a limit is noticed more than this many seconds too late, the event loop stood still.
LATE_SECONDS = 1.0


async def within(seconds: float, wait: Callable[[], Awaitable[object]]) -> bool:
    """Wait, for ``seconds`` at most, and return whether the wait ended by itself.

    While a debugger or a blocking call stops the event loop, or the process is suspended, a limit can pass although
    data has arrived that the event loop could not read yet. So a limit that is noticed late begins anew, once.

    :param wait: function that waits; it is called again for a limit that begins anew.
    """
    for _ in range(2):
        with anyio.move_on_after(seconds) as scope:
            await wait()
        if not scope.cancelled_caught:
            return True
        if not stood_still_since(scope.deadline):
            return False
    return False


def stood_still_since(deadline: float) -> bool:
    """Return whether a limit was noticed so late that the event loop must have stood still."""
    return anyio.current_time() - deadline > LATE_SECONDS

"""Time limits that a program which stood still does not reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

__all__ = ["stood_still_since", "within"]

#: A limit that is noticed so many seconds after it was reached says that the event loop stood still.
LATE_SECONDS = 1.0


async def within(seconds: float, wait: Callable[[], Awaitable[object]]) -> bool:
    """Wait for so many seconds at most, and return whether the wait ended by itself.

    A debugger, a blocking call in the event loop, or a suspended process makes a limit pass before what has arrived
    meanwhile is read. So a limit that is noticed late begins anew, once.

    :param wait: what to wait for; called again for a limit that begins anew.
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
    """Return whether a limit that has just been noticed is so late that the event loop stood still."""
    return anyio.current_time() - deadline > LATE_SECONDS

"""Whether this process and the server hold more than they did."""

from __future__ import annotations

import time
from collections.abc import Mapping

import anyio

from tests.chaos.left_over import Held, held_here
from tests.chaos.server import ServerProcess

__all__ = ["held_by", "more_than"]

#: Seconds for what goes by itself: threads wait for more work, and closed sockets for their other end.
SETTLING = 30


async def held_by(server: ServerProcess) -> dict[str, Held]:
    """What both hold at this moment, by who it is."""
    held = {"this process": held_here(), "the server": await server.held()}
    print("; ".join(f"{who} has {what}" for who, what in held.items()), flush=True)
    return held


async def more_than(before: Mapping[str, Held], server: ServerProcess) -> list[str]:
    """What they hold that was not there before, and does not go."""
    end = time.monotonic() + SETTLING
    while True:
        held = await held_by(server)
        more = [f"{who} has {what}" for who in held for what in held[who].more_than(before[who])]
        if not more or time.monotonic() > end:
            return more
        await anyio.sleep(2)

"""Comparison of the resources that this process and the server hold with those that they held before."""

from __future__ import annotations

import time
from collections.abc import Mapping

import anyio

from tests.chaos.left_over import Held, held_here
from tests.chaos.server import ServerProcess

__all__ = ["held_by", "more_than"]

#: Seconds for resources that are released later: idle pool threads, and closed sockets whose peer is still open.
SETTLING = 30


async def held_by(server: ServerProcess) -> dict[str, Held]:
    """Return the resources that both processes hold at this moment, by the name of the process."""
    held = {"this process": held_here(), "the server": await server.held()}
    print("; ".join(f"{who} has {what}" for who, what in held.items()), flush=True)
    return held


async def more_than(before: Mapping[str, Held], server: ServerProcess) -> list[str]:
    """Return the resources that were not held before and are not released in time."""
    end = time.monotonic() + SETTLING
    while True:
        held = await held_by(server)
        more = [f"{who} has {what}" for who in held for what in held[who].more_than(before[who])]
        if not more or time.monotonic() > end:
            return more
        await anyio.sleep(2)

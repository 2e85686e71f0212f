"""Auto-evict: a just-in-time load unloads the other instances that were loaded just in time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import anyio

from lmstudio_async.embedded._instances._departures import Departure
from lmstudio_async.embedded._instances._instance import Instance
from lmstudio_async.embedded._instances._load import Load

__all__ = ["AutoEvict"]


class AutoEvict:
    """The evictions of one registry.

    :param instances: the registry's instances, by their identifiers.
    :param unload: begins the unload of an instance.
    :param enabled: whether just-in-time loads evict at all.
    :param handout_seconds: the seconds that a client has to use an instance that it got just in time, before another
        just-in-time load may evict it.
    """

    def __init__(
        self,
        instances: Mapping[str, Instance],
        unload: Callable[[Instance, Departure], None],
        *,
        enabled: bool,
        handout_seconds: float,
    ) -> None:
        self._instances = instances
        self._unload = unload
        self._enabled = enabled
        self._handout_seconds = handout_seconds
        self._turn = anyio.Lock()

    @asynccontextmanager
    async def room_for(self, load: Load) -> AsyncIterator[None]:
        """Make room for a just-in-time load, and keep it while the block runs. Evict nothing for another load."""
        if not load.instance.just_in_time or not self._enabled:
            yield
            return
        for other in self._others(load):
            load.evicting(other)
        # One at a time, because concurrent loads would not see, and not evict, each other's instance.
        async with self._turn:
            await self._evict_others(load)
            yield

    def _others(self, load: Load) -> list[Instance]:
        return [
            other for other in self._instances.values() if other.just_in_time and other is not load.instance
        ]

    async def _evict_others(self, load: Load) -> None:
        """Unload the other JIT instances, when they are idle and their new clients have had time to use them."""
        latest = anyio.current_time() + self._handout_seconds
        while victims := [other for other in self._others(load) if other.state in ("ready", "unloading")]:
            for victim in victims:
                load.evicting(victim)
                await victim.wait_handed_out(latest)
                if victim.state == "ready" and not victim.is_busy:
                    self._unload(victim, Departure.evicted(victim.identifier, load.instance.entry.model_key))
            if victims[0].state == "ready":
                await victims[0].wait_idle()
            else:
                await victims[0].gone.wait()

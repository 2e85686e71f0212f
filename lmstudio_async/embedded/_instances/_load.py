"""A load in progress, and its watchers.

A load belongs to the registry and not to the request that started it, because several requests may wait for one load.
The load is cancelled when the last of them stops waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import anyio

from lmstudio_async._wire._infos import AnyInstanceInfo
from lmstudio_async._wire._models import (
    LoadProgressPacket,
    Progress,
    Resolved,
    StartLoading,
    UnloadingOtherJITModel,
)
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded._instances._instance import Instance, model_info
from lmstudio_async.errors import LMStudioError

__all__ = ["Load", "PacketCallback", "Watcher"]

logger = logging.getLogger("lmstudio_async.embedded")

PacketCallback = Callable[[WireObject], None]
"""A callback for the packets of an operation, called in their order. It must not block."""


class Watcher:
    """A request that waits for a load, and gets its progress in the packets of its endpoint.

    :param report: the callback for the packets.
    :param get_or_load: true if the endpoint is ``getOrLoad``, false if it is ``loadModel``.
    :param ambiguous: the keys of all models that match the key in ``loadModel``.
    """

    def __init__(
        self, report: PacketCallback, *, get_or_load: bool, ambiguous: Sequence[str] | None = None
    ) -> None:
        self._report: PacketCallback | None = report
        self._get_or_load = get_or_load
        self._ambiguous = None if ambiguous is None else list(ambiguous)

    def evicting(self, victim: AnyInstanceInfo) -> None:
        """Report that another instance is unloaded first."""
        if self._get_or_load:
            self._tell(UnloadingOtherJITModel(info=victim))

    def starting(self, instance: Instance) -> None:
        """Report the model that is being loaded."""
        info = model_info(instance.entry)
        if self._get_or_load:
            self._tell(StartLoading(identifier=instance.identifier, info=info))
        else:
            self._tell(Resolved(info=info, ambiguous=self._ambiguous))

    def progress(self, fraction: float) -> None:
        """Report the fraction of the load that is complete."""
        if self._get_or_load:
            self._tell(LoadProgressPacket(progress=fraction))
        else:
            self._tell(Progress(progress=fraction))

    def _tell(self, packet: WireObject) -> None:
        if self._report is None:
            return
        try:
            self._report(packet)
        except Exception:
            # Do not raise: a failed report must not affect the other requests that wait for this load.
            logger.exception("A report of a load's progress failed")
            self._report = None


class Load:
    """One load, from the moment that its identifier is reserved.

    :ivar done: set when the instance is ready, or there is an ``error``.
    :ivar is_claimed: whether a request has received the instance.
    :ivar abandoned: whether the load is being cancelled, because no request waits for it any more.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.done = anyio.Event()
        self.error: LMStudioError | None = None
        self.is_claimed = False
        self.abandoned = False
        self._scope: anyio.CancelScope | None = None
        self._watchers: list[Watcher] = []
        self._evicting: list[AnyInstanceInfo] = []
        self._fraction: float | None = None
        self._reported_at = 0.0

    @property
    def is_watched(self) -> bool:
        """Whether any request waits for this load."""
        return bool(self._watchers)

    def hand_out(self, seconds: float) -> None:
        """Keep the instance for each request that waits for it; see :meth:`Instance.hand_out`."""
        for _ in self._watchers:
            self.instance.hand_out(seconds)

    def join(self, watcher: Watcher) -> None:
        """Add a watcher, and report the events so far to it."""
        for victim in self._evicting:
            watcher.evicting(victim)
        if self._fraction is not None:
            watcher.starting(self.instance)
            watcher.progress(self._fraction)
        self._watchers.append(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Remove a watcher."""
        self._watchers.remove(watcher)

    def attach(self, scope: anyio.CancelScope) -> None:
        """Set the cancel scope of the task that loads."""
        self._scope = scope
        if self.abandoned:
            scope.cancel()

    def abandon(self) -> None:
        """Cancel the load, because no request waits for it."""
        self.abandoned = True
        if self._scope is not None:
            self._scope.cancel()

    def evicting(self, victim: Instance) -> None:
        """Report that another instance is unloaded first. Each instance is reported once."""
        if all(info.instance_reference != victim.reference for info in self._evicting):
            info = victim.info()
            self._evicting.append(info)
            self._tell(lambda watcher: watcher.evicting(info))

    def starting(self) -> None:
        """Report that the engine is being started."""
        self._fraction = 0.0
        self._tell(lambda watcher: watcher.starting(self.instance))
        self._tell(lambda watcher: watcher.progress(0.0))

    def progress(self, fraction: float) -> None:
        """Report progress. The 1 of the engine is left out: the load ends later, when the instance is ready."""
        if self._fraction is not None and self._fraction < fraction < 1:
            self._fraction = fraction
            self._tell(lambda watcher: watcher.progress(fraction))

    def finish(self, error: LMStudioError | None = None) -> None:
        """End the load: report that it is complete if there is no error, and set ``done``."""
        if error is None:
            self._tell(lambda watcher: watcher.progress(1.0))
        self.error = error
        self.done.set()

    async def break_silence(self, interval: float) -> None:
        """Repeat the last report whenever there was none for a number of seconds, until the load ends.

        A report is not repeated while the engine is stalled, so that the watchers can detect it.

        :param interval: the seconds without a report.
        """
        self._reported_at = anyio.current_time()
        while not self.done.is_set():
            with anyio.CancelScope(deadline=self._reported_at + interval):
                await self.done.wait()
                return
            if anyio.current_time() >= self._reported_at + interval:
                if self.instance.pulse.is_felt:
                    self._tell(self._repeat)
                else:
                    self._reported_at = anyio.current_time()

    def _repeat(self, watcher: Watcher) -> None:
        if self._fraction is not None:
            watcher.progress(self._fraction)
        elif self._evicting:
            watcher.evicting(self._evicting[-1])

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        self._reported_at = anyio.current_time()
        for watcher in self._watchers:
            what(watcher)

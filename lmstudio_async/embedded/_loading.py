"""A load under way, and those who watch it.

A load belongs to the registry and not to who asked for it, because several may wait for one load. It ends early
when the last of them leaves.
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
from lmstudio_async.embedded._instance import Instance, model_info
from lmstudio_async.errors import LMStudioError

__all__ = ["Load", "Report", "Watcher"]

logger = logging.getLogger("lmstudio_async.embedded")

Report = Callable[[WireObject], None]
"""Gets the packets of an operation, in their order. It must not block."""


class Watcher:
    """Somebody who waits for a load, told of it in the packets of the endpoint that was called.

    :param get_or_load: the endpoint is ``getOrLoad``; if not, ``loadModel``.
    :param ambiguous: the keys of all models that the key of ``loadModel`` means.
    """

    def __init__(self, report: Report, *, get_or_load: bool, ambiguous: Sequence[str] | None = None) -> None:
        self._report: Report | None = report
        self._get_or_load = get_or_load
        self._ambiguous = None if ambiguous is None else list(ambiguous)

    def evicting(self, victim: AnyInstanceInfo) -> None:
        """Another instance has to go first."""
        if self._get_or_load:
            self._tell(UnloadingOtherJITModel(info=victim))

    def starting(self, instance: Instance) -> None:
        """This is what is being loaded."""
        info = model_info(instance.entry)
        if self._get_or_load:
            self._tell(StartLoading(identifier=instance.identifier, info=info))
        else:
            self._tell(Resolved(info=info, ambiguous=self._ambiguous))

    def progress(self, fraction: float) -> None:
        """This much of it is loaded."""
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
            # The others who wait for this load have nothing to do with it.
            logger.exception("A report of a load's progress failed")
            self._report = None


class Load:
    """One load, from the moment that its identifier is taken.

    :ivar done: set when the instance is ready, or there is an ``error``.
    :ivar claimed: somebody has got the instance.
    :ivar abandoned: nobody waits any more; it is being cancelled.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.done = anyio.Event()
        self.error: LMStudioError | None = None
        self.claimed = False
        self.abandoned = False
        self._scope: anyio.CancelScope | None = None
        self._watchers: list[Watcher] = []
        self._evicting: list[AnyInstanceInfo] = []
        self._fraction: float | None = None
        self._told_at = 0.0

    @property
    def watched(self) -> bool:
        """Whether anybody waits for it."""
        return bool(self._watchers)

    def hand_out(self, seconds: float) -> None:
        """Keep the instance for each request that waits for it; see :meth:`Instance.hand_out`."""
        for _ in self._watchers:
            self.instance.hand_out(seconds)

    def join(self, watcher: Watcher) -> None:
        """Wait for it too; what happened so far is told first."""
        for victim in self._evicting:
            watcher.evicting(victim)
        if self._fraction is not None:
            watcher.starting(self.instance)
            watcher.progress(self._fraction)
        self._watchers.append(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Wait for it no longer."""
        self._watchers.remove(watcher)

    def attach(self, scope: anyio.CancelScope) -> None:
        """The scope of the task that loads."""
        self._scope = scope
        if self.abandoned:
            scope.cancel()

    def abandon(self) -> None:
        """End it, because nobody wants it."""
        self.abandoned = True
        if self._scope is not None:
            self._scope.cancel()

    def evicting(self, victim: Instance) -> None:
        """Another instance has to go first; said once of each."""
        if all(info.instance_reference != victim.reference for info in self._evicting):
            info = victim.info()
            self._evicting.append(info)
            self._tell(lambda watcher: watcher.evicting(info))

    def starting(self) -> None:
        """The engine is being started."""
        self._fraction = 0.0
        self._tell(lambda watcher: watcher.starting(self.instance))
        self._tell(lambda watcher: watcher.progress(0.0))

    def progress(self, fraction: float) -> None:
        """Tell how far it is. The engine's own 1 is not the end: that is when the instance can be found."""
        if self._fraction is not None and self._fraction < fraction < 1:
            self._fraction = fraction
            self._tell(lambda watcher: watcher.progress(fraction))

    def finish(self, error: LMStudioError | None = None) -> None:
        """It is over."""
        if error is None:
            self._tell(lambda watcher: watcher.progress(1.0))
        self.error = error
        self.done.set()

    async def break_silence(self, interval: float) -> None:
        """Repeat the last report whenever there was none for so many seconds, until the load is over.

        Not while the engine stands still: the watchers are to notice.
        """
        self._told_at = anyio.current_time()
        while not self.done.is_set():
            with anyio.CancelScope(deadline=self._told_at + interval):
                await self.done.wait()
                return
            if anyio.current_time() >= self._told_at + interval:
                if self.instance.pulse.is_felt:
                    self._tell(self._repeat)
                else:
                    self._told_at = anyio.current_time()

    def _repeat(self, watcher: Watcher) -> None:
        if self._fraction is not None:
            watcher.progress(self._fraction)
        elif self._evicting:
            watcher.evicting(self._evicting[-1])

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        self._told_at = anyio.current_time()
        for watcher in self._watchers:
            what(watcher)

"""Getting a model: what several tasks ask for at the same time is one load."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from lmstudio_async._callbacks import check_callback, tell
from lmstudio_async._protocol._multiplexer import copy_of
from lmstudio_async.errors import LMStudioConnectionClosedError, LMStudioError

if TYPE_CHECKING:
    from lmstudio_async._loading import AsyncLoadStream

__all__ = ["SharedLoads"]

HandleT = TypeVar("HandleT")


class SharedLoads:
    """The loads of one client that more than one task may wait for."""

    def __init__(self) -> None:
        self._running: list[_SharedLoad[Any]] = []

    async def wait_for(
        self, load: AsyncLoadStream[HandleT], on_progress: Callable[[float], Any] | None
    ) -> HandleT:
        """Await a load that has not begun, or, in its place, one that runs and asks for the same.

        Whoever is cancelled here leaves the load to the others; when the last one leaves, it is cancelled.
        """
        check_callback(on_progress, "on_progress")
        await load._session.open()
        shared: _SharedLoad[HandleT] | None = next(
            (each for each in self._running if each.can_serve(load)), None
        )
        if shared is None:
            shared = _SharedLoad(load)
            load._session.start_soon(self._run, shared)
            self._running.append(shared)
        return await shared.wait(on_progress)

    async def _run(self, shared: _SharedLoad[Any]) -> None:
        try:
            await shared.run()
        finally:
            self._running.remove(shared)


class _SharedLoad(Generic[HandleT]):
    """One load and those who wait for it.

    It runs in the client's task group, for it is none of theirs: any of them may leave.
    """

    def __init__(self, load: AsyncLoadStream[HandleT]) -> None:
        self._load = load
        self._scope = anyio.CancelScope()
        self._waiting = 0
        # Ever greater, and few: they conflate on their way here.
        self._fractions: list[float] = []
        self._handle: HandleT | None = None
        self._error: LMStudioError | None = None
        self._changed = anyio.Event()
        self._ended = anyio.Event()

    def can_serve(self, load: AsyncLoadStream[Any]) -> bool:
        """Whether who wants that load can have this one."""
        is_over = self._ended.is_set() or self._scope.cancel_called
        return not is_over and self._load._asks_for_the_same_as(load)

    async def run(self) -> None:
        """See it through, and tell those who wait. Never raises an error of ours."""
        try:
            with self._scope:
                async with self._load:
                    async for progress in self._load:
                        if not self._fractions or progress.fraction > self._fractions[-1]:
                            self._fractions.append(progress.fraction)
                            self._wake()
                    self._handle = self._load.result()
        except LMStudioError as error:
            self._error = error
        finally:
            self._ended.set()
            self._wake()

    async def wait(self, on_progress: Callable[[float], Any] | None) -> HandleT:
        """Wait for its end, and hear how far it has come: never going back, and 1.0 at the end."""
        # Whoever comes late hears first how far it is.
        unseen = max(0, len(self._fractions) - 1)
        self._waiting += 1
        try:
            while True:
                changed = self._changed
                if unseen < len(self._fractions):
                    fraction, unseen = self._fractions[unseen], unseen + 1
                    await tell("on_progress", on_progress, fraction)
                    # What came meanwhile conflates: the latest counts.
                    unseen = max(unseen, len(self._fractions) - 1)
                elif self._ended.is_set():
                    break
                else:
                    await changed.wait()
        finally:
            self._waiting -= 1
            if not self._waiting and not self._ended.is_set():
                self._scope.cancel()
                with anyio.CancelScope(shield=True):
                    # Bounded: a load says its goodbyes within limits of its own.
                    await self._ended.wait()
        if self._handle is None:
            raise copy_of(self._error or LMStudioConnectionClosedError("The client was closed."))
        return self._handle

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

"""Shared loads: equal requests of several tasks at the same time result in one load."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from lmstudio_async._callbacks import check_callback, tell, used_once
from lmstudio_async._protocol._client_side import copy_of
from lmstudio_async.errors import LMStudioConnectionClosedError, LMStudioError

if TYPE_CHECKING:
    from lmstudio_async._ensure_stream import AsyncEnsureStream
    from lmstudio_async._load import AsyncLoadStream, TracedLoad
    from lmstudio_async._scoped_instance import ScopedInstance
    from lmstudio_async._session import Session

__all__ = ["SharedLoads"]

HandleT = TypeVar("HandleT")


class SharedLoads:
    """The loads of one client that more than one task may wait for."""

    def __init__(self) -> None:
        self._running: list[_SharedLoad[Any]] = []

    async def wait_for(
        self,
        session: Session,
        load: AsyncLoadStream[HandleT] | AsyncEnsureStream[HandleT],
        on_progress: Callable[[float], Any] | None,
    ) -> HandleT:
        """Run a load and wait for it, or wait for a running load with the same request in its place.

        A task that is cancelled here leaves the load to the other tasks. When the last task leaves, the load is
        cancelled.

        :param session: the session of the load.
        """
        from lmstudio_async._load import begin_span, span_of

        check_callback(on_progress, "on_progress")
        await session.open()
        shared: _SharedLoad[HandleT] | None = next(
            (each for each in self._running if each.can_serve(load)), None
        )
        if shared is None:
            shared = _SharedLoad(load)
            begin_span(load)
            session.start_soon(self._run, shared)
            self._running.append(shared)
            return await shared.wait(on_progress)
        span, tracing = span_of(shared.load), session.tracing()
        with nullcontext() if span is None or tracing is None else tracing.wait(span):
            return await shared.wait(on_progress)

    async def _run(self, shared: _SharedLoad[Any]) -> None:
        try:
            await shared.run()
        finally:
            self._running.remove(shared)


class _SharedLoad(Generic[HandleT]):
    """One load, and the tasks that wait for it.

    The load runs in the client's task group and not in one of these tasks, because any of them may leave.
    """

    def __init__(self, load: AsyncLoadStream[HandleT] | AsyncEnsureStream[HandleT]) -> None:
        self.load = load
        self._scope = anyio.CancelScope()
        self._waiting = 0
        # In increasing order. There are only few, because the feed of the load conflates them.
        self._fractions: list[float] = []
        self._handle: HandleT | None = None
        self._error: LMStudioError | None = None
        self._scoped: ScopedInstance | None = None
        self._changed = anyio.Event()
        self._ended = anyio.Event()

    def can_serve(self, load: TracedLoad) -> bool:
        """Return whether this load can take the place of another one, which has not begun."""
        from lmstudio_async._load import is_same_request

        is_over = self._ended.is_set() or self._scope.cancel_called
        return not is_over and is_same_request(self.load, load)

    async def run(self) -> None:
        """Run the load to its end, and wake the waiting tasks. Never raises an `LMStudioError`."""
        from lmstudio_async._handles import expect_scopes
        from lmstudio_async._load import follow_load

        try:
            with self._scope:
                self._handle = await follow_load(self.load, self._advance)
                # The first task may leave its block before the others have begun theirs.
                self._scoped = expect_scopes(self._handle, self._waiting)
        except LMStudioError as error:
            self._error = error
        finally:
            self._ended.set()
            self._wake()

    async def wait(self, on_progress: Callable[[float], Any] | None) -> HandleT:
        """Wait for the end of the load, and report its progress: never decreasing, and 1.0 at the end."""
        # A task that joins late starts with the current fraction.
        unseen = max(0, len(self._fractions) - 1)
        self._waiting += 1
        try:
            async with used_once(on_progress) as callback:
                while True:
                    changed = self._changed
                    if unseen < len(self._fractions):
                        fraction, unseen = self._fractions[unseen], unseen + 1
                        await tell("on_progress", callback, fraction)
                        # Of the fractions that arrived during the callback, report only the latest.
                        unseen = max(unseen, len(self._fractions) - 1)
                    elif self._ended.is_set():
                        # Within this block, so that the callback knows of a failure.
                        return self._outcome()
                    else:
                        await changed.wait()
        finally:
            self._waiting -= 1
            if self._scoped is not None:
                self._scoped.arrive()
            if not self._waiting and not self._ended.is_set():
                self._scope.cancel()
                with anyio.CancelScope(shield=True):
                    # Bounded, because a cancelled load has a time limit of its own to clean up.
                    await self._ended.wait()

    def _outcome(self) -> HandleT:
        """Return the handle, or raise the error of the load."""
        if self._handle is None:
            raise copy_of(self._error or LMStudioConnectionClosedError("The client was closed."))
        return self._handle

    def _advance(self, fraction: float) -> None:
        self._fractions.append(fraction)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

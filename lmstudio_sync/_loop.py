"""The bridge's background thread and its event loop."""

from __future__ import annotations

import _thread
import contextvars
import logging
import math
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import TaskGroup

from lmstudio_async._event_loop import EventLoop
from lmstudio_async.errors import LMStudioConnectionClosedError, LMStudioRuntimeError
from lmstudio_sync._signal_safe import Latch

__all__ = ["Loop", "Workers", "closed"]

#: Calls of several threads at the same time run in a task each. Only this many idle tasks are kept.
MOST_IDLE_WORKERS = 8

#: Takes the cancel scope that it runs in. Returns whether its task may do more work.
Work = Callable[[anyio.CancelScope], Awaitable[bool]]

logger = logging.getLogger("lmstudio_async")


class Loop:
    """The thread and its event loop. It has no reference to its bridge, so that a dropped bridge is garbage-collected.

    Its state is a few flags, each of which is set once. So it needs no lock, which could stay locked if an interrupt
    hit the thread that holds it.
    """

    def __init__(self, owner: AbstractAsyncContextManager[Any], backend: str) -> None:
        self.was_interrupted = False
        #: Whether the loop cannot be used any more.
        self.is_closed = False
        self._owner = owner
        self._backend = backend
        self._process = os.getpid()
        #: The first thread that takes it starts the loop's thread. Never freed.
        self._claim = threading.Lock()
        self._thread: threading.Thread | None = None
        self._event_loop: EventLoop | None = None
        self._workers: Workers | None = None
        self._scope: anyio.CancelScope
        self._leaving: anyio.Event
        self._is_begun = False
        self._is_entered = False
        #: Set when the owner is entered, or will never be.
        self._decided = Latch()
        #: Set when the thread has nothing more to do.
        self._ended = Latch()
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None

    def __str__(self) -> str:
        return repr(self._owner).removeprefix("Async")

    # -- for other threads

    @property
    def is_open(self) -> bool:
        """Whether the loop must still be closed."""
        return self.is_alive and not self.is_closed

    @property
    def is_alive(self) -> bool:
        """Whether its thread works, or is about to."""
        return self._is_begun and not self._ended.is_set and self._process == os.getpid()

    def open(self) -> None:
        """Start the thread and enter the owner, if that was not done yet."""
        if self._process != os.getpid():
            raise LMStudioRuntimeError(
                "This client belongs to the process that this one was forked from. Make a new one here."
            )
        if self._thread is not None and self._thread.ident == threading.get_ident():
            raise LMStudioRuntimeError(
                "A blocking call from this client's own event loop would wait for itself. "
                "Make it in a plain function instead of an async one."
            )
        if self._is_entered and not self.is_closed:
            return
        try:
            if not self.is_closed:
                self._start()
                self._decided.wait()
        except BaseException:
            # A loop that is only half open cannot be used.
            self.close()
            raise
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)
        if self.is_closed:
            raise closed()

    def _start(self) -> None:
        """Start the thread from a helper thread, which no signal interrupts.

        `threading.Thread.start` waits for the new thread with a `threading.Event`. An interrupt there can keep the
        thread from ever running.
        """
        if self._is_begun:
            return
        try:
            _thread.start_new_thread(self._start_thread, ())
        except RuntimeError as error:
            raise _no_thread(error) from error

    def start(self, begin: Callable[[Workers | None], None]) -> bool:
        """Call ``begin`` in the loop, with the workers that run its work; with None once the owner has been left.

        :return: whether the call could be scheduled.
        """
        return self.soon(self._begin, begin)

    def soon(self, function: Callable[..., Any], *args: Any) -> bool:
        """Run a function in the loop without waiting for it. Return whether it could be scheduled."""
        return self._event_loop is not None and self._event_loop.soon(function, *args)

    def close(self, seconds: float = math.inf) -> None:
        """Leave the owner, end the thread, and wait for the end, for ``seconds`` at most."""
        if self._process != os.getpid():
            return
        self.is_closed = True
        self._decided.set()
        if not self._is_begun:
            # If the thread is started after all, it ends at once.
            return
        self.soon(self._leave)
        if self.was_interrupted or (self._thread is not None and self._thread.ident == threading.get_ident()):
            return
        try:
            if self._ended.wait(seconds) and self._thread is not None:
                self._thread.join()
        except BaseException:
            self.was_interrupted = True
            raise

    # -- in the helper thread

    def _start_thread(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        # Set first, because `close` waits only for the end of a loop that has begun.
        self._is_begun = True
        if self.is_closed:
            self._end()
            return
        # In an empty context, because the caller's context may tell anyio that another event loop runs.
        thread = threading.Thread(
            target=contextvars.Context().run, args=(self._live,), name="lmstudio", daemon=True
        )
        self._thread = thread
        try:
            thread.start()
        except RuntimeError as error:
            self._thread = None
            self._error = _no_thread(error)
            self._end()

    # -- in its own thread

    def _live(self) -> None:
        try:
            anyio.run(self._serve, backend=self._backend)
        except BaseException as error:  # noqa: BLE001 - raised in the waiting threads
            self._fail(error)
        finally:
            self._end()

    def _end(self) -> None:
        self.is_closed = True
        self._decided.set()
        self._ended.set()

    async def _serve(self) -> None:
        self._leaving = anyio.Event()
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as self._scope:
                self._event_loop = EventLoop()
                if self.is_closed:
                    self._leave()
                try:
                    await self._own(tasks)
                except Exception as error:  # noqa: BLE001 - raised in the waiting threads
                    self._fail(error)
            # Cancel the calls that still run, because their client is closed.
            self._workers = None
            tasks.cancel_scope.cancel()

    async def _own(self, tasks: TaskGroup) -> None:
        async with self._owner:
            self._workers = Workers(tasks)
            self._is_entered = True
            self._decided.set()
            await self._leaving.wait()

    def _begin(self, begin: Callable[[Workers | None], None]) -> None:
        begin(self._workers)

    def _leave(self) -> None:
        if self._workers is None:
            # The owner is still being entered.
            self._scope.cancel()
        else:
            self._leaving.set()

    def _fail(self, error: BaseException) -> None:
        if self._decided.is_set:
            logger.debug("the client's end failed", exc_info=error)
        else:
            self._error, self._traceback = error, error.__traceback__


class Workers:
    """Tasks that do one piece of work after the other, because waking a task costs half as much as starting one."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._idle: list[_IdleWorker] = []

    def start(self, work: Work) -> None:
        """Run some work in an idle task, or in a new one. The work returns whether its task may do more."""
        if self._idle:
            idle = self._idle.pop()
            idle.work = work
            idle.woken.set()
        else:
            self._tasks.start_soon(self._live, work)

    async def _live(self, work: Work) -> None:
        with anyio.CancelScope() as scope:
            while await work(scope) and len(self._idle) < MOST_IDLE_WORKERS:
                # Do not keep the finished work and its result while the task is idle.
                del work
                idle = _IdleWorker()
                self._idle.append(idle)
                await idle.woken.wait()
                work = idle.work


class _IdleWorker:
    """A task that waits for work."""

    __slots__ = ("woken", "work")

    def __init__(self) -> None:
        self.woken = anyio.Event()
        self.work: Work


def closed() -> LMStudioConnectionClosedError:
    return LMStudioConnectionClosedError("This client is closed. Make a new one.")


def _no_thread(error: RuntimeError) -> LMStudioRuntimeError:
    return LMStudioRuntimeError(
        f"No thread could be started for this client: {error}. "
        "When the interpreter is about to end, use a client that was opened before."
    )

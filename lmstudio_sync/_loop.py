"""The bridge's background thread and its event loop."""

from __future__ import annotations

import contextvars
import logging
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import TaskGroup

from lmstudio_async._event_loop import EventLoop
from lmstudio_async.errors import LMStudioConnectionClosedError, LMStudioRuntimeError

__all__ = ["SLICE_SECONDS", "Loop", "Workers", "closed"]

#: How often whoever waits looks up. On some systems a Ctrl-C is noticed only then.
SLICE_SECONDS = 0.1

#: Threads that call at the same time have a task each; a few of these are kept.
MOST_IDLE_WORKERS = 8

#: Is given what cancels it, and gives whether the task that did it may do more.
Work = Callable[[anyio.CancelScope], Awaitable[bool]]

logger = logging.getLogger("lmstudio_async")


class Loop:
    """The thread and its event loop. It does not know its bridge, so that one which nobody holds can be noticed."""

    def __init__(self, owner: AbstractAsyncContextManager[Any], backend: str) -> None:
        self.in_a_hurry = False
        self._owner = owner
        self._backend = backend
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._event_loop: EventLoop | None = None
        self._workers: Workers | None = None
        self._scope: anyio.CancelScope
        self._leaving: anyio.Event
        self._is_usable = False
        self._is_closed = False
        #: Entered, or never to be.
        self._is_decided = threading.Event()
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None

    def __str__(self) -> str:
        return repr(self._owner).removeprefix("Async")

    # -- for other threads

    @property
    def is_open(self) -> bool:
        """Whether somebody must close it."""
        return self._thread is not None and not self._is_closed and self._process == os.getpid()

    @property
    def is_alive(self) -> bool:
        """Whether what it was given can still be done."""
        return self._thread is not None and self._thread.is_alive()

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
        if self._is_usable:
            return
        try:
            self._start_thread()
            while not self._is_decided.wait(SLICE_SECONDS):
                pass
        except BaseException:
            # Half-open, it is of no use to anybody.
            self.close()
            raise
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)
        if not self._is_usable:
            raise closed()

    def _start_thread(self) -> None:
        with self._lock:
            if self._thread is not None or self._is_closed:
                return
            # In a context of its own: the caller's may say that another event loop runs.
            thread = threading.Thread(
                target=contextvars.Context().run, args=(self._live,), name="lmstudio", daemon=True
            )
            # Before it starts: a Ctrl-C may come when it has, and whoever started it has not heard of that yet.
            self._thread = thread
            try:
                thread.start()
            except RuntimeError as error:
                self._thread = None
                self._is_closed = True
                self._is_decided.set()
                raise LMStudioRuntimeError(
                    f"No thread could be started for this client: {error}. "
                    "When the interpreter is about to end, use a client that was opened before."
                ) from error

    def start(self, begin: Callable[[Workers | None], None]) -> bool:
        """Have something begin in one of the tasks that live as long as the owner; in none if that is over."""
        return self.soon(self._begin, begin)

    def soon(self, function: Callable[..., Any], *args: Any) -> bool:
        """Run a function in the loop, and do not wait for it. Give whether it could be scheduled."""
        return self._event_loop is not None and self._event_loop.soon(function, *args)

    def close(self, seconds: float | None = None) -> None:
        """Leave the owner, end the thread, and wait for that, for so many seconds at most."""
        if self._process != os.getpid():
            return
        with self._lock:
            self._is_closed = True
            self._is_usable = False
        thread = self._thread
        if thread is None or thread.ident is None:
            # If it starts after all, it ends at once.
            self._is_decided.set()
            return
        self.soon(self._leave)
        if self.in_a_hurry or thread.ident == threading.get_ident():
            return
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        try:
            while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
                thread.join(min(SLICE_SECONDS, left))
        except BaseException:
            self.in_a_hurry = True
            raise

    # -- in its own thread

    def _live(self) -> None:
        try:
            anyio.run(self._serve, backend=self._backend)
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            self._fail(error)
        finally:
            self._is_usable = False
            self._is_closed = True
            self._is_decided.set()

    async def _serve(self) -> None:
        self._leaving = anyio.Event()
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as self._scope:
                self._event_loop = EventLoop()
                if self._is_closed:
                    self._leave()
                try:
                    await self._own(tasks)
                except Exception as error:  # noqa: BLE001 - whoever waits is told
                    self._fail(error)
            # What was still going on has no client any more.
            self._workers = None
            tasks.cancel_scope.cancel()

    async def _own(self, tasks: TaskGroup) -> None:
        async with self._owner:
            self._workers = Workers(tasks)
            with self._lock:
                self._is_usable = not self._is_closed
            self._is_decided.set()
            await self._leaving.wait()

    def _begin(self, begin: Callable[[Workers | None], None]) -> None:
        begin(self._workers)

    def _leave(self) -> None:
        if self._workers is None:
            # It is still being entered.
            self._scope.cancel()
        else:
            self._leaving.set()

    def _fail(self, error: BaseException) -> None:
        if self._is_decided.is_set():
            logger.debug("the client's end failed", exc_info=error)
        else:
            self._error, self._traceback = error, error.__traceback__


class Workers:
    """Tasks that do one piece of work after the other: to wake one costs half of what it costs to make one."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._idle: list[_IdleWorker] = []

    def start(self, work: Work) -> None:
        """Have a task do some work, which says whether that task may do more."""
        if self._idle:
            idle = self._idle.pop()
            idle.work = work
            idle.is_needed.set()
        else:
            self._tasks.start_soon(self._live, work)

    async def _live(self, work: Work) -> None:
        with anyio.CancelScope() as scope:
            while await work(scope) and len(self._idle) < MOST_IDLE_WORKERS:
                # What was done, and what came of it, is not kept meanwhile.
                del work
                idle = _IdleWorker()
                self._idle.append(idle)
                await idle.is_needed.wait()
                work = idle.work


class _IdleWorker:
    """A task that waits for work."""

    __slots__ = ("is_needed", "work")

    def __init__(self) -> None:
        self.is_needed = anyio.Event()
        self.work: Work


def closed() -> LMStudioConnectionClosedError:
    return LMStudioConnectionClosedError("This client is closed. Make a new one.")

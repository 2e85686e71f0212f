"""A task group that runs in a task of its own, so that it belongs to no task of the user's.

A task group that is entered in a user's task can be left only by that task, and only in the reverse order of all the
cancel scopes that the task has entered. Fixtures, notebooks and objects that hold a client cannot keep that order.

The task ends for one of these reasons:

* `aclose` is called, or the `OwnedTaskGroup` is garbage-collected: the group's tasks are cancelled and clean up.
* The event loop ends first (``asyncio.run`` cancels all tasks, trio its system tasks): they are cancelled as well.
* A task of the group fails, which is a bug of this SDK: the error is logged, the other tasks are cancelled, and
  `aclose` raises the error. Until then, `check` raises an error with this one as its cause.
* Ctrl-C hits a task of the group: asyncio itself raises it out of the event loop; on trio it is passed on to the
  program's main task.
"""

from __future__ import annotations

import logging
import signal
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from lmstudio_async._event_loop import EventLoop
from lmstudio_async.errors import LMStudioConnectionClosedError, LMStudioRuntimeError

__all__ = ["OwnedTaskGroup"]

logger = logging.getLogger("lmstudio_async")

Work = Callable[..., Coroutine[Any, Any, Any]]


class OwnedTaskGroup:
    """A task group that is opened and closed from any task, in any order, once.

    :param kind: kind of the owner, for example ``client``, for messages.
    :param owner: the owner, for example ``AsyncClient('localhost:1234')``, for messages.
    :param made_at: place where the owner was created, for the warning that it was not closed.
    """

    def __init__(self, kind: str, owner: str, made_at: str) -> None:
        self._kind = kind
        self._owner = owner
        self._made_at = made_at
        self._host: _Host | None = None
        self._closed = False

    async def open(self) -> None:
        """Start the task that holds the group."""
        host = self._host = _Host(self._owner)
        host.event_loop.spawn(host.run, f"{self._owner} background")
        try:
            await host.opened.wait()
        except BaseException:
            await self.aclose()
            raise

    def is_in_this_loop(self) -> bool:
        """Return whether the caller runs in the event loop that the group was opened in."""
        return self._host is not None and self._host.event_loop.is_current()

    def check(self) -> None:
        """Check that the caller can start tasks in the group.

        :raises LMStudioRuntimeError: if the group is not open, this is another event loop, or a task of the group has
            failed.
        :raises LMStudioConnectionClosedError: if the group was closed.
        """
        host = self._host
        if host is None:
            raise LMStudioRuntimeError(f"{self._owner} is not open.")
        if not self.is_in_this_loop():
            raise self._in_another_loop()
        if host.is_closing:
            if host.crash is not None:
                raise LMStudioRuntimeError(
                    f"{self._owner} has ended: a background task failed with {host.crash!r}. Make a new one."
                ) from host.crash
            raise LMStudioConnectionClosedError(f"{self._owner} is closed. Make a new one.")

    def start_soon(self, work: Work, *args: Any, context: Context | None = None) -> None:
        """Start a task. Legal in a task of the same event loop.

        :param context: the context to run in. None for an empty one, because a task that outlives this call would keep
            the values of the caller's variables alive.
        """
        self.check()
        assert self._host is not None
        (context or Context()).run(self._host.tasks.start_soon, self._host.event_loop.protect(work), *args)

    async def start(self, work: Work) -> Any:
        """Start a task, and wait until it reports that it has started. See `anyio.abc.TaskGroup.start`."""
        self.check()
        assert self._host is not None
        return await self._host.tasks.start(self._host.event_loop.protect(work))

    def run_soon(self, work: Work, *args: Any) -> bool:
        """Start a task from anywhere: a finalizer, a callback of the event loop, another thread.

        :return: whether the event loop still runs.
        """
        host = self._host
        if host is None:
            return False
        host.work.append((work, args))
        return host.event_loop.soon(host.wake)

    def soon(self, function: Callable[[], object]) -> bool:
        """Call a plain function in the event loop. Legal from any thread; see `EventLoop.soon`.

        :return: whether the function will be called; if not, the loop has ended.
        """
        return self._host is not None and self._host.event_loop.soon(function)

    def close_soon(self) -> None:
        """Cancel all tasks, which then clean up. Legal from any thread."""
        self._closed = True
        if self._host is not None:
            self._host.event_loop.soon(self._host.close)

    async def aclose(self) -> None:
        """Cancel all tasks, and wait until they have cleaned up. Idempotent, and legal from any task.

        :raises LMStudioRuntimeError: if the group runs in another event loop. It then closes there, without a wait.
        """
        self._closed = True
        host = self._host
        if host is None:
            return
        if not host.ended.is_set() and not host.event_loop.is_current():
            if host.event_loop.soon(host.close):
                raise self._in_another_loop()
            # The event loop was closed without cancelling its tasks, so that none of them can clean up any more.
            return
        host.close()
        with anyio.CancelScope(shield=True):
            # A Ctrl-C that was passed on to the main task is raised here at the latest.
            await anyio.lowlevel.checkpoint()
            if not host.ended.is_set():
                await host.ended.wait()
        crash, host.crash = host.crash, None
        if crash is not None:
            raise crash

    def _in_another_loop(self) -> LMStudioRuntimeError:
        return LMStudioRuntimeError(
            f"{self._owner} belongs to the event loop that it was opened in, and this is another one. Make a {self._kind} in "
            "each, or use lmstudio_sync, whose clients work in any thread."
        )

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # The attribute is missing if the constructor has failed.
        host = getattr(self, "_host", None)
        if host is None or self._closed:
            return
        # Before the warning, because the warning raises if warnings are errors.
        host.event_loop.soon(host.close)
        _warn(
            f"{self._owner}, made at {self._made_at}, was not closed. Use it in an 'async with' block, or await its "
            "aclose().",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )


class _Host:
    """State of the task. It does not refer to its `OwnedTaskGroup`, so that a forgotten group is garbage-collected."""

    def __init__(self, owner: str) -> None:
        self.event_loop = EventLoop()
        self.opened = self.event_loop.new_event()
        self.ended = self.event_loop.new_event()
        self.tasks: TaskGroup
        self.work: deque[tuple[Work, tuple[Any, ...]]] = deque()
        self.is_closing = False
        self.crash: BaseException | None = None
        self._owner = owner
        self._woken = self.event_loop.new_event()

    def wake(self) -> None:
        """Wake the task to check `work` and `is_closing`. Legal anywhere in the event loop's thread."""
        self._woken.set()

    def close(self) -> None:
        """Make the task end. Legal anywhere in the event loop's thread."""
        self.is_closing = True
        self.wake()

    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as self.tasks:
                self.opened.set()
                while not self.is_closing:
                    await self._woken.wait()
                    self._woken = self.event_loop.new_event()
                    while self.work and not self.is_closing:
                        self._start(*self.work.popleft())
                self.tasks.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - a system task of trio must not raise
            self._store_error(error)
        finally:
            self.is_closing = True
            self.opened.set()
            self.ended.set()

    def _start(self, work: Work, args: tuple[Any, ...]) -> None:
        """Start a task. Not part of `run`, where a variable would keep the last work, and so its client, alive."""
        self.tasks.start_soon(self.event_loop.protect(work), *args)

    def _store_error(self, error: BaseException) -> None:
        """Store the error that has ended the group, or pass a Ctrl-C on to the main task."""
        if isinstance(error, BaseExceptionGroup):
            from lmstudio_async._protocol._errors import unwrap_group

            error = unwrap_group(error)
        if self.event_loop.is_trio and _has(error, KeyboardInterrupt):
            # trio's handler finds that this task is protected from Ctrl-C, and raises it in the main task.
            signal.raise_signal(signal.SIGINT)
        elif self.event_loop.is_trio or not _has(error, KeyboardInterrupt | SystemExit):
            self.crash = error
            logger.error("%s: a background task failed", self._owner, exc_info=error)


def _has(error: BaseException, kind: Any) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(lambda each: isinstance(each, kind)) is not None
    return isinstance(error, kind)

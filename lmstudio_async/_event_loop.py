"""The event loop that an object belongs to, with the same methods for asyncio and trio.

anyio detects the running event loop from the current task. Finalizers, callbacks of the event loop and other threads
have no current task, so they must not call anyio. They call `EventLoop.soon`, which needs no task, and wake a task by a
native event.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from functools import wraps
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    import asyncio

__all__ = ["Event", "EventLoop"]


class Event(Protocol):
    """An event of asyncio or trio. It may be set anywhere in the event loop's thread, inside or outside a task."""

    def set(self) -> object:
        """Set the event, and wake the tasks that wait for it."""

    def is_set(self) -> bool:
        """Return whether it was set."""
        ...

    def wait(self) -> Coroutine[Any, Any, Any]:
        """Wait until it is set."""
        ...


# Keeps tasks alive, because asyncio itself has only weak references to them.
_tasks: set[asyncio.Task[None]] = set()


class EventLoop:
    """The event loop in which this object is created. Any thread can schedule functions there without waiting."""

    def __init__(self) -> None:
        loop: Any = current_token().native_token
        self._loop = loop
        self._thread = get_ident()
        self.is_trio = not hasattr(loop, "call_soon_threadsafe")
        self._schedule: Callable[..., object]
        self._is_running: Callable[[], bool]
        if self.is_trio:
            from trio.lowlevel import current_trio_token, in_trio_run

            self._schedule = loop.run_sync_soon
            self._is_running = lambda: in_trio_run() and current_trio_token() is loop
        else:
            self._schedule = loop.call_soon_threadsafe
            self._is_running = loop.is_running
        # Callbacks run in this context, because the context of another thread does not identify this event loop.
        self._context = contextvars.copy_context()

    def soon(self, function: Callable[..., Any], *args: Any) -> bool:
        """Run a plain function as a callback of the loop. Legal from any thread.

        The function must not call anyio, which does not know the event loop there unless ``anyio.run`` started it.

        :return: whether the function will run; if not, the loop has ended.
        """
        try:
            self._schedule(self._context.run, function, *args)
        except RuntimeError:
            # The loop is closed. (trio's RunFinishedError is a RuntimeError too.)
            return False
        return True

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Start a task that belongs to no other task: a plain task on asyncio, a system task on trio.

        Both kinds of task are cancelled when the event loop ends, and may clean up then.
        """
        if self.is_trio:
            from trio.lowlevel import spawn_system_task

            spawn_system_task(function, name=name)
            return
        # In an empty context: the caller's context may belong to a request, and the task outlives the request.
        task = contextvars.Context().run(self._loop.create_task, function())
        task.set_name(name)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    def protect(
        self, function: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Protect a coroutine function's task from Ctrl-C, so that trio raises it in the program's main task.

        asyncio needs no protection, because its own handler cancels the main task.
        """
        if not self.is_trio:
            return function
        from trio.lowlevel import enable_ki_protection

        @enable_ki_protection
        async def protected(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return wraps(function)(protected)

    def new_event(self) -> Event:
        """Make a native event."""
        if self.is_trio:
            import trio

            return trio.Event()
        import asyncio

        return asyncio.Event()

    def is_current(self) -> bool:
        """Return whether the caller runs in this event loop. Cheap, because every call checks it."""
        return get_ident() == self._thread and self._is_running()

"""An instance that its client unloads at the end of a block: the scopes of it that are open, and its unload."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeAlias

import anyio

from lmstudio_async._printable import printable
from lmstudio_async.errors import LMStudioConnectionClosedError, LMStudioError, LMStudioTimeoutError

__all__ = ["ScopedInstance", "Unload", "close_scopes"]

Unload: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""A function that unloads an instance. It returns normally if the instance is gone already."""

logger = logging.getLogger("lmstudio_async")


class ScopedInstance:
    """The open scopes of one instance in one client. The end of the last one unloads it, if the client has loaded it.

    The unload runs in the client's task group. Ctrl-C and `asyncio.Task.cancel` reach even a shielded task, so that a
    task which leaves a block could not finish the unload itself.

    :param registry: the scoped instances of the client. This one is in it while it is used.
    :param key: its key in the registry.
    :param name: name of the instance, for messages.
    :param start_soon: `Session.start_soon`, which starts a task in the client's task group.
    :param seconds: longest time that the unload may take.
    """

    def __init__(
        self,
        registry: dict[object, ScopedInstance],
        key: object,
        name: str,
        start_soon: Callable[..., None],
        seconds: float,
    ) -> None:
        self._registry = registry
        self._key = key
        self._name = printable(name)
        self._start_soon = start_soon
        self._seconds = seconds
        self._open = 0
        self._arriving = 0
        #: Unloads the instance. None if this client has not loaded it, or when its unload has begun.
        self._unload: Unload | None = None
        self._unloading: anyio.Event | None = None
        registry[key] = self

    @property
    def is_unloading(self) -> bool:
        """Whether the instance is being unloaded, because its last scope was closed."""
        return self._unloading is not None

    def open(self, unload: Unload | None) -> None:
        """Count one more open scope.

        :param unload: unloads the instance after the last scope; None if this client has not loaded the instance.
        """
        self._open += 1
        self._unload = unload or self._unload

    async def close(self, *, can_raise: bool) -> None:
        """Close a scope. If it was the last one, unload the instance, and wait for that for a limited time.

        :param can_raise: whether to raise an error of the unload. If not, or if the task is cancelled, it is logged.
        :raises LMStudioTimeoutError: if the server did not confirm the unload.
        :raises LMStudioServerError: if the server refused it.
        """
        if self._open:
            self._open -= 1
        if self._unload is None or self._is_used:
            self._forget_if_unused()
            return
        ending = _Ending(is_awaited=True)
        self._start(ending)
        try:
            with anyio.CancelScope(shield=True):
                # Bounded, because the unload has a time limit, and ends with the client's task group at the latest.
                await ending.done.wait()
        finally:
            # Ctrl-C and `asyncio.Task.cancel` end the wait, but not the unload.
            ending.is_awaited = False
        if ending.error is not None:
            if can_raise and not anyio.get_current_task().has_pending_cancellation():
                raise ending.error
            self._log(ending.error)

    async def wait_unloaded(self) -> None:
        """Wait for the end of an unload that has begun."""
        if self._unloading is not None:
            await self._unloading.wait()

    def expect(self, tasks: int) -> None:
        """Keep the instance for tasks that are about to receive its handle, and may open a scope of it then."""
        self._arriving += tasks

    def arrive(self) -> None:
        """Note that an expected task has received its handle. It may open a scope before its next checkpoint."""
        self._arriving -= 1
        if self._unload is None or self._is_used:
            self._forget_if_unused()
        else:
            self._start(_Ending())

    async def close_all(self) -> None:
        """Unload the instance now, although scopes may be open, because the client is being closed."""
        if self._unload is not None:
            ending = _Ending(is_forced=True)
            self._start(ending)
            await ending.done.wait()
        await self.wait_unloaded()

    @property
    def _is_used(self) -> bool:
        return self._open > 0 or self._arriving > 0

    def _start(self, ending: _Ending) -> None:
        try:
            # In the context of the caller, who waits for the end: the span of the unload is part of the caller's span.
            self._start_soon(self._run, ending, context=copy_context())
        except LMStudioConnectionClosedError:
            self._end(ending, None)
        except LMStudioError as error:
            self._end(ending, error)

    async def _run(self, ending: _Ending) -> None:
        unload = self._unload
        if unload is None or (self._is_used and not ending.is_forced):
            # Another task has begun the unload, or has opened a scope or is about to, since this task was started.
            ending.done.set()
            return
        self._unload = None
        self._unloading = ending.done
        error: LMStudioError | None = None
        try:
            with anyio.move_on_after(self._seconds) as limit:
                await unload()
            if limit.cancelled_caught:
                error = LMStudioTimeoutError(
                    f"The server did not confirm the unload of {self._name} within {self._seconds:g} seconds. It may be "
                    "loaded still."
                )
        except LMStudioError as reason:
            error = reason
        finally:
            self._unloading = None
            self._end(ending, error)

    def _end(self, ending: _Ending, error: LMStudioError | None) -> None:
        ending.error = error
        ending.done.set()
        if error is not None and not ending.is_awaited:
            self._log(error)
        self._forget_if_unused()

    def _log(self, error: LMStudioError) -> None:
        logger.warning("%s could not be unloaded at the end of its block: %s", self._name, error)

    def _forget_if_unused(self) -> None:
        if not self._is_used and self._unload is None and self._unloading is None:
            self._registry.pop(self._key, None)


class _Ending:
    """The end of the last scope.

    :param is_awaited: whether a task waits for it, and handles its error.
    :param is_forced: whether to unload the instance also if scopes are open.
    """

    def __init__(self, *, is_awaited: bool = False, is_forced: bool = False) -> None:
        self.is_awaited = is_awaited
        self.is_forced = is_forced
        self.done = anyio.Event()
        self.error: LMStudioError | None = None


async def close_scopes(registry: dict[object, ScopedInstance], seconds: float) -> None:
    """Unload the instances whose scopes are open when their client is closed, for ``seconds`` at most."""
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for scoped in list(registry.values()):
                tasks.start_soon(scoped.close_all)

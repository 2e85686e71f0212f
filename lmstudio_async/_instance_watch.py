"""Watch of instances: an async iterator of what happens to them."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from lmstudio_async._instance_backlog import EventBacklog
from lmstudio_async._instance_poller import InstancePoller
from lmstudio_async.errors import LMStudioRuntimeError

if TYPE_CHECKING:
    from lmstudio_async._instance_events import InstanceEvent

__all__ = ["AsyncInstanceWatch"]

#: Bytes of memory that an event takes, with its info.
_EVENT_BYTES = 4096


class AsyncInstanceWatch:
    """A watch of the instances of a server: iterate over what happens to them.

    The first events are an `InstancePresent` for each loaded instance. The client looks at the server in intervals, for
    all of its watches together. It reports its own loads, unloads and evictions at once.

    Each load and unload comes exactly once, also if the connection is lost meanwhile, and in order for each identifier.
    An instance that another client loads and unloads between two looks may be missed, as well as states between two
    looks. The order of different instances between two looks of the client is not known: unloads come first.

    For a slow consumer several changes of one instance become one, and no load or unload is lost. If thousands of events
    are unread, the watch ends with an `LMStudioBacklogError`.

    A timeout while the next event is not there yet loses nothing, and the watch can be continued.

    ::

        async with client.watch_instances() as events:
            await llm.unload()
            async for event in events:
                if isinstance(event, lms.InstanceUnloaded):
                    print(event.identifier, "is gone:", event.reason)
                    break
    """

    def __init__(self, poller: InstancePoller, interval: float, unread_bytes: int) -> None:
        self._poller = poller
        self._backlog = EventBacklog(interval, unread_bytes // _EVENT_BYTES)
        self._has_started = False
        self._has_consumer = False
        # The event that the last call has returned; None if that call has begun the watch.
        self._latest: InstanceEvent | None = None

    def __repr__(self) -> str:
        state = "closed" if self._backlog.is_closed else "under way" if self._has_started else "not begun"
        return f"{type(self).__name__}({state!r})"

    async def __aenter__(self) -> Self:
        """Begin the watch: what happens after this is reported.

        :raises LMStudioUnreachableError: if the server cannot be reached.
        :raises LMStudioTimeoutError: if it does not list its instances within 30 seconds.
        """
        try:
            await self._begin()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> InstanceEvent:
        if self._has_consumer:
            raise LMStudioRuntimeError(
                "Another task already waits for this watch. Each needs a watch of its own."
            )
        self._has_consumer = True
        try:
            await self._begin()
            event = self._latest = await self._backlog.next()
        finally:
            self._has_consumer = False
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """End the watch. Idempotent; makes no request."""
        self._backlog.close()
        self._poller.remove(self._backlog)

    async def _begin(self) -> None:
        """Begin the watch, if it has not begun, and wait until it has."""
        self._latest = None
        if self._backlog.is_closed:
            return
        if self._has_started:
            self._poller.check()
        else:
            await self._poller.add(self._backlog)
            self._has_started = True
        await self._backlog.wait_begun()

    def _take_nowait(self) -> InstanceEvent | None:
        """Return None: each event comes from the event loop. For the blocking facade."""
        return None

    async def _abandon(self) -> None:
        """Put back the event of a call that did not reach its caller. End the watch if the call was to enter its block."""
        if self._latest is None:
            await self.aclose()
        else:
            self._backlog.put_back(self._latest)
            self._latest = None

    def __del__(self) -> None:
        # The attributes are missing if the constructor has failed.
        if getattr(self, "_has_started", False) and not self._backlog.is_closed:
            self._poller.remove_soon(self._backlog)

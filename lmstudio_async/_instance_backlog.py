"""Backlog of one watch: the events that its consumer has not read yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import anyio

from lmstudio_async._instance_events import InstanceChanged, InstanceLoading
from lmstudio_async.errors import LMStudioBacklogError, LMStudioError

if TYPE_CHECKING:
    from lmstudio_async._instance_events import InstanceEvent

__all__ = ["EventBacklog"]


class EventBacklog:
    """The unread events of one watch.

    Changes conflate: of several unread changes of an instance, or of the progress of a load, only the latest is kept. All
    other events are kept, in order.

    :param interval: the seconds that the watch wants between two looks.
    :param most: the number of events that may be unread.
    """

    def __init__(self, interval: float, most: int) -> None:
        self.interval = interval
        self.is_closed = False
        self.has_begun = False
        self._most = most
        # By number, in order.
        self._events: dict[int, InstanceEvent] = {}
        # Numbers of the events that a later one of the same topic may replace.
        self._replaceable: dict[tuple[object, ...], int] = {}
        self._count = 0
        self._error: LMStudioError | None = None
        self._changed = anyio.Event()

    def begin(self, events: Iterable[InstanceEvent]) -> None:
        """Begin with these events. Events before this call are ignored, because these describe their outcome."""
        self.has_begun = True
        for event in events:
            self.put(event)
        self._wake()

    def put(self, event: InstanceEvent) -> None:
        """Add an event."""
        if not self.has_begun or self.is_closed:
            return
        if isinstance(event, InstanceChanged | InstanceLoading):
            topic = (type(event), event.kind, event.identifier, event.instance_reference)
            number = self._replaceable.setdefault(topic, self._count)
        else:
            # A change after this event must not replace one before it.
            self._replaceable.clear()
            number = self._count
        self._events[number] = event
        self._count += 1
        if len(self._events) > self._most:
            self._events.clear()
            self.close(
                LMStudioBacklogError(
                    f"The watch of instances has ended, because more than {self._most} events were not read. Read them "
                    "as they come."
                )
            )
        self._wake()

    def close(self, error: LMStudioError | None = None) -> None:
        """End the watch. Its consumer gets the unread events, and then this error."""
        if not self.is_closed:
            self.is_closed = True
            self._error = error
            self._wake()

    async def wait_begun(self) -> None:
        """Wait for `begin`.

        :raises LMStudioError: if the watch has ended before.
        """
        while not self.has_begun and not self.is_closed:
            await self._changed.wait()
        if not self.has_begun and self._error is not None:
            raise self._error

    async def next(self) -> InstanceEvent | None:
        """Wait for the next event, and return it; None at the end.

        :raises LMStudioError: if the watch has failed.
        """
        while not self._events:
            if self._error is not None:
                raise self._error
            if self.is_closed:
                return None
            await self._changed.wait()
        number = next(iter(self._events))
        # An event that was read is not replaced, or the replacement would come before events that are older.
        self._replaceable = {topic: each for topic, each in self._replaceable.items() if each != number}
        return self._events.pop(number)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

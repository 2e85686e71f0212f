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

    Changes conflate: of several unread changes of an instance, or of the progress of a load, only the latest is kept, at
    the place of the first. All other events are kept, in order.

    :param interval: the seconds that the watch wants between two looks.
    :param most: the number of events that may be unread.
    """

    def __init__(self, interval: float, most: int) -> None:
        self.interval = interval
        self.is_closed: bool = False
        self.has_begun: bool = False
        self._most = most
        # By number, in order.
        self._events: dict[int, InstanceEvent] = {}
        # Numbers of the events that a later one of the same topic may replace.
        self._replaceable: dict[tuple[object, ...], int] = {}
        self._count = 0
        self._error: LMStudioError | None = None
        # Made by the consumer, because a watch may be made outside of the event loop.
        self._changed: anyio.Event | None = None

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
        number = self._count
        topic = _topic(event)
        if topic is None:
            # A change after this event must not replace one before it.
            self._replaceable.clear()
        else:
            number = self._replaceable.setdefault(topic, number)
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

    def put_back(self, event: InstanceEvent) -> None:
        """Put back the event that was read last, before all others."""
        self._events = {self._count: event, **self._events}
        self._count += 1
        self._wake()

    def close(self, error: LMStudioError | None = None) -> None:
        """End the watch.

        :param error: raised for the consumer after the unread events; None drops these, and ends the iteration.
        """
        if not self.is_closed:
            self.is_closed = True
            self._error = error
            if error is None:
                self._events.clear()
            self._wake()

    async def wait_begun(self) -> None:
        """Wait for `begin`, or for the end of the watch.

        :raises LMStudioError: if the watch has failed before it began.
        """
        while not self.has_begun and not self.is_closed:
            await self._wait()
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
            await self._wait()
        number = next(iter(self._events))
        event = self._events.pop(number)
        topic = _topic(event)
        if topic is not None and self._replaceable.get(topic) == number:
            # A later change is an event of its own now.
            del self._replaceable[topic]
        return event

    async def _wait(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _topic(event: InstanceEvent) -> tuple[object, ...] | None:
    """Return a key that is the same for events of which only the latest counts; None for all others."""
    if isinstance(event, InstanceChanged | InstanceLoading):
        return type(event), event.kind, event.identifier, event.instance_reference
    return None

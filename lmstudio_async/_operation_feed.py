"""Feed of an operation: the receiver of its channel.

The feed is plain synchronous code, which the receive loop calls for every packet, so that the receive loop never waits for
a consumer. It has no reference to the public half of the operation, so that the finalizer of a dropped operation runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from lmstudio_async._client_limits import DEFAULT_LIMITS
from lmstudio_async._protocol._client_side import closed_without_result
from lmstudio_async._protocol._endpoints import RpcEndpoint
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.errors import LMStudioBacklogError, LMStudioError

if TYPE_CHECKING:
    from lmstudio_async._connection import Connection, OperationReport

__all__ = ["OperationFeed"]

ItemT = TypeVar("ItemT")

#: Bytes of memory that an item takes, beside its text.
ITEM_BYTES = 256


class OperationFeed(ABC, Generic[ItemT]):
    """State of an operation: its unread items, and its end.

    :param label: name of the operation in messages.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.items: deque[ItemT] = deque()
        self._unread_bytes = 0
        self._most_unread_bytes = DEFAULT_LIMITS.unread_bytes
        #: Whether a packet has arrived.
        self.heard: bool = False
        self.done: bool = False
        #: Whether the channel is open. Packets may still arrive when the operation is done.
        self.is_open: bool = False
        self.succeeded: bool = False
        self.error: LMStudioError | None = None
        self.changed: anyio.Event | None = None
        #: Whether the consumer has cancelled the operation, or left it.
        self.is_cancelled: bool = False
        self._connection: Connection
        self._number = 0
        self.reports: tuple[OperationReport, ...] = ()

    @property
    def may_need_undoing(self) -> bool:
        """Whether the operation has created something that its consumer has not taken, or may still create it."""
        return False

    def attach(self, connection: Connection, number: int) -> None:
        """Store the connection and the number of the channel, which is about to be opened."""
        self._connection, self._number = connection, number
        self._most_unread_bytes = connection.limits.unread_bytes
        self.is_open = True

    def report_to(self, report: OperationReport) -> None:
        """Report the end of the operation, also if it has ended already."""
        self.reports += (report,)
        if self.done:
            self._report_end(self.error)

    @abstractmethod
    def take(self, packet: Any) -> None:
        """Convert a packet to items, or store the result and call `succeed`."""

    def feed(self, packet: Any) -> None:
        """Handle a packet. Called by the receive loop."""
        self.heard = True
        if not self.done:
            self.take(packet)
            self._wake()

    def end(self, error: LMStudioError | None) -> None:
        """Handle the end of the channel. Called by the receive loop. A result that has arrived before remains."""
        self.is_open = False
        if not self.done:
            self.fail(error or closed_without_result(self.label))

    def give_up(self, error: LMStudioError) -> None:
        """Fail with this error, also in place of a result that the consumer has not taken and that must be undone."""
        if not self.done:
            self.fail(error)

    def undoing(self) -> tuple[RpcEndpoint[Any, Any], WireObject] | None:
        """Return the call that undoes the operation's work on the server; None if there is nothing to undo."""
        return None

    def settle(self, *, is_undone: bool = True) -> None:
        """Record that the work is undone, or cannot be undone."""

    def queue(self, item: ItemT, size: int) -> None:
        """Queue an item for the consumer. If too many are unread, the operation fails and is cancelled on the server.

        :param size: approximate number of bytes that the item refers to.
        """
        self.items.append(item)
        self._unread_bytes += ITEM_BYTES + size
        if self._unread_bytes > self._most_unread_bytes:
            self.items.clear()
            self.fail(
                LMStudioBacklogError(
                    f"{self.label}: cancelled, because more than {self._most_unread_bytes >> 20} MiB of items were not "
                    "read. Read them as they come, or await wait_for_result() from the beginning, which keeps no items."
                )
            )
            self._connection.cancel_later(self._number)

    def drop(self) -> None:
        """Report the end of an operation that has ended, if it was still to be continued by another request."""
        self.is_cancelled = True
        self._report_end(self.error)

    def take_items(self) -> deque[ItemT]:
        """Return all unread items, and remove them from the feed."""
        items, self.items = self.items, deque()
        self._unread_bytes = 0
        return items

    def succeed(self) -> None:
        """End the operation with a result."""
        self.done = self.succeeded = True
        self._report_end(None)
        self._wake()

    def fail(self, error: LMStudioError) -> None:
        """End the operation without a result."""
        self.done = True
        self.error = error
        self._report_end(error)
        self._wake()

    def _report_end(self, error: LMStudioError | None) -> None:
        """Report the end. Later ends, such as that of a result which is taken back, are not reported."""
        reports, self.reports = self.reports, ()
        for report in reports:
            report.end(error, was_cancelled=self.is_cancelled)

    def _wake(self) -> None:
        if self.changed is not None:
            # Of packets that arrive together, only the first one wakes the waiting tasks.
            self.changed.set()
            self.changed = None

"""What LM Studio is busy with, and how to watch, await and cancel it.

An operation has two halves. Its *feed* listens on the channel: plain synchronous code, told of every packet by
the receive loop, which never waits for a consumer. The public half waits for the feed, in the task of whoever
uses it. A feed does not know its public half, so that one which nobody holds any more can be noticed.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from lmstudio_async._protocol._endpoints import ChannelEndpoint, RpcEndpoint
from lmstudio_async._protocol._multiplexer import closed_without_result
from lmstudio_async._session import Channel, Session
from lmstudio_async._time_limit import within
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.errors import (
    LMStudioBacklogError,
    LMStudioCancelledError,
    LMStudioError,
    LMStudioRuntimeError,
    LMStudioTimeoutError,
)

if TYPE_CHECKING:
    from lmstudio_async._connection import Connection

__all__ = ["AsyncOperation", "OperationFeed"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

STOP_SECONDS = 5.0
#: How much may wait for a consumer that does not read: hundreds of thousands of fragments.
MAX_UNREAD_BYTES = 67_108_864
#: Memory that an item takes, beside its text.
ITEM_BYTES = 256

# For all operations that have nothing yet: an empty deque takes as much memory as one of sixty items.
_NOTHING: deque[Any] = deque(maxlen=0)


class OperationFeed(ABC, Generic[ItemT]):
    """What has become of an operation so far: items that nobody has seen yet, and its end.

    :param label: what a person would call the operation.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.items: deque[ItemT] = deque()
        self._unread_bytes = 0
        #: Whether the server has said anything yet.
        self.heard: bool = False
        self.done: bool = False
        #: Whether the channel is open: packets may come even if all is decided here.
        self.is_open: bool = False
        self.succeeded: bool = False
        self.error: LMStudioError | None = None
        self.changed: anyio.Event | None = None
        self._connection: Connection
        self._number = 0

    @property
    def may_need_undoing(self) -> bool:
        """Whether it has made something, or may yet, that its consumer has not taken."""
        return False

    def attach(self, connection: Connection, number: int) -> None:
        """The channel is about to be opened."""
        self._connection, self._number = connection, number
        self.is_open = True

    @abstractmethod
    def take(self, packet: Any) -> None:
        """Make items out of a packet, or take note of the result and call `succeed`."""

    def feed(self, packet: Any) -> None:
        """A packet came. Called by the receive loop."""
        self.heard = True
        if not self.done:
            self.take(packet)
            self._wake()

    def end(self, error: LMStudioError | None) -> None:
        """The channel is over. Called by the receive loop; a result that came before it stands."""
        self.is_open = False
        if not self.done:
            self.fail(error or closed_without_result(self.label))

    def give_up(self, error: LMStudioError) -> None:
        """Give the consumer this error, also in place of a result that it has not taken and that is to be undone."""
        if not self.done:
            self.fail(error)

    def undoing(self) -> tuple[RpcEndpoint[Any, Any], WireObject] | None:
        """The call that undoes what it has made; None if there is nothing to undo."""
        return None

    def settle(self) -> None:
        """It is undone, or cannot be."""

    def queue(self, item: ItemT, size: int) -> None:
        """Keep an item for the consumer. If there are too many, the operation fails and is cancelled on the server.

        :param size: how much memory the item refers to, in bytes, roughly.
        """
        self.items.append(item)
        self._unread_bytes += ITEM_BYTES + size
        if self._unread_bytes > MAX_UNREAD_BYTES:
            self.items.clear()
            self.fail(
                LMStudioBacklogError(
                    f"{self.label}: more than {MAX_UNREAD_BYTES >> 20} MiB of items came that were not read, and it was "
                    "cancelled. Read them as they come, or await wait_for_result() from the beginning, which keeps none."
                )
            )
            self._connection.cancel_later(self._number)

    def take_items(self) -> deque[ItemT]:
        """Hand over all items that the consumer has not seen."""
        items, self.items = self.items, deque()
        self._unread_bytes = 0
        return items

    def succeed(self) -> None:
        """The result is there."""
        self.done = self.succeeded = True
        self._wake()

    def fail(self, error: LMStudioError) -> None:
        """There will be no result."""
        self.done = True
        self.error = error
        self._wake()

    def _wake(self) -> None:
        if self.changed is not None:
            # Of packets that come together, only the first one wakes anybody.
            self.changed.set()
            self.changed = None


class AsyncOperation(ABC, Generic[ItemT, ResultT]):
    """Something the server works on: await it, iterate over it, or enter it.

    Nothing is sent before the first of these. Leaving the block, an exception or a cancellation while waiting, and
    dropping the operation half-way all cancel the work on the server.

    ::

        async with client.llm.load_new_instance_stream("qwen3-4b") as loading:
            async for progress in loading:
                print(progress.phase, progress.fraction)
            llm = await loading.wait_for_result()
    """

    def __init__(
        self,
        session: Session,
        endpoint: ChannelEndpoint[Any, Any],
        creation: WireObject,
        feed: OperationFeed[ItemT],
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._creation: WireObject | None = creation
        self._feed = feed
        # Taken from the feed all at once.
        self._taken: deque[ItemT] = _NOTHING
        self._channel: Channel | None = None
        self._started = False
        self._cancelling = False
        self._was_left = False
        self._has_consumer = False

    def __repr__(self) -> str:
        feed = self._feed
        if feed.done:
            state = "done" if feed.succeeded else "failed"
        else:
            state = "under way" if self._started else "not begun"
        return f"{type(self).__name__}({state!r})"

    @abstractmethod
    def _result(self) -> ResultT:
        """Make the result out of what the feed holds."""

    # -- for its user

    async def start(self) -> Self:
        """Begin, if it has not begun.

        :return: the operation itself, so that ``stream = await model.respond_stream(...)`` works as well.
        :raises LMStudioWebsocketError: if the server cannot be reached.
        """
        if not self._started:
            if self._feed.done:
                raise self._feed.error or LMStudioRuntimeError(f"{self._feed.label}: already closed.")
            self._started = True
            try:
                # Said once, it need not be kept: it may be a long chat.
                creation, self._creation = self._creation, None
                self._channel = await self._session.open_channel(self._endpoint, creation, self._feed)
            except LMStudioError as error:
                self._feed.fail(error)
                raise
            except BaseException:
                self._feed.fail(LMStudioCancelledError(f"{self._feed.label}: cancelled before it had begun."))
                raise
            if self._cancelling:
                # By another task, which found nothing to stop yet.
                with anyio.CancelScope(shield=True):
                    await self._stop()
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            await self.aclose()
        else:
            await self._abandon()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        if self._taken:
            return self._taken.popleft()
        await self.start()
        feed = self._feed
        if self._was_left and not feed.items:
            raise LMStudioCancelledError(
                f"{feed.label}: a timeout, a cancellation or an error while an item was awaited has ended it. To wait "
                "with a limit and go on, put the limit around a task that awaits the item: asyncio.wait({task}, timeout=...)."
            )
        await self._wait_for_news()
        if feed.items:
            self._taken = feed.take_items()
            return self._taken.popleft()
        if feed.error is not None and not self._cancelling:
            raise feed.error
        raise StopAsyncIteration

    def _take_nowait(self) -> ItemT | None:
        """An item that needs no event loop: for the blocking facade, whose trips to the loop are dear."""
        taken = self._taken
        if not taken:
            return None
        # Not popleft(): Python looks for interrupts after a call, when the item would be in no variable yet.
        item = taken[0]
        del taken[0]
        return item

    async def wait_for_result(self) -> ResultT:
        """Wait for the end and give the result. What is in between is skipped.

        :return: the result; the same one each time.
        :raises LMStudioCancelledError: if the operation was cancelled, or left before its end.
        :raises LMStudioTimeoutError: if the server was silent for longer than the client's ``timeout``.
        :raises LMStudioServerError: if the server refused or failed.
        """
        await self.start()
        self._taken.clear()
        while not self._feed.done:
            self._feed.take_items()
            await self._wait_for_news()
        self._feed.take_items()
        return self.result()

    def result(self) -> ResultT:
        """Give the result without waiting.

        :return: the result; the same one each time.
        :raises LMStudioRuntimeError: if there is none yet.
        :raises LMStudioError: if there will be none; the reason.
        """
        if self._feed.error is not None:
            raise self._feed.error
        if not self._feed.done:
            raise LMStudioRuntimeError(
                f"{self._feed.label}: there is no result yet. Wait for it with wait_for_result()."
            )
        return self._result()

    async def cancel(self) -> None:
        """Stop the work on the server, and wait until it says that it has. No error if it is over already."""
        if not self._started and not self._feed.done:
            self._feed.fail(LMStudioCancelledError(f"{self._feed.label}: cancelled before it had begun."))
        if self._feed.done:
            await self._undo(f"{self._feed.label}: cancelled by this program.")
            return
        self._cancelling = True
        if self._channel is not None:
            with anyio.CancelScope(shield=True):
                await self._stop()
        else:
            # Another task is about to begin it, and will stop it then.
            await self._wait_for_end()

    async def aclose(self) -> None:
        """Let go of the operation; if it still runs, cancel it. Idempotent."""
        await self.cancel()

    # -- for its subclasses

    async def _stop(self) -> None:
        """Have the server stop, and wait for the end of the channel, but not for ever."""
        assert self._channel is not None
        await self._channel.cancel()
        with anyio.move_on_after(STOP_SECONDS):
            await self._wait_for_end()
        if not self._feed.done:
            self._feed.fail(
                LMStudioCancelledError(f"{self._feed.label}: cancelled, but the server did not confirm it.")
            )

    async def _abandon(self) -> None:
        """The user left by an exception and will never ask for the result: leave nothing behind on the server."""
        with anyio.CancelScope(shield=True):
            await self.cancel()

    async def _undo(self, reason: str) -> None:
        """Undo what has come up on the server without its consumer having taken it."""
        if self._feed.undoing() is not None:
            self._feed.give_up(LMStudioCancelledError(reason))
            with anyio.CancelScope(shield=True):
                await self._session.undo(self._feed)

    async def _take_back(self) -> None:
        """Undo the hand-over of something that was given to a task and did not reach the task's caller."""

    async def _wait_for_news(self) -> None:
        """Wait until there is an item or the end."""
        if self._has_consumer:
            raise LMStudioRuntimeError(
                f"{self._feed.label}: another task already waits for this. Only one can."
            )
        self._has_consumer = True
        try:
            while not self._feed.items and not self._feed.done:
                # Each packet is news, also one that makes no item.
                if self._session.timeout is None:
                    await self._next_change()
                elif not await within(self._session.timeout, self._next_change):
                    await self._give_up()
                await self._find_out()
            if self._feed.error is not None:
                # What ended the connection may have cancelled this task as well, which comes first.
                await checkpoint_if_cancelled()
        except BaseException:
            self._was_left = True
            await self._abandon()
            raise
        finally:
            self._has_consumer = False

    async def _wait_for_end(self) -> None:
        while not self._feed.done:
            await self._next_change()
            await self._find_out()

    async def _next_change(self) -> None:
        # Whoever cancels waits beside the consumer: both are woken by the same event.
        feed = self._feed
        if feed.changed is None:
            feed.changed = anyio.Event()
        await feed.changed.wait()

    async def _find_out(self) -> None:
        """After each change: go and look, where the server cannot tell any more what became of the operation."""

    async def _give_up(self) -> None:
        """The server was silent for too long."""
        feed = self._feed
        if feed.items or feed.done:
            return
        # Before the server is told, whose own word for what follows is another one.
        feed.fail(
            LMStudioTimeoutError(
                f"{feed.label}: no news from {self._session.address} for {self._session.timeout:g} seconds"
                f"{self._last_news()}. It was told to stop. Raise the client's timeout to wait longer."
            )
        )
        if self._channel is not None:
            await self._channel.cancel()

    def _last_news(self) -> str:
        """What was heard last, to complete a sentence."""
        return ""

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # Only what has begun and is still running matters, and only if the constructor came that far.
        channel, feed = getattr(self, "_channel", None), getattr(self, "_feed", None)
        if channel is None or feed is None or (feed.done and feed.undoing() is None):
            return
        # Its consumer cancelled it, but the server was away then: the undoing is tried again, without a warning.
        was_cancelled = feed.error is not None
        # No task waits for it any more, and a finalizer must not wake any.
        feed.changed = None
        feed.give_up(LMStudioCancelledError(f"{feed.label}: dropped half-way."))
        # Before the warning: where warnings are errors, the warning is the end of this.
        channel.drop_soon(feed)
        if was_cancelled:
            return
        _warn(
            f"{feed.label}: dropped half-way, and now cancelled. Enter it, or wait for its result.",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

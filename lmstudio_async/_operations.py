"""Operations: work of the server that takes time, to iterate over, await and cancel.

An operation has two halves. Its *feed* (`_operation_feed`) receives the packets of its channel. The public half waits for
the feed, in the user's task.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from lmstudio_async._operation_feed import OperationFeed
from lmstudio_async._protocol._endpoints import ChannelEndpoint
from lmstudio_async._session import Session
from lmstudio_async._time_limit import within
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.errors import (
    LMStudioCancelledError,
    LMStudioError,
    LMStudioRuntimeError,
    LMStudioTimeoutError,
)

__all__ = ["AsyncOperation", "OperationChannel"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

# Shared by all operations without items, because an empty deque takes as much memory as one of sixty items.
_NOTHING: deque[Any] = deque(maxlen=0)


class OperationChannel(Protocol):
    """The work of an operation, while it is under way."""

    async def cancel(self) -> None:
        """Cancel the work. The feed then ends."""

    def drop_soon(self, receiver: OperationFeed[Any]) -> None:
        """Cancel the work, and undo it, from code that cannot await, such as a finalizer in any thread."""


class AsyncOperation(ABC, Generic[ItemT, ResultT]):
    """Work of the server: await it, iterate over it, or enter it.

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
        # Items that were taken from the feed all at once.
        self._taken: deque[ItemT] = _NOTHING
        self._channel: OperationChannel | None = None
        self._started = False
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
        """Make the result from the state of the feed."""

    # -- for users

    async def start(self) -> Self:
        """Start the operation, if it has not started.

        :return: the operation itself, so that ``stream = await model.respond_stream(...)`` works as well.
        :raises LMStudioWebsocketError: if the server cannot be reached.
        """
        if not self._started:
            if self._feed.done:
                raise self._feed.error or LMStudioRuntimeError(f"{self._feed.label}: already closed.")
            self._started = True
            try:
                # Before that, the address of the server may not be known, which the span names.
                await self._session.open()
                self._begin_span()
                # Do not keep the request after it is sent, because it may hold a long chat.
                creation, self._creation = self._creation, None
                self._channel = await self._open_channel(creation)
            except LMStudioError as error:
                self._feed.fail(error)
                raise
            except BaseException:
                self._feed.fail(LMStudioCancelledError(f"{self._feed.label}: cancelled before it had begun."))
                raise
            if self._feed.is_cancelled:
                # Another task has called `cancel`, when there was no channel to cancel yet.
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
        await self._wait_for_item()
        if feed.items:
            self._taken = feed.take_items()
            return self._taken.popleft()
        if feed.error is not None and not feed.is_cancelled:
            raise feed.error
        raise StopAsyncIteration

    def _take_nowait(self) -> ItemT | None:
        """Return an item if the event loop is not needed for it; else None.

        For the blocking facade, because a call into the event loop's thread is expensive.
        """
        taken = self._taken
        if not taken:
            return None
        # Not popleft(): Python checks for interrupts after a call, when no variable would hold the item yet.
        item = taken[0]
        del taken[0]
        return item

    async def wait_for_result(self) -> ResultT:
        """Wait for the end and return the result. Unread items are dropped.

        :return: the result; the same one each time.
        :raises LMStudioCancelledError: if the operation was cancelled, or left before its end.
        :raises LMStudioTimeoutError: if the server was silent for longer than the client's ``timeout``.
        :raises LMStudioServerError: if the server refused or failed.
        """
        await self.start()
        self._taken.clear()
        while not self._feed.done:
            self._feed.take_items()
            await self._wait_for_item()
        self._feed.take_items()
        return self.result()

    def result(self) -> ResultT:
        """Return the result without waiting.

        :return: the result; the same one each time.
        :raises LMStudioRuntimeError: if there is no result yet.
        :raises LMStudioError: if the operation has failed; the error that ended it.
        """
        if self._feed.error is not None:
            raise self._feed.error
        if not self._feed.done:
            raise LMStudioRuntimeError(
                f"{self._feed.label}: there is no result yet. Wait for it with wait_for_result()."
            )
        return self._result()

    async def cancel(self) -> None:
        """Cancel the work on the server, and wait until the server confirms it. No error if it has ended already."""
        if not self._started and not self._feed.done:
            self._feed.fail(LMStudioCancelledError(f"{self._feed.label}: cancelled before it had begun."))
        if self._feed.done:
            self._feed.drop()
            await self._undo(f"{self._feed.label}: cancelled by this program.")
            return
        self._feed.is_cancelled = True
        if self._channel is not None:
            with anyio.CancelScope(shield=True):
                await self._stop()
        else:
            # Another task is opening the channel, and cancels it then.
            await self._wait_for_end()

    async def aclose(self) -> None:
        """Close the operation; if it still runs, cancel it. Idempotent."""
        await self.cancel()

    # -- for subclasses

    def _begin_span(self) -> None:
        """Begin the span of the operation in the context of the caller, if it has none yet."""

    async def _open_channel(self, creation: Any) -> OperationChannel:
        """Begin the work."""
        return await self._session.open_channel(self._endpoint, creation, self._feed)

    @property
    def _silence_seconds(self) -> float | None:
        """Seconds without news from the server after which the operation fails; None for no limit."""
        return self._session.timeout

    async def _stop(self) -> None:
        """Cancel the channel, and wait for its end, for `stop_seconds` at most."""
        assert self._channel is not None
        await self._channel.cancel()
        with anyio.move_on_after(self._session.limits.stop_seconds):
            await self._wait_for_end()
        if not self._feed.done:
            self._feed.fail(
                LMStudioCancelledError(f"{self._feed.label}: cancelled, but the server did not confirm it.")
            )

    async def _abandon(self) -> None:
        """Cancel the operation and undo its work, because an exception keeps the user from taking the result."""
        with anyio.CancelScope(shield=True):
            await self.cancel()

    async def _undo(self, reason: str) -> None:
        """Undo a result on the server that the consumer has not taken."""
        if self._feed.undoing() is not None:
            self._feed.give_up(LMStudioCancelledError(reason))
            with anyio.CancelScope(shield=True):
                await self._session.undo(self._feed)

    async def _wait_for_item(self) -> None:
        """Wait until there is an item or the end."""
        if self._has_consumer:
            raise LMStudioRuntimeError(
                f"{self._feed.label}: another task already waits for this operation. Only one can."
            )
        self._has_consumer = True
        try:
            while not self._feed.items and not self._feed.done:
                # Each packet begins the time limit anew, also one without an item.
                if self._silence_seconds is None:
                    await self._wait_for_change()
                elif not await within(self._silence_seconds, self._wait_for_change):
                    await self._give_up()
                await self._look_up_outcome()
            if self._feed.error is not None:
                # The same event may have ended the connection and cancelled this task. The cancellation comes first.
                await checkpoint_if_cancelled()
        except BaseException:
            self._was_left = True
            await self._abandon()
            raise
        finally:
            self._has_consumer = False

    async def _wait_for_end(self) -> None:
        while not self._feed.done:
            await self._wait_for_change()
            await self._look_up_outcome()

    async def _wait_for_change(self) -> None:
        # One event for all, because a task that cancels may wait beside the consumer.
        feed = self._feed
        if feed.changed is None:
            feed.changed = anyio.Event()
        await feed.changed.wait()

    async def _look_up_outcome(self) -> None:
        """Look for the outcome on the server, if the channel was lost. Called after each change of the feed."""

    async def _give_up(self) -> None:
        """End the operation with a timeout, because the server was silent for too long."""
        feed = self._feed
        if feed.items or feed.done:
            return
        # Fail before the cancel is sent, because the server ends a cancelled channel with another error.
        feed.fail(
            LMStudioTimeoutError(
                f"{feed.label}: no news from {self._session.address} for {self._session.timeout:g} seconds"
                f"{self._latest_progress()}. The operation was cancelled. Raise the client's timeout to wait longer."
            )
        )
        if self._channel is not None:
            await self._channel.cancel()

    def _latest_progress(self) -> str:
        """Return the latest progress, to complete the sentence of a message."""
        return ""

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # The attributes are missing if the constructor has failed.
        channel, feed = getattr(self, "_channel", None), getattr(self, "_feed", None)
        if feed is None:
            return
        # Only work that is left on the server matters, and a request that was still to be continued by another.
        has_work = channel is not None and (not feed.done or feed.undoing() is not None)
        if not has_work and not feed.reports:
            return
        error = LMStudioCancelledError(f"{feed.label}: dropped half-way.")
        # A finalizer may run where the program holds a lock of its logs or exporters, so the event loop reports the end.
        reports, feed.reports = feed.reports, ()
        for report in reports:
            self._session.soon(partial(report.end, error, was_cancelled=True))
        if channel is None or not has_work:
            return
        # The consumer has cancelled it, but the server was not reachable then. Undo it now, without a warning.
        was_cancelled = feed.error is not None
        # No task waits for the operation any more, and a finalizer must not set an anyio event.
        feed.changed = None
        feed.give_up(error)
        # Before the warning, because the warning raises if warnings are errors.
        channel.drop_soon(feed)
        if was_cancelled:
            return
        _warn(
            f"{feed.label}: dropped half-way, and now cancelled. Enter it, or wait for its result.",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

"""Calls and channels of one namespace, over a connection that is made on first use and again after a loss."""

from __future__ import annotations

import logging
import random
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import Context
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from lmstudio_async._connection import Connection, OperationReceiver, Unclaimed
from lmstudio_async._instance_journal import InstanceJournal
from lmstudio_async._instance_records import InstanceRecords
from lmstudio_async._protocol._client_side import copy_of
from lmstudio_async._protocol._endpoints import ChannelEndpoint, RpcEndpoint
from lmstudio_async._server_access import ServerAccess
from lmstudio_async._time_limit import within
from lmstudio_async.errors import (
    LMStudioClientError,
    LMStudioConnectionBrokenError,
    LMStudioError,
    LMStudioTimeoutError,
    LMStudioWebsocketError,
)

if TYPE_CHECKING:
    from lmstudio_async._client_limits import ClientLimits
    from lmstudio_async._request_log import RequestLog
    from lmstudio_async._tracing import Tracing
    from lmstudio_async._wire._struct import WireObject

__all__ = ["ClientChannel", "Session", "refuse_to_pickle"]

P = TypeVar("P", bound="WireObject | None")
R = TypeVar("R")
E = TypeVar("E", bound=LMStudioError)

logger = logging.getLogger("lmstudio_async")

# Not the module's own generator, which programs seed to get the same numbers again, and which a fork copies.
_random = random.SystemRandom()


def refuse_to_pickle() -> NoReturn:
    """Raise the error for pickling or copying a client, or an object that uses the client's connections.

    :raises TypeError: always, because pickle and copy expect this type.
    """
    raise TypeError(
        "A client cannot be pickled or copied, nor can handles, which use its connections. Make a client in each "
        "process; infos, results, chats and errors can be passed on."
    )


class Session:
    """The connection to one namespace of the server.

    :param namespace: name of the namespace, for example ``llm``.
    :param access: source of the connector, and of the task group in which connections run.
    :param timeout: seconds to wait for a response; None waits for ever.
    :param journal: the client's journal.
    """

    def __init__(
        self, namespace: str, access: ServerAccess, timeout: float | None, journal: InstanceJournal
    ) -> None:
        self.namespace = namespace
        self.timeout = timeout
        self.limits: ClientLimits = access.limits
        self.journal: InstanceJournal = journal
        self.records: InstanceRecords = InstanceRecords(access.limits.references_kept, journal.departure)
        self._access = access
        self._connection: Connection | None = None
        #: Whether a connection was lost, and no other one has been made since.
        self._was_lost = False
        self._unclaimed = Unclaimed()

    @property
    def address(self) -> str:
        """Address of the server, for messages."""
        return self._access.address

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle()

    @property
    def server_is_ahead(self) -> float:
        """Seconds that the server's clock is ahead of this machine's; 0.0 if the server has not told its time."""
        return 0.0 if self._connection is None else self._connection.server_is_ahead

    def tracing(self) -> Tracing | None:
        """Return the source of spans; None unless the program has set up OpenTelemetry."""
        if "opentelemetry.trace" not in sys.modules:
            return None
        from lmstudio_async._tracing import Tracing, find_tracer

        tracer = find_tracer()
        return None if tracer is None else Tracing(tracer, self.address)

    async def call(self, endpoint: RpcEndpoint[P, R], parameter: P = None) -> R:  # type: ignore[assignment]
        """Make a call and wait for its response.

        :raises LMStudioTimeoutError: if no response arrives within the client's ``timeout``.
        """
        call = _PendingCall(endpoint, parameter)
        try:
            await self._send_calls([call])
            result: R = await self._wait_or_repeat(call)
        finally:
            call.forget()
        return result

    @overload
    async def call_each(self, endpoint: RpcEndpoint[P, R], parameters: Iterable[P]) -> list[R]: ...

    @overload
    async def call_each(
        self, endpoint: RpcEndpoint[P, R], parameters: Iterable[P], *, returned: type[E]
    ) -> list[R | E]: ...

    async def call_each(
        self, endpoint: RpcEndpoint[P, R], parameters: Iterable[P], *, returned: type[E] | None = None
    ) -> list[R] | list[R | E]:
        """Make many calls, a limited number of them at once. Return the responses in the order of the parameters.

        An idempotent call whose connection was lost is retried once.

        :param returned: the kind of errors that are returned in place of a response; None raises the first error.
        """
        waiting: deque[_PendingCall] = deque()
        results: list[R] = []
        left = iter(parameters)
        at_once = self.limits.calls_at_once
        try:
            while True:
                # Send all calls that the limit allows in one write.
                more = [
                    _PendingCall(endpoint, parameter) for parameter in islice(left, at_once - len(waiting))
                ]
                waiting += more
                await self._send_calls(more)
                if not waiting:
                    return results
                while True:
                    results.append(await self._response(waiting[0], returned))
                    waiting.popleft()
                    if not waiting or not waiting[0].done.is_set():
                        break
        finally:
            for call in waiting:
                call.forget()

    async def _send_calls(self, calls: Sequence[_PendingCall]) -> None:
        if not calls:
            return
        connection = await self._connected()
        for call in calls:
            call.attach(connection)
        try:
            await connection.send(*[call.frame for call in calls if call.frame])
        except LMStudioWebsocketError as error:
            for call in calls:
                call.fail(error)

    async def _response(self, call: _PendingCall, returned: type[LMStudioError] | None) -> Any:
        try:
            return await self._wait_or_repeat(call)
        except LMStudioError as error:
            if returned is None or not isinstance(error, returned):
                raise
            return error

    async def _wait_or_repeat(self, call: _PendingCall) -> Any:
        await self._wait(call)
        if isinstance(call.error, LMStudioConnectionBrokenError) and call.endpoint.repeatable:
            if call.connection is self._connection:
                await self.back_off()
            await self._send_calls([call])
            await self._wait(call)
        if call.error is not None:
            # The same event may have ended the connection and cancelled this task. The cancellation comes first.
            await checkpoint_if_cancelled()
            raise call.error
        return call.result

    async def _wait(self, call: _PendingCall) -> None:
        if self.timeout is None:
            await call.done.wait()
            return
        if not await within(self.timeout, call.done.wait) and not call.done.is_set():
            error = LMStudioTimeoutError(
                f"{call.endpoint.label}: {self.address} gave no answer to {call.endpoint.name!r} within "
                f"{self.timeout:g} seconds. It may still be at work; raise the client's timeout to wait longer."
            )
            call.forget(error)
            raise error

    async def back_off(self) -> None:
        """Wait for a short, random time after a loss, so that not all clients reconnect to the server at once."""
        await anyio.sleep(self.limits.back_off_seconds * _random.uniform(1, 2))

    async def open_channel(
        self, endpoint: ChannelEndpoint[P, Any], creation: P, receiver: OperationReceiver
    ) -> ClientChannel:
        """Open a channel. Once the channel has a number, its end is always reported to its receiver."""
        connection = await self._connected()
        number, frame = connection.open_channel(endpoint, creation, receiver)
        channel = ClientChannel(self, connection, number)
        if logger.isEnabledFor(logging.DEBUG):
            receiver.report_to(_request_log(connection, endpoint.name, number))
        try:
            if frame:
                await connection.send(frame)
        except LMStudioError as error:
            connection.multiplexer.forget_channel(number)
            receiver.end(error)
            raise
        except BaseException:
            # The frame may have been sent already. The server then ends the channel after the cancel.
            await channel.cancel()
            raise
        return channel

    async def undo(self, receiver: OperationReceiver) -> None:
        """Undo an operation's work on the server, and wait for it, for `undo_seconds` at most. No error if it fails."""
        undoing = receiver.undoing()
        if undoing is None:
            return
        try:
            with anyio.move_on_after(self.limits.undo_seconds):
                await self.call(*undoing)
            receiver.settle()
        except LMStudioWebsocketError as error:
            # Not settled, because a connection that is being closed undoes the work itself.
            logger.debug("could not undo an operation on the server: %s", error)
        except LMStudioError as error:
            logger.debug("could not undo an operation on the server: %s", error)
            receiver.settle(is_undone=False)

    async def open(self) -> None:
        """Open the client, if it is not open yet.

        :raises LMStudioRuntimeError: if it was opened in another event loop.
        """
        if not self._access.is_open:
            await self._access.open()
        self._access.tasks.check()

    def check(self) -> None:
        """Check that the caller runs in the event loop of the client, which is open.

        :raises LMStudioRuntimeError: if it is another event loop.
        """
        self._access.tasks.check()

    def start_soon(
        self, work: Callable[..., Coroutine[Any, Any, Any]], *args: Any, context: Context | None = None
    ) -> None:
        """Start work that more than one task waits for, in the client's task group. The client must be open.

        :param context: the context to run in; None for an empty one.
        """
        self._access.tasks.start_soon(work, *args, context=context)

    def run_soon(self, work: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Start work that no task waits for. Legal from any thread, also in code that cannot await."""
        if not self._access.tasks.run_soon(work, *args):
            logger.debug("an event loop ended before an abandoned operation could be cancelled")

    def soon(self, function: Callable[[], object]) -> None:
        """Call a plain function in the client's event loop; here and now if that has ended. Legal from any thread."""
        if not self._access.tasks.soon(function):
            function()

    def close_soon(self) -> None:
        """Start to close the connection, which then cancels its operations on the server."""
        if self._connection is not None:
            self._connection.scope.cancel()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed. The connection has time limits of its own for that."""
        if self._connection is not None:
            await self._connection.ended.wait()

    async def _connected(self) -> Connection:
        connection = await self._latest_connection()
        if connection.error is not None and connection.was_connected:
            # The connection was made, but lost before this task could use it, so connect once more.
            connection = await self._latest_connection()
        if connection.error is not None:
            await checkpoint_if_cancelled()
            raise copy_of(connection.error)
        return connection

    async def _latest_connection(self) -> Connection:
        """Return the latest connection, once it is connected or has failed. Start a new one if there is none."""
        access = self._access
        await self.open()
        connection = self._connection
        if connection is None or connection.error is not None:
            if connection is not None and connection.was_connected:
                self._was_lost = True
            assert access.connector is not None
            connection = Connection(
                self.namespace,
                access.connector,
                access.credentials,
                self._unclaimed,
                self.limits,
                self.records,
            )
            access.tasks.start_soon(connection.run)
            self._connection = connection
        if not connection.ready.is_set():
            await connection.ready.wait()
        if self._was_lost and connection.error is None:
            self._was_lost = False
            logger.info(
                "reconnected to %s (%s) after a loss",
                self.address,
                self.namespace,
                extra={"event": "reconnected", "server": self.address, "namespace": self.namespace},
            )
        return connection


class ClientChannel:
    """The client's end of an open channel."""

    __slots__ = ("_connection", "_number", "_session")

    def __init__(self, session: Session, connection: Connection, number: int) -> None:
        self._session = session
        self._connection = connection
        self._number = number

    async def cancel(self) -> None:
        """Send a cancel to the server, shielded and time-limited. No error if the channel or connection has ended."""
        frame = self._connection.cancel_frame(self._number)
        if frame is None or self._connection.ended.is_set():
            return
        with anyio.move_on_after(self._session.limits.clean_up_seconds, shield=True):
            try:
                await self._connection.transport.send(frame)
            except LMStudioClientError:
                logger.debug("a channel's connection ended before its cancel could be sent")

    def drop_soon(self, receiver: OperationReceiver) -> None:
        """Cancel the channel and undo its work, from code that cannot await, such as a finalizer in any thread."""
        self._session.run_soon(self._drop, receiver)

    async def _drop(self, receiver: OperationReceiver) -> None:
        await self.cancel()
        await self._session.undo(receiver)


class _PendingCall:
    """A call that waits for its response. It may be sent again, over another connection."""

    __slots__ = ("_log", "_number", "connection", "done", "endpoint", "error", "frame", "parameter", "result")

    def __init__(self, endpoint: RpcEndpoint[Any, Any], parameter: WireObject | None) -> None:
        self.endpoint = endpoint
        self.parameter = parameter
        self.connection: Connection | None = None

    def attach(self, connection: Connection) -> None:
        self.connection = connection
        self.done = anyio.Event()
        self.result: Any = None
        self.error: LMStudioError | None = None
        self._log: RequestLog | None = None
        self._number, self.frame = connection.multiplexer.call(self.endpoint, self.parameter, self)
        if logger.isEnabledFor(logging.DEBUG):
            self._log = _request_log(connection, self.endpoint.name, self._number)
            if self.done.is_set():
                self._end_log(self.error)

    def succeed(self, result: Any) -> None:
        self.result = result
        self.done.set()
        self._end_log(None)

    def fail(self, error: LMStudioError) -> None:
        self.error = error
        self.done.set()
        self._end_log(error)

    def forget(self, error: LMStudioError | None = None) -> None:
        """Drop the call, which may have ended.

        :param error: the error that the caller gets in place of a response; None if the caller has gone.
        """
        if self.connection is not None:
            self.connection.multiplexer.forget_call(self._number)
            self._end_log(error, was_cancelled=error is None)

    def _end_log(self, error: LMStudioError | None, *, was_cancelled: bool = False) -> None:
        log = self._log
        if log is not None:
            self._log = None
            log.end(error, was_cancelled=was_cancelled)


def _request_log(connection: Connection, endpoint: str, number: int) -> RequestLog:
    from lmstudio_async._request_log import RequestLog

    return RequestLog(connection.namespace, endpoint, number)

"""One connection to a namespace of the server, from connect to close."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from lmstudio_async._printable import printable
from lmstudio_async._protocol._auth import Credentials, check_authentication_result
from lmstudio_async._protocol._client_side import ChannelReceiver, Multiplexer, copy_of
from lmstudio_async._protocol._endpoints import ChannelEndpoint, RpcEndpoint
from lmstudio_async._wire._json import dumps, loads
from lmstudio_async.errors import (
    LMStudioClientError,
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioError,
    LMStudioProtocolError,
    LMStudioUnreachableError,
    LMStudioWebsocketError,
)

if TYPE_CHECKING:
    from lmstudio_async._client_limits import ClientLimits
    from lmstudio_async._protocol._client_side import InstanceObserver
    from lmstudio_async._transport import ClientTransport, Connector
    from lmstudio_async._wire._struct import WireObject

__all__ = ["Connection", "OperationReceiver", "OperationReport", "Unclaimed"]

logger = logging.getLogger("lmstudio_async")


class OperationReport(Protocol):
    """A record of an operation that ends with it: a line of the log, or a span."""

    def end(self, error: LMStudioError | None, *, was_cancelled: bool) -> None:
        """Record the end.

        :param error: the error that ended it; None for a result.
        :param was_cancelled: whether this program has given the operation up.
        """


class OperationReceiver(ChannelReceiver, Protocol):
    """The receiver of a channel that may make something on the server, such as a new instance."""

    @property
    def is_open(self) -> bool:
        """Whether the channel has not ended yet."""
        ...

    @property
    def may_need_undoing(self) -> bool:
        """Whether the operation has created something that its consumer has not taken, or may still create it."""
        ...

    def attach(self, connection: Connection, number: int) -> None:
        """Store the connection and the number of a channel that is about to be opened."""

    def report_to(self, report: OperationReport) -> None:
        """Report the end of the operation, also if it has ended already."""

    def undoing(self) -> tuple[RpcEndpoint[Any, Any], WireObject] | None:
        """Return the call that undoes the operation's work on the server; None if there is nothing to undo."""

    def settle(self, *, is_undone: bool = True) -> None:
        """Record that the work is undone, or cannot be undone."""


class Unclaimed:
    """The operations of a namespace whose results may stay on the server without an owner."""

    def __init__(self) -> None:
        self._receivers: list[OperationReceiver] = []

    def add(self, receiver: OperationReceiver) -> None:
        """Watch an operation until its consumer has taken the result, or until it has ended without one."""
        self._receivers = [*self, receiver]

    def __iter__(self) -> Iterator[OperationReceiver]:
        return iter([each for each in self._receivers if each.may_need_undoing])


class Connection:
    """One connection. A task of the client runs `run`, which connects, receives and closes, and never raises.

    :param namespace: name of the namespace, for example ``llm``.
    :param connector: source of the transport.
    :param credentials: content of the authentication packet.
    :param unclaimed: the operations to undo when the client closes, unless their consumers have taken the results.
    :param limits: the client's limits.
    :param observer: hears of the uses of instances.
    """

    def __init__(
        self,
        namespace: str,
        connector: Connector,
        credentials: Credentials,
        unclaimed: Unclaimed,
        limits: ClientLimits,
        observer: InstanceObserver,
    ) -> None:
        self.limits: ClientLimits = limits
        self.multiplexer: Multiplexer = Multiplexer(observer)
        self.transport: ClientTransport
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self.ready: anyio.Event = anyio.Event()
        self.ended: anyio.Event = anyio.Event()
        self.error: LMStudioError | None = None
        self.was_connected: bool = False
        self.namespace: str = namespace
        self._connector = connector
        self._credentials = credentials
        self._unclaimed = unclaimed
        # Frames of receivers. The receive loop sends them once it has dispatched all frames that have arrived.
        self._replies: list[str] = []

    @property
    def server_is_ahead(self) -> float:
        """Seconds that the server's clock is ahead of this machine's; 0.0 if the server has not told its time."""
        return self.transport.server_is_ahead if self.was_connected else 0.0

    async def run(self) -> None:
        try:
            with self.scope:
                await self._connect_and_receive()
        except Exception as error:  # noqa: BLE001 - only this task can fail the waiters
            self.fail(error)
        finally:
            self.fail(_closed())
            self.ready.set()
            self.ended.set()

    async def send(self, *frames: str) -> None:
        """Send frames.

        :raises LMStudioWebsocketError: the connection is lost or closed.
        """
        try:
            await self.transport.send(*frames)
        except LMStudioWebsocketError as error:
            # Fail the waiters now: new callers must reconnect, and the receive loop may notice the loss only later.
            self.fail(error)
            raise copy_of(self.error or error) from error

    def open_channel(
        self, endpoint: ChannelEndpoint[Any, Any], creation: WireObject | None, receiver: OperationReceiver
    ) -> tuple[int, str]:
        """Register a new channel.

        :return: its number, and the frame that opens it; the frame is empty if the channel has ended already.
        """
        number, frame = self.multiplexer.open_channel(endpoint, creation, receiver)
        receiver.attach(self, number)
        self._unclaimed.add(receiver)
        return number, frame

    def cancel_frame(self, number: int) -> str | None:
        """Return the frame that cancels a channel; None if the channel has ended."""
        from lmstudio_async._wire._models import Cancel

        return self.multiplexer.packet(number, Cancel())

    def cancel_later(self, number: int) -> None:
        """Cancel a channel once the packets that have arrived are dispatched. Called by receivers."""
        frame = self.cancel_frame(number)
        if frame is not None:
            self._replies.append(frame)

    def undo_later(self, receiver: OperationReceiver) -> None:
        """Undo an operation once the packets that have arrived are dispatched. Called by receivers."""
        self._replies += self._undo_frames(receiver)

    def fail(self, error: Exception) -> None:
        """End the connection: fail all waiters with this error. If it has failed before, keep the first error."""
        if self.error is not None:
            return
        where = self._connector.address
        if not isinstance(error, LMStudioError):
            self.error = LMStudioProtocolError(f"The connection to {where} failed: {printable(repr(error))}")
        elif isinstance(error, LMStudioConnectionBrokenError) and not self.was_connected:
            self.error = LMStudioUnreachableError(
                f"The connection to {where} was lost before the handshake was complete: {error}"
            )
        else:
            self.error = error
        if self.error is not error:
            self.error.__cause__ = error
        self.multiplexer.fail_all(self.error)

    async def _connect_and_receive(self) -> None:
        seconds = self.limits.connect_seconds
        connecting = anyio.CancelScope(deadline=anyio.current_time() + seconds)
        with connecting:
            async with self._connector.connect(self.namespace) as transport:
                self.transport = transport
                await transport.send(dumps(self._credentials.packet()))
                first, *rest = await transport.receive()
                check_authentication_result(_json_or_none(first))
                connecting.deadline = math.inf
                self.was_connected = True
                self.ready.set()
                try:
                    await self._dispatch(rest)
                    while True:
                        await self._dispatch(await transport.receive())
                except Exception as error:
                    # Fail the waiters now: closing takes a while, and new callers must reconnect.
                    self.fail(error)
                    raise
                finally:
                    await self._clean_up()
        if connecting.cancelled_caught:
            raise LMStudioUnreachableError(
                f"{self._connector.address} did not complete the handshake within {seconds:g} seconds. "
                "Is this LM Studio's address?"
            )

    async def _dispatch(self, frames: Sequence[str]) -> None:
        for frame in frames:
            self.multiplexer.receive(frame)
        if self._replies:
            replies, self._replies = self._replies, []
            await self.transport.send(*replies)

    async def _clean_up(self) -> None:
        """Clean up on the server: cancel running operations, and undo results that no consumer has taken.

        The server may continue work after its client has disconnected, and a load may succeed while its cancel is on
        the way. So the connection keeps receiving until these channels are closed and these instances are unloaded.
        """
        if self.error is not None:
            # The connection is lost, so nothing can be sent.
            return
        cancels = list(filter(None, map(self.cancel_frame, self.multiplexer.open_channels)))
        self.error = _closed()
        self.multiplexer.give_up_all(self.error)
        for receiver in self._unclaimed:
            receiver.give_up(_closed())
        with anyio.move_on_after(self.limits.clean_up_seconds, shield=True):
            try:
                if cancels:
                    await self.transport.send(*cancels)
                while any(receiver.is_open for receiver in self._unclaimed):
                    await self._dispatch(await self.transport.receive())
                undo = [frame for receiver in self._unclaimed for frame in self._undo_frames(receiver)]
                if undo:
                    await self.transport.send(*undo)
                while self.multiplexer.has_calls:
                    await self._dispatch(await self.transport.receive())
            except LMStudioClientError:
                logger.debug("a connection ended before its operations could be cancelled")

    def _undo_frames(self, receiver: OperationReceiver) -> list[str]:
        undoing = receiver.undoing()
        if undoing is None:
            return []
        receiver.settle()
        endpoint, parameter = undoing
        _, frame = self.multiplexer.call(endpoint, parameter, _IGNORED)
        return [frame] if frame else []


class _Ignored:
    """The receiver of a response that no task waits for."""

    def succeed(self, result: Any) -> None:
        pass

    def fail(self, error: LMStudioError) -> None:
        logger.debug("could not undo an operation on the server: %s", error)


_IGNORED = _Ignored()


def _closed() -> LMStudioConnectionClosedError:
    return LMStudioConnectionClosedError("The client was closed.")


def _json_or_none(frame: str) -> Any:
    try:
        return loads(frame)
    except ValueError:
        return None

"""One established websocket as a ``FrameTransport``: reading, coalesced writing, keepalive and closing handshake.

httpx-ws opens the connection, and this module reads and writes on it. One read returns every message that has arrived,
and the frames of concurrent senders go out in one write.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio
import httpcore
from wsproto.connection import Connection, ConnectionState
from wsproto.events import CloseConnection, Event, Ping, Pong
from wsproto.frame_protocol import CloseReason

from lmstudio_async._printable import printable
from lmstudio_async._time_limit import stood_still_since
from lmstudio_async._transport._frames import FrameEnd, FrameReader, masked_text_frame
from lmstudio_async._transport._stream import ByteStream, WrappedStream, stream_under
from lmstudio_async.errors import (
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioRuntimeError,
)

__all__ = ["WebSocketTransport"]

# A large batch goes out in pieces, so that the time limit of a write measures progress.
_WRITE_BYTES = 262_144
_MAX_UNSENT_BYTES = 1_048_576


class WebSocketTransport:
    """The client's end of one websocket. See ``ClientTransport`` for the contract.

    :param date: the header ``Date`` of the server's response to the handshake; None if there is none.
    """

    def __init__(
        self,
        stream: httpcore.AsyncNetworkStream,
        connection: Connection,
        url: str,
        date: str | None,
        *,
        ping_interval: float,
        ping_timeout: float,
        write_timeout: float,
        close_timeout: float,
        max_message_bytes: int,
    ) -> None:
        self._stream = stream
        # Replaced by the inner stream after the first read.
        self._bytes: ByteStream = WrappedStream(stream.read, stream.write)
        self._is_unwrapped = False
        self._connection = connection
        self._url = url
        self._date = date
        self._connected_at = time.time()
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._write_timeout = write_timeout
        self._close_timeout = close_timeout
        self._reader = FrameReader(connection, max_message_bytes)
        # The time limit of a ping that the server has not answered.
        self._ping_deadline: float | None = None
        self._closing = False
        # The reason why the connection is lost, and the exception that reported it.
        self._broken: str | None = None
        self._cause: BaseException | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._write_scope: anyio.CancelScope | None = None
        self._room: anyio.Event | None = None
        self._receiving = False
        # Made by aclose() while a task receives, and set when that task stops using the socket.
        self._released: anyio.Event | None = None

    @property
    def server_is_ahead(self) -> float:
        if self._date is None:
            return 0.0
        # Most clients never ask.
        from lmstudio_async._transport._server_clock import seconds_ahead

        return seconds_ahead(self._date, self._connected_at)

    async def send(self, *frames: str) -> None:
        self._raise_if_ended()
        data = b"".join([masked_text_frame(frame) for frame in frames])
        if self._write_scope is None and self._bytes.write_nowait(data):
            return
        self._append(data)
        if self._write_scope is None:
            await self._flush()
            if self._broken is not None:
                self._raise_if_ended()
        elif self._out_bytes > _MAX_UNSENT_BYTES:
            # Waiting after the frame has its place in the queue keeps concurrent senders in order.
            if self._room is None:
                self._room = anyio.Event()
            await self._room.wait()
            self._raise_if_ended()

    async def receive(self) -> Sequence[str]:
        self._raise_if_ended()
        if self._receiving:
            raise LMStudioRuntimeError(
                "another task already receives from this connection; one task receives"
            )
        self._receiving = True
        try:
            while True:
                frames = await self._read_some()
                if self._closing:
                    # Drop further messages, because aclose() waits only for the server's close frame.
                    if self._broken is not None:
                        self._raise_if_ended()
                elif frames:
                    return frames
                else:
                    self._raise_if_ended()
        finally:
            self._receiving = False
            if self._released is not None:
                self._released.set()

    async def aclose(self) -> None:
        if self._closing:
            return
        self._closing = True
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self._close_timeout):
                await self._exchange_close_frames()
            if self._write_scope is not None:
                self._write_scope.cancel()
            with anyio.move_on_after(self._close_timeout):
                await self._drop()
        self._wake_senders()

    async def _exchange_close_frames(self) -> None:
        """Send a close frame and wait for the server's, which the receiving task reads if there is one."""
        if self._broken is not None:
            return
        self._append_event(CloseConnection(CloseReason.NORMAL_CLOSURE))
        await self._flush()
        while self._broken is None:
            if self._receiving:
                self._released = anyio.Event()
                await self._released.wait()
            else:
                await self._read_some()

    async def _read_some(self) -> list[str]:
        """Read once, answer pings, check for silence, and return the messages. The end is stored, not raised."""
        try:
            data = await self._read(
                self._ping_interval if self._ping_deadline is None else self._ping_timeout
            )
        except Exception as exc:  # noqa: BLE001 - after any error of the socket layers, the connection is lost
            self._set_broken(f"the network failed ({_describe(exc)})", exc)
            return []
        if data is None:
            await self._ping_or_drop()
            return []
        if not data:
            self._set_broken("the server closed the socket without a close frame")
            return []
        self._ping_deadline = None
        frames = self._reader.feed(data)
        if self._reader.pings:
            # A pong to the latest ping answers all pings before it (RFC 6455, 5.5.3), so that a flood costs nothing.
            self._append_event(Pong(self._reader.pings[-1]))
            self._reader.pings.clear()
            await self._flush()
        if self._reader.end is not None:
            await self._answer_end(self._reader.end)
        return frames

    async def _read(self, seconds: float) -> bytes | None:
        """Return the bytes that have arrived; empty at the end, None after ``seconds`` of silence."""
        data = await self._bytes.read(seconds)
        if not self._is_unwrapped:
            # The inner stream can be used now, because the data that came with the upgrade has been read.
            self._is_unwrapped = True
            self._bytes = stream_under(self._stream) or self._bytes
        return data

    async def _ping_or_drop(self) -> None:
        """Send a ping to a silent server, or drop the connection if the last ping was not answered."""
        if self._ping_deadline is not None and not stood_still_since(self._ping_deadline):
            silence = self._ping_interval + self._ping_timeout
            self._set_broken(f"the server was silent for {silence:g} seconds and did not answer a ping")
            await self._drop()
            return
        self._ping_deadline = anyio.current_time() + self._ping_timeout
        self._append_event(Ping(b"lmstudio"))
        await self._flush()

    async def _answer_end(self, end: FrameEnd) -> None:
        """Send this side's close frame, and store the end."""
        if end.by_peer:
            reason = f": {printable(end.reason)}" if end.reason else ""
            description = f"the server closed it with code {end.code}{reason}"
        else:
            description = (
                f"the server broke the websocket protocol: {printable(end.reason)} (code {end.code})"
            )
        code = CloseReason.PROTOCOL_ERROR
        if end.by_peer:
            # 1005 stands for "no code was sent" and must not be sent itself.
            code = CloseReason.NORMAL_CLOSURE
        elif end.code in CloseReason.__members__.values():
            code = CloseReason(end.code)
        self._append_event(CloseConnection(code))
        await self._flush()
        self._set_broken(description)
        if not self._closing:
            await self._drop()

    def _append_event(self, event: Event) -> None:
        """Queue a control frame, unless the close frame was sent already."""
        state = self._connection.state
        if state is ConnectionState.OPEN or (
            state is ConnectionState.REMOTE_CLOSING and isinstance(event, CloseConnection)
        ):
            self._append(bytes(self._connection.send(event)))

    def _append(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)

    async def _flush(self) -> None:
        """Write until the queue is empty, other tasks' frames included. A failure is stored, not raised.

        Shielded, because a cancelled sender must not leave half a frame on the wire; bounded by the time for which
        the server may leave its socket unread.
        """
        if not self._out or self._write_scope is not None or self._broken is not None:
            return
        with anyio.CancelScope(shield=True) as scope:
            self._write_scope = scope
            try:
                while self._out:
                    data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
                    self._out.clear()
                    self._out_bytes = 0
                    self._wake_senders()
                    await self._write(data, scope)
            except BaseException as exc:
                # asyncio's own cancellation passes through shields, and how much was written is unknown after it.
                reason = f"a write failed ({_describe(exc)})"
                if scope.cancel_called:
                    reason = f"the server did not read the sent data for {self._write_timeout:g} seconds"
                self._set_broken(reason, exc)
                # This also ends the wait of a receiving task.
                await self._drop()
                if not isinstance(exc, Exception):
                    raise
            finally:
                self._write_scope = None

    async def _write(self, data: bytes, scope: anyio.CancelScope) -> None:
        if len(data) <= _WRITE_BYTES:
            scope.deadline = anyio.current_time() + self._write_timeout
            await self._bytes.write(data)
            return
        view = memoryview(data)
        for at in range(0, len(data), _WRITE_BYTES):
            scope.deadline = anyio.current_time() + self._write_timeout
            await self._bytes.write(bytes(view[at : at + _WRITE_BYTES]))

    async def _drop(self) -> None:
        """Close the socket."""
        if self._broken is None:
            self._broken = "it was dropped"
        with anyio.move_on_after(self._close_timeout, shield=True):
            try:
                await self._stream.aclose()
            except Exception:  # noqa: BLE001, S110 - it is gone either way
                pass

    def _set_broken(self, reason: str, cause: BaseException | None = None) -> None:
        # The first reason is the cause of the others.
        if self._broken is None:
            self._broken, self._cause = reason, cause
        self._out.clear()
        self._out_bytes = 0
        self._wake_senders()

    def _wake_senders(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    def _raise_if_ended(self) -> None:
        if self._closing:
            raise LMStudioConnectionClosedError(f"the connection to {self._url} was closed by this program")
        if self._broken is not None:
            raise LMStudioConnectionBrokenError(
                f"the connection to {self._url} was lost: {self._broken}"
            ) from self._cause


def _describe(exc: BaseException) -> str:
    return printable(str(exc), 300) or type(exc).__name__

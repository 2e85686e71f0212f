"""An asyncio transport as a ``ByteStream``, without anyio's stream around it.

anyio's stream would be half of the cost of a call: it resumes and pauses reading of the socket for each read, and runs
a checkpoint for each write, and asyncio allocates a quarter of a megabyte for the few bytes of a response.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

__all__ = ["AsyncioStream"]

_READ_BYTES = 262_144
# Limits of the bytes that are not read yet, and of the bytes that wait for the event loop to write them.
_MAX_UNREAD_BYTES = 1_048_576
_MAX_UNWRITTEN_BYTES = 65_536


class AsyncioStream(asyncio.BufferedProtocol):
    """The protocol of a transport, and the stream of bytes over it. See ``ByteStream`` for the contract.

    The first write after a read goes out at once. Further writes, before the server has sent anything, are gathered
    for one iteration of the event loop, and go out together.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._at_eof = False
        self._is_lost = False
        self._error: Exception | None = None
        # The future of the task that waits for data, its deadline, and the timer that checks the deadline.
        self._reader: asyncio.Future[None] | None = None
        self._deadline = 0.0
        # Of a timer, only cancel() may be used, because some event loops' timers have no more (qasync's have no `when()`).
        self._timer: asyncio.Handle | None = None
        self._timer_deadline = 0.0
        self._is_answered = True
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        # Set while the transport's buffer is full, because the system accepts no more data.
        self._writer: asyncio.Future[None] | None = None

    @classmethod
    def taking_over(cls, transport: Any) -> Self | None:
        """Take over the transport of anyio's stream; None if it is no such transport, or has data not read yet."""
        # The class is not checked, because uvloop's transports are not asyncio's.
        if not hasattr(transport, "set_protocol") or transport.is_closing():
            return None
        before = transport.get_protocol()
        if getattr(before, "read_queue", True) or getattr(before, "is_at_eof", True):
            return None
        stream = cls(transport)
        transport.set_protocol(stream)
        transport.resume_reading()
        return stream

    async def read(self, seconds: float) -> bytes | None:
        if not self._unread and not self._at_eof:
            self._deadline = self._loop.time() + seconds
            # Keep an earlier timer, because setting one costs more than a check of the deadline when it fires.
            if self._timer is None or self._deadline < self._timer_deadline:
                self._set_timer()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if not self._unread:
            if self._error is not None:
                raise self._error
            return b"" if self._at_eof else None
        data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        if self._unread_bytes > _MAX_UNREAD_BYTES:
            self._transport.resume_reading()
        self._unread_bytes = 0
        return data

    def write_nowait(self, data: bytes) -> bool:
        gathered = self._unwritten_bytes + len(data)
        if self._writer is not None or self._is_lost or gathered > _MAX_UNWRITTEN_BYTES:
            return False
        is_first = not self._unwritten
        self._unwritten.append(data)
        self._unwritten_bytes = gathered
        if is_first and self._is_answered:
            self._write_gathered()
        elif is_first:
            self._loop.call_soon(self._write_gathered)
        return True

    async def write(self, data: bytes) -> None:
        self._unwritten.append(data)
        self._write_gathered()
        while self._writer is not None:
            await self._writer
        if self._is_lost:
            raise self._error or ConnectionResetError("the connection is closed")

    def _write_gathered(self) -> None:
        if self._unwritten:
            data = b"".join(self._unwritten)
            self._unwritten.clear()
            self._unwritten_bytes = 0
            self._is_answered = False
            self._transport.write(data)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_deadline = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._check_timeout)

    def _check_timeout(self) -> None:
        self._timer = None
        if self._reader is None:
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._wake_reader()

    # -- called by asyncio

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._is_answered = True
        self._unread.append(bytes(self._buffer[:nbytes]))
        self._unread_bytes += nbytes
        if self._unread_bytes > _MAX_UNREAD_BYTES:
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        self._at_eof = True
        self._wake_reader()
        # True keeps the transport open, because its owner closes it.
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._at_eof = self._is_lost = True
        self._error = exc
        self._wake_reader()
        self.resume_writing()
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._writer = self._loop.create_future()

    def resume_writing(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            writer.set_result(None)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

"""The stream of bytes under a websocket, without httpcore's wrappers around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio
import httpcore

__all__ = ["ByteStream", "WrappedStream", "stream_under"]

# The number of bytes that asyncio reads at once; anyio would cut and copy them if a read requested fewer.
_READ_BYTES = 262_144


class ByteStream(Protocol):
    """Reading and writing of bytes. It has no method to close it: close the stream that it was found in."""

    async def read(self, seconds: float) -> bytes | None:
        """Return the bytes that have arrived; empty at the end, None after ``seconds`` of silence."""
        ...

    def write_nowait(self, data: bytes) -> bool:
        """Write all data if that needs no waiting, and return whether it was written."""
        ...

    async def write(self, data: bytes) -> None:
        """Write all data."""


class WrappedStream:
    """A byte stream made of any method that reads and any method that writes."""

    def __init__(
        self, read: Callable[[int], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._read = read
        self._write = write

    async def read(self, seconds: float) -> bytes | None:
        with anyio.move_on_after(seconds):
            try:
                return await self._read(_READ_BYTES)
            except anyio.EndOfStream:
                return b""
        return None

    def write_nowait(self, data: bytes) -> bool:  # noqa: ARG002
        """Return False, because every write of such a stream yields to other tasks."""
        return False

    async def write(self, data: bytes) -> None:
        await self._write(data)


def stream_under(stream: httpcore.AsyncNetworkStream) -> ByteStream | None:
    """Find the stream of anyio or trio that httpcore has wrapped twice, or asyncio's transport under anyio's stream.

    Each wrapper adds a time limit and an error mapping to every read and write. httpcore has no public access to the
    inner stream, so a new version may hide it; the caller then keeps using httpcore's stream, which works as well.

    :param stream: stream of an upgraded connection, after the data that came with the upgrade was read from it.
    :return: the inner stream; None if it is not where httpcore 1.0 keeps it.
    """
    inner: Any = stream
    for _ in range(2):
        inner = getattr(inner, "_stream", None)
    if hasattr(inner, "_transport"):
        from lmstudio_async._transport._asyncio_stream import AsyncioStream

        taken = AsyncioStream.taking_over(inner._transport)
        if taken is not None:
            return taken
    for read, write in (("receive", "send"), ("receive_some", "send_all")):
        if hasattr(inner, read) and hasattr(inner, write):
            return WrappedStream(getattr(inner, read), getattr(inner, write))
    return None

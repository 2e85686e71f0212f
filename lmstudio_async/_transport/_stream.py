"""The stream of bytes under a websocket, without what httpcore puts around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio
import httpcore

__all__ = ["ByteStream", "WrappedStream", "stream_under"]

# asyncio reads that much at once; asking for less makes anyio cut and copy it.
_READ_BYTES = 262_144


class ByteStream(Protocol):
    """What is done to it often. To close it, close what it was found in."""

    async def read(self, seconds: float) -> bytes | None:
        """Give what has arrived; no bytes at the end, and None if nothing arrives for so many seconds."""
        ...

    def write_nowait(self, data: bytes) -> bool:
        """Write all of it if that needs no waiting. Gives whether it did."""
        ...

    async def write(self, data: bytes) -> None:
        """Write all of it."""


class WrappedStream:
    """Any stream that has a method to read from it and one to write to it."""

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
        """Every write of these gives way to other tasks."""
        return False

    async def write(self, data: bytes) -> None:
        await self._write(data)


def stream_under(stream: httpcore.AsyncNetworkStream) -> ByteStream | None:
    """Find anyio's stream, or trio's, which httpcore has wrapped twice; and what asyncio has under anyio's.

    Each wrapper has a time limit and error classes of its own, around every read and write. They have no public way
    through, so it may close; the wrapped stream then does as well.

    :param stream: of an upgraded connection, when what came with the upgrade was read from it.
    :return: the stream; None if it is not where it was in httpcore 1.0.
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

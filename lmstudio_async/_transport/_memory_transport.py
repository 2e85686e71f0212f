"""A connection inside one process: two ends, each of them a ``FrameTransport``."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from lmstudio_async._transport._base import ClientTransport
from lmstudio_async.errors import (
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioRuntimeError,
    LMStudioValueError,
)

__all__ = ["memory_pair"]

_MAX_UNREAD = 4096


def memory_pair(*, max_unread: int = _MAX_UNREAD) -> tuple[ClientTransport, ClientTransport]:
    """Make both ends of a connection.

    Each end receives the frames that the other end sends. When one end closes, the other end still receives the
    frames that were sent before, and is broken from then on.

    :param max_unread: number of frames that may wait to be received before ``send`` waits for the receiver.
    :return: the two ends; either of them can be the client's.
    """
    one, other = _MemoryTransport(max_unread), _MemoryTransport(max_unread)
    one._peer, other._peer = other, one
    return one, other


class _MemoryTransport:
    """One end of an in-process connection."""

    __slots__ = ("_arrived", "_closed", "_inbox", "_max_unread", "_peer", "_room")

    # Both ends have one clock.
    server_is_ahead = 0.0

    _peer: _MemoryTransport

    def __init__(self, max_unread: int) -> None:
        self._max_unread = max_unread
        self._closed = False
        self._inbox: list[str] = []
        # Made only by a task that has to wait, so that a busy connection makes none.
        self._arrived: anyio.Event | None = None
        self._room: anyio.Event | None = None

    async def send(self, *frames: str) -> None:
        self._raise_if_ended()
        for frame in frames:
            if not frame.isascii():
                _refuse_lone_surrogates(frame)
        peer = self._peer
        peer._inbox.extend(frames)
        if peer._arrived is not None:
            peer._arrived.set()
        # Waiting after the delivery, not before it, keeps concurrent senders in order.
        if len(peer._inbox) > self._max_unread:
            if peer._room is None:
                peer._room = anyio.Event()
            await peer._room.wait()
            self._raise_if_ended()

    async def receive(self) -> Sequence[str]:
        if not self._inbox or self._closed:
            self._raise_if_ended()
            if self._arrived is not None:
                raise LMStudioRuntimeError(
                    "another task already receives from this connection; one task receives"
                )
            self._arrived = anyio.Event()
            try:
                await self._arrived.wait()
            finally:
                self._arrived = None
            if not self._inbox or self._closed:
                self._raise_if_ended()
        frames, self._inbox = self._inbox, []
        if self._room is not None:
            self._room.set()
            self._room = None
        return frames

    async def aclose(self) -> None:
        self._closed = True
        self._inbox = []
        for end in (self, self._peer):
            if end._arrived is not None:
                end._arrived.set()
            if end._room is not None:
                end._room.set()
                end._room = None

    def _raise_if_ended(self) -> None:
        if self._closed:
            raise LMStudioConnectionClosedError("this connection was closed by this program")
        if self._peer._closed:
            raise LMStudioConnectionBrokenError("the connection was lost: the other side closed it")


def _refuse_lone_surrogates(frame: str) -> None:
    """Refuse a text that a socket could not carry, so that in-process use hides no mistake."""
    try:
        frame.encode()
    except UnicodeEncodeError as exc:
        raise LMStudioValueError(
            f"a frame must be valid Unicode, but character {exc.start} is half of a surrogate pair"
        ) from exc

"""The stream of bytes under a websocket, without what httpcore puts around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import httpcore

__all__ = ["InnerStream", "stream_under"]


class InnerStream(NamedTuple):
    """The two things that are done to it often.

    :param read: gives at most so many bytes; at the end none, or it raises ``anyio.EndOfStream``.
    :param write: writes all of them.
    """

    read: Callable[[int], Awaitable[bytes]]
    write: Callable[[bytes], Awaitable[None]]


def stream_under(stream: httpcore.AsyncNetworkStream) -> InnerStream | None:
    """Find anyio's stream, or trio's, which httpcore has wrapped twice.

    Each wrapper has a time limit and error classes of its own, around every read and write: together an eighth of
    what a call costs. They have no public way through, so it may close; the wrapped stream then does as well.

    :param stream: of an upgraded connection, when what came with the upgrade was read from it.
    :return: the stream; None if it is not where it was in httpcore 1.0.
    """
    inner: Any = stream
    for _ in range(2):
        inner = getattr(inner, "_stream", None)
    for read, write in (("receive", "send"), ("receive_some", "send_all")):
        if hasattr(inner, read) and hasattr(inner, write):
            return InnerStream(getattr(inner, read), getattr(inner, write))
    return None

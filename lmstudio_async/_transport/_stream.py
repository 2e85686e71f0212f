"""The stream of bytes under a websocket, without what httpcore puts around it."""

from __future__ import annotations

from typing import Any

import httpcore
from anyio.abc import ByteStream

__all__ = ["stream_under"]


def stream_under(stream: httpcore.AsyncNetworkStream) -> ByteStream | None:
    """Find anyio's stream, which httpcore has wrapped twice.

    Each wrapper has a time limit and error classes of its own, around every read and write: together an eighth of
    what a call costs. They have no public way through, so it may close; the wrapped stream then does as well.

    :param stream: of an upgraded connection, when what came with the upgrade was read from it.
    :return: the stream; None if it is not where it was in httpcore 1.0.
    """
    inner: Any = stream
    for _ in range(2):
        inner = getattr(inner, "_stream", None)
    return inner if isinstance(inner, ByteStream) else None

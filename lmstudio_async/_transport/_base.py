"""What a connection is to the layers above: text frames in, text frames out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

__all__ = ["Connector", "FrameTransport"]


class FrameTransport(Protocol):
    """One established connection.

    One task receives; any task may send. After the end every call raises, it never hangs:
    ``LMStudioConnectionClosedError`` if this side closed, ``LMStudioConnectionBrokenError`` otherwise.
    """

    async def send(self, *frames: str) -> None:
        """Send frames, together. Those of concurrent senders keep the order in which ``send`` was called."""

    async def receive(self) -> Sequence[str]:
        """Wait until frames are there, and give all that have arrived: at least one."""
        ...

    async def aclose(self) -> None:
        """Close. Idempotent, legal in any state, shielded from cancellation, and bounded in time."""


class Connector(Protocol):
    """Where connections come from: a server behind a socket, or one in this process."""

    @property
    def address(self) -> str:
        """What a person would call the place, for error messages."""
        ...

    def connect(self, namespace: str) -> AbstractAsyncContextManager[FrameTransport]:
        """Connect to one namespace of the server; leaving the block closes the transport.

        :raises LMStudioUnreachableError: if nobody answers there.
        """
        ...

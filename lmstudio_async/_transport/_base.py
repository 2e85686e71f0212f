"""Protocols of a connection for the layers above: text frames in, text frames out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

__all__ = ["ClientTransport", "Connector", "FrameTransport"]


class FrameTransport(Protocol):
    """One established connection.

    One task receives; any task may send. After the end, every call raises and never hangs:
    ``LMStudioConnectionClosedError`` if this side closed, ``LMStudioConnectionBrokenError`` otherwise.
    """

    async def send(self, *frames: str) -> None:
        """Send frames together. Frames of concurrent senders keep the order in which ``send`` was called."""

    async def receive(self) -> Sequence[str]:
        """Wait for frames, and return all that have arrived: at least one."""
        ...

    async def aclose(self) -> None:
        """Close. Idempotent, legal in any state, shielded from cancellation, and bounded in time."""


class ClientTransport(FrameTransport, Protocol):
    """The client's end of a connection."""

    @property
    def server_is_ahead(self) -> float:
        """Seconds that the server's clock is ahead of this machine's; 0.0 if it is not known."""
        ...


class Connector(Protocol):
    """Source of connections: to a server behind a socket, or to one in this process."""

    @property
    def address(self) -> str:
        """Address of the server as a person would write it, for error messages."""
        ...

    def connect(self, namespace: str) -> AbstractAsyncContextManager[ClientTransport]:
        """Connect to one namespace of the server; leaving the block closes the transport.

        :raises LMStudioUnreachableError: if no server responds at the address.
        """
        ...

"""Time limits, sizes and ports of a client that its users cannot set. Tests pass other ones as ``_limits``."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DEFAULT_LIMITS", "ClientLimits"]


class ClientLimits(NamedTuple):
    """Limits of one client, which all of its connections and operations share."""

    connect_seconds: float = 10.0
    """Seconds from the beginning of a connection to the end of its authentication. After that, the connection fails."""
    clean_up_seconds: float = 2.0
    """Seconds that a connection which closes waits for the server to cancel operations and to unload instances. Also
    the seconds that a cancel may take to be sent, because the server may have stopped reading, and the seconds that a
    client which closes waits for the unload of instances whose blocks have not ended."""
    stop_seconds: float = 5.0
    """Seconds that a cancelled operation waits for the server's confirmation."""
    undo_seconds: float = 10.0
    """Seconds that an operation waits for its work on the server to be undone, such as the unload of an instance. Also
    the seconds that the end of a block waits for the unload of the block's instance."""
    lookup_seconds: float = 10.0
    """Seconds that a load whose connection was lost looks for its instance, over a new connection."""
    look_seconds: float = 30.0
    """Seconds that a look at the instances for the watches of a client may take, before the server counts as lost."""
    back_off_seconds: float = 0.1
    """Shortest pause before a client connects again after a loss; the longest is twice that."""
    calls_at_once: int = 32
    """Calls of one `Session.call_each` that wait for their responses at the same time."""
    references_kept: int = 1024
    """Instances that a session remembers having a handle of: far more than a server has loaded at a time."""
    unread_bytes: int = 67_108_864
    """Bytes of items that may wait for a consumer that does not read: hundreds of thousands of fragments."""
    api_ports: tuple[int, ...] = (41343, 52993, 16141, 39414, 22931)
    """The ports that LM Studio opens for SDKs. A client without an address asks all of them at once, and takes the first
    one in this order that answers."""
    app_port: int = 1234
    """The port that LM Studio's users see. It is asked as well, and taken if none of `api_ports` answers."""
    greeting_seconds: float = 1.0
    """Seconds to wait for the greeting by which a server is recognized as LM Studio."""
    take_back_seconds: float = 10.0
    """Seconds that an interrupted call of a blocking client takes back a result that did not reach its caller."""
    close_at_exit_seconds: float = 5.0
    """Seconds that the end of the interpreter waits for a blocking client that was not closed."""


DEFAULT_LIMITS = ClientLimits()

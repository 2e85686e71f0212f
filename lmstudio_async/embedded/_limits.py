"""How much the server takes from its clients, all in one place."""

from __future__ import annotations

import math

import attrs

from lmstudio_async._wire._json import real_number, whole_number
from lmstudio_async.errors import LMStudioValueError

__all__ = ["ServerLimits"]

_MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class ServerLimits:
    """What an `EmbeddedServer` takes from its clients before it says no. The defaults suit a machine of one's own.

    ::

        limits = ServerLimits(connections=64, queued_predictions=8)
        async with EmbeddedServer("~/models", limits=limits) as server:
            ...

    :raises LMStudioValueError: if a limit is not above 0.
    """

    connections: int = 1024
    """Connections at a time, of all clients. A program has one for each namespace that it uses. One more is refused
    like wrong credentials, with this as the reason. Of sockets, which need not have said yet who they are, there may
    be twice as many; one more is answered with status 503."""
    channels: int = 512
    """Loads, predictions and the like at a time on one connection. One more ends with an error."""
    calls: int = 128
    """Calls at a time on one connection. More of them wait their turn."""
    waiting_bytes: int = 256 * _MIB
    """Length of all messages with calls that wait like this on one connection. One more ends with an error."""
    queued_predictions: int = 256
    """Predictions that wait for one instance, besides those that it works on. One more ends with an error."""
    message_bytes: int = 256 * _MIB
    """Length of one message. A port closes the connection of whoever sends a longer one, with code 1009."""
    file_bytes: int = 128 * _MIB
    """Length of one uploaded file. A longer one ends with an error, and so do the next three."""
    client_files: int = 1000
    """Uploaded files of one client. They are kept until its last connection goes."""
    client_bytes: int = 256 * _MIB
    """Length of all uploaded files of one client."""
    total_bytes: int = 1024 * _MIB
    """Length of all uploaded files of all clients."""
    unread_bytes: int = 64 * _MIB
    """What may wait to be read by one connection's client; the connection of whoever leaves more is closed."""
    unread_seconds: float = 60.0
    """How long a client may read nothing of what waits for it; then its connection is closed."""
    authentication_seconds: float = 10.0
    """How long a connection may take to say who it is; then it is told so and closed. Also for the request before."""
    body_bytes: int = 1_000_000
    """Length of a REST request's body. A longer one is answered with status 413."""

    load_stall_seconds: float = 300.0
    """Seconds for which the engine may stand still while it loads a model: it computes nothing, reads nothing and says
    nothing. Then its process is killed, and the load ends with an error. A slow load does not stand still. Seconds in
    which the server itself was stopped, or the machine suspended, do not count."""
    answer_stall_seconds: float = 30.0
    """The same for an engine that owes an answer to a prediction or a call. One whose HTTP server still answers, as
    while it waits for a GPU, has ``load_stall_seconds``. All requests to the model end with an error, and it is
    unloaded."""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(ServerLimits):
            value = getattr(self, field.name)
            is_whole = isinstance(field.default, int)
            number = whole_number(value) if is_whole else real_number(value)
            if number is None:
                raise LMStudioValueError(f"{field.name} is a {'whole ' * is_whole}number, not {value!r:.60}")
            if not 0 < number < math.inf:
                raise LMStudioValueError(f"{field.name} must be above 0, not {value!r:.60}")
            object.__setattr__(self, field.name, number)

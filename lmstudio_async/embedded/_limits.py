"""Limits of the server on requests and data of its clients, as far as they can be set."""

from __future__ import annotations

import math

import attrs

from lmstudio_async._wire._json import real_number, whole_number
from lmstudio_async.errors import LMStudioValueError

__all__ = ["ServerLimits"]

_MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class ServerLimits:
    """Limits of an `EmbeddedServer` on the requests and data of its clients. The defaults suit a personal machine.

    ::

        limits = ServerLimits(connections=64, queued_predictions=8)
        async with EmbeddedServer("~/models", limits=limits) as server:
            ...

    :raises LMStudioValueError: if a limit is not above 0.
    """

    connections: int = 1024
    """Simultaneous authenticated connections of all clients together. A program has one for each namespace that it
    uses. Authentication of one more fails as with wrong credentials, with this limit as the reason. The number of
    sockets, which includes those that have not authenticated yet, may be twice as high; one more is answered with
    status 503."""
    channels: int = 512
    """Simultaneous channels (loads, predictions and so on) on one connection. One more ends with an error."""
    calls: int = 128
    """Simultaneous calls on one connection. More of them are queued."""
    waiting_bytes: int = 256 * _MIB
    """Bytes of the messages of all queued calls on one connection. One more ends with an error."""
    queued_predictions: int = 256
    """Predictions that are queued for one instance, besides those in progress. One more ends with an error."""
    message_bytes: int = 256 * _MIB
    """Bytes of one message. On a port, a longer message closes the connection with code 1009."""
    file_bytes: int = 128 * _MIB
    """Bytes of one uploaded file. An upload above this limit, or above one of the next three, ends with an error."""
    client_files: int = 1000
    """Uploaded files of one client. The server keeps them until the last connection of the client closes."""
    client_bytes: int = 256 * _MIB
    """Bytes of all uploaded files of one client."""
    total_bytes: int = 1024 * _MIB
    """Bytes of all uploaded files of all clients."""
    unread_bytes: int = 64 * _MIB
    """Bytes that may be queued for one connection because its client does not read them. Above this limit, the server
    closes the connection."""
    unread_seconds: float = 60.0
    """Seconds for which a client may read nothing although data is queued for it; then its connection is closed."""
    authentication_seconds: float = 10.0
    """Seconds a connection may take to authenticate; then it is closed with an error. Also the seconds a connection
    may take to send its HTTP request."""
    body_bytes: int = 1_000_000
    """Bytes of the body of a REST request. A longer one is answered with status 413."""

    load_stall_seconds: float = 300.0
    """Seconds for which the engine may stall while it loads a model. It stalls when it computes nothing, reads nothing
    and reports nothing; a slow load is not a stall. After this time the server kills the worker process, and the load
    ends with an error. Seconds in which the server itself was stopped, or the machine was suspended, do not count."""
    answer_stall_seconds: float = 30.0
    """Seconds for which the engine may stall while a prediction or a call waits for its answer. ``load_stall_seconds``
    applies instead while the HTTP server of the engine still answers, for example while the engine waits for a GPU.
    After this time all requests to the model end with an error, and the model is unloaded."""

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

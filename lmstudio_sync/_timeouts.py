"""How long blocking calls wait for news from the server, unless a client was told otherwise."""

from __future__ import annotations

import threading
import weakref
from typing import Literal

from lmstudio_async._client import AsyncClient

__all__ = ["get_sync_api_timeout", "set_sync_api_timeout", "with_timeout"]

_lock = threading.Lock()
_followers: weakref.WeakSet[AsyncClient] = weakref.WeakSet()
_timeout: float | None = 60.0


def get_sync_api_timeout() -> float | None:
    """Give the timeout of clients that were made without one, the default client included.

    :return: seconds without any news from the server after which a call or an operation fails; None for no limit.
    """
    return _timeout


def set_sync_api_timeout(timeout: float | None) -> None:
    """Set the timeout of clients that were made without one, the default client included. 60 seconds at first.

    :param timeout: seconds without any news from the server after which a call or an operation fails. None waits
        for ever.
    :raises LMStudioValueError: if it makes no sense.

    ::

        lms.set_sync_api_timeout(300)
    """
    global _timeout  # noqa: PLW0603 - the documented pair of functions has this one value
    with _lock:
        # A client knows best what a timeout may be, and complains before anything is changed.
        AsyncClient(timeout=timeout)
        _timeout = timeout
        for client in list(_followers):
            client._set_timeout(timeout)


def with_timeout(client: AsyncClient, timeout: float | Literal["default"] | None) -> AsyncClient:
    """Give a new client its timeout: now, and if it is the default, whenever that changes."""
    with _lock:
        if timeout == "default":
            _followers.add(client)
            timeout = _timeout
        client._set_timeout(timeout)
    return client

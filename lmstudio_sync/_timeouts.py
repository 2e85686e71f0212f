"""How long blocking calls wait for news from the server, unless a client was told otherwise."""

from __future__ import annotations

from typing import Literal

from lmstudio_async._client import AsyncClient
from lmstudio_sync._signal_safe import WeakMembers

__all__ = ["get_sync_api_timeout", "set_sync_api_timeout", "with_timeout"]

_followers: WeakMembers[AsyncClient] = WeakMembers()
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
    # A client knows best what a timeout may be, and complains before anything is changed.
    AsyncClient(timeout=timeout)
    _timeout = timeout
    for client in _followers:
        _follow(client)


def with_timeout(client: AsyncClient, timeout: float | Literal["default"] | None) -> AsyncClient:
    """Give a new client its timeout: now, and if it is the default, whenever that changes."""
    if timeout == "default":
        _followers.add(client)
        _follow(client)
    else:
        client._set_timeout(timeout)
    return client


def _follow(client: AsyncClient) -> None:
    """Give a client the default timeout, again if another thread has changed that meanwhile."""
    given: object = ...
    while given is not (timeout := _timeout):
        client._set_timeout(timeout)
        given = timeout

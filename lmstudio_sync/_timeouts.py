"""The default timeout of blocking calls: the time that they wait for news from the server."""

from __future__ import annotations

from typing import Literal

from lmstudio_async._client import AsyncClient, set_timeout
from lmstudio_sync._signal_safe import WeakMembers

__all__ = ["get_sync_api_timeout", "set_sync_api_timeout", "with_timeout"]

_followers: WeakMembers[AsyncClient] = WeakMembers()
_timeout: float | None = 60.0


def get_sync_api_timeout() -> float | None:
    """Return the timeout of clients that were made without one, the default client included.

    :return: seconds without any news from the server after which a call or an operation fails; None for no limit.
    """
    return _timeout


def set_sync_api_timeout(timeout: float | None) -> None:
    """Set the timeout of clients that were made without one, the default client included. Initially 60 seconds.

    :param timeout: seconds without any news from the server after which a call or an operation fails. None waits
        for ever.
    :raises LMStudioValueError: if the timeout makes no sense.

    ::

        lms.set_sync_api_timeout(300)
    """
    global _timeout  # noqa: PLW0603 - the documented pair of functions has this one value
    # The constructor of a client checks the timeout, and raises before anything is changed.
    AsyncClient(timeout=timeout)
    _timeout = timeout
    for client in _followers:
        _follow(client)


def with_timeout(client: AsyncClient, timeout: float | Literal["default"] | None) -> AsyncClient:
    """Set the timeout of a new client: now, and, if it is the default, after each change of the default."""
    if timeout == "default":
        _followers.add(client)
        _follow(client)
    else:
        set_timeout(client, timeout)
    return client


def _follow(client: AsyncClient) -> None:
    """Set the default timeout of a client; repeat this if another thread has changed the default meanwhile."""
    given: object = ...
    while given is not (timeout := _timeout):
        set_timeout(client, timeout)
        given = timeout

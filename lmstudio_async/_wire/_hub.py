"""Wire types of the account on LM Studio's hub and of LM Link."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lmstudio_async._wire._struct import Unknown, WireObject, nullable

__all__ = [
    "AuthenticationState",
    "AuthenticationStatus",
    "IsAuthenticated",
    "LmLinkError",
    "LmLinkPeer",
    "LmLinkStatus",
    "NoAccount",
]


# -- the account


@attrs.frozen(kw_only=True)
class IsAuthenticated(WireObject):
    authenticated: bool


@attrs.frozen(kw_only=True)
class NoAccount(WireObject):
    """Status of a server on which no account is logged in."""

    TAG: ClassVar[str] = "none"


AuthenticationStatus = NoAccount | Unknown


@attrs.frozen(kw_only=True)
class AuthenticationState(WireObject):
    authentication_status: AuthenticationStatus


# -- LM Link: several machines that work as one


@attrs.frozen(kw_only=True)
class LmLinkPeer(WireObject):
    """Another machine of the link.

    :param device_identifier: the identifier that a load on the other machine must name.
    :param device_name: a name for people.
    :param status: ``connected`` or ``disconnected``.
    :param extra: members that the server sent and this SDK does not know.
    """

    device_identifier: str = ""
    device_name: str = ""
    status: str = "disconnected"


@attrs.frozen(kw_only=True)
class LmLinkError(WireObject):
    """The last error of the link.

    :param message: a text for people.
    :param timestamp: time of the error, in milliseconds since 1970.
    :param extra: members that the server sent and this SDK does not know.
    """

    message: str = ""
    timestamp: int = 0


@attrs.frozen(kw_only=True)
class LmLinkStatus(WireObject):
    """Status of the link.

    :param status: ``offline``, ``starting``, ``online`` or ``stopping``.
    :param issues: obstacles: ``deviceDisabled``, ``notLoggedIn``, ``noAccess``, ``badVersion``.
    :param peers: the other machines.
    :param device_identifier: identifier of the server's own machine; None if it has none.
    :param device_name: name of the server's own machine.
    :param preferred_device_identifier: the machine to ask first.
    :param reconnect_in_seconds: seconds until the next attempt to connect.
    :param last_error: the last error.
    :param extra: members that the server sent and this SDK does not know.
    """

    status: str = "offline"
    issues: list[str] = attrs.field(factory=list, hash=False)
    peers: list[LmLinkPeer] = attrs.field(factory=list, hash=False)
    device_identifier: str | None = nullable()
    device_name: str = ""
    preferred_device_identifier: str | None = None
    reconnect_in_seconds: int | None = None
    last_error: LmLinkError | None = None

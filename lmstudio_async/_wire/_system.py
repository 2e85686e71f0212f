"""Wire types about the server itself: its version, its flags, its HTTP server."""

from __future__ import annotations

import attrs

from lmstudio_async._wire._struct import WireObject

__all__ = [
    "ListVariantsParameter",
    "NotifyParameter",
    "ServerInfo",
    "ServerVersion",
    "SetExperimentFlagParameter",
    "StartHttpServerParameter",
]


@attrs.frozen(kw_only=True)
class ListVariantsParameter(WireObject):
    model_key: str


@attrs.frozen(kw_only=True)
class NotifyParameter(WireObject):
    title: str
    description: str | None = None
    no_auto_dismiss: bool | None = None


@attrs.frozen(kw_only=True, repr=False)
class ServerVersion(WireObject):
    """Version of the server.

    :param version: for example ``0.4.5``.
    :param build: number of the build of this version.
    :param extra: members that the server sent and this SDK does not know.
    """

    version: str = ""
    build: int = 0


@attrs.frozen(kw_only=True)
class SetExperimentFlagParameter(WireObject):
    code: str
    value: bool


@attrs.frozen(kw_only=True)
class StartHttpServerParameter(WireObject):
    port: int | None = None
    cors: bool | None = None
    network_interface: str | None = None


@attrs.frozen(kw_only=True, repr=False)
class ServerInfo(WireObject):
    """Process of the server.

    :param pid: its process id, on its own machine.
    :param is_daemon: it runs without a window.
    :param version: for example ``0.4.5``.
    :param extra: members that the server sent and this SDK does not know.
    """

    _shown = "pid version is_daemon"

    pid: int = 0
    is_daemon: bool = False
    version: str = ""

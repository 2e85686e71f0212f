"""The default client of module-level functions such as `llm`: made on first use, kept until the interpreter ends."""

from __future__ import annotations

import os

from lmstudio_async.errors import LMStudioClientError
from lmstudio_sync._client import Client
from lmstudio_sync._facade import bridge_of

__all__ = ["close_default_client", "configure_default_client", "get_default_client"]


class _Default:
    """The settings of the default client, and the client, once it is made.

    There is no lock, because an interrupt could leave it taken. If several threads need the first client at the same
    time, each may make one, and all of them use the first one.
    """

    def __init__(self, api_host: str | None = None, api_token: str | None = None) -> None:
        self.settings = (api_host, api_token)
        #: A dict, used as an ordered set.
        self.clients: dict[Client, None] = {}

    def client(self) -> Client:
        """Return the client; make it if there is none."""
        while (client := self.existing()) is None:
            made = Client(*self.settings)
            bridge_of(made).is_shared = True
            self.clients[made] = None
        return client

    def existing(self) -> Client | None:
        """Return the client if there is one, and forget closed clients."""
        for client in list(self.clients):
            if not bridge_of(client).is_closed:
                return client
            self.clients.pop(client, None)
        return None


_default = _Default()


def get_default_client(api_host: str | None = None) -> Client:
    """Return the client that the module-level functions use. The first call makes it and finds its server.

    It is closed when the interpreter ends. `close_default_client` closes it earlier.

    :param api_host: passed to `configure_default_client` first, unless it is None.
    :return: the client.
    :raises LMStudioUnreachableError: if no server was named and none was found. Then no client is kept.
    :raises LMStudioClientError: if a host is given, and there is a default client already.

    ::

        client = lms.get_default_client()
        print(client.api_host)
    """
    if api_host is not None:
        configure_default_client(api_host)
    return _default.client().__enter__()


def configure_default_client(api_host: str | None = None, api_token: str | None = None) -> None:
    """Set the server of the default client. Call this before the first use of the default client.

    :param api_host: see `Client`.
    :param api_token: see `Client`.
    :raises LMStudioClientError: if there is a default client already.
    :raises LMStudioValueError: if an argument makes no sense.

    ::

        lms.configure_default_client("192.168.1.20:1234")
        llm = lms.llm("llama-3.2-1b-instruct")
    """
    global _default  # noqa: PLW0603 - there is one default client
    client = _default.existing()
    if client is not None and bridge_of(client).is_open:
        raise LMStudioClientError(
            "The default client has been made already. Configure it before its first use, or close it first: "
            "close_default_client()"
        )
    # Raises if an argument makes no sense.
    Client(api_host, api_token)
    _default = _Default(api_host, api_token)


def close_default_client() -> None:
    """Close the default client, if there is one, and forget its configuration. The next use makes a new client.

    ::

        lms.configure_default_client("192.168.1.20:1234")
        print(lms.list_loaded_models())
        lms.close_default_client()
        lms.configure_default_client("192.168.1.21:1234")
        print(lms.list_loaded_models())
    """
    global _default
    closing, _default = _default, _Default()
    for client in list(closing.clients):
        client.close()


def _forget_after_fork() -> None:
    """Forget the default client in a forked process, which has the object of the client, but not its thread."""
    _default.clients.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)

"""The client of `llm`, `embedding_model` and their like, which take none: made on first use, kept until the end."""

from __future__ import annotations

import os

from lmstudio_async.errors import LMStudioClientError
from lmstudio_sync._client import Client

__all__ = ["close_default_client", "configure_default_client", "get_default_client"]


class _Default:
    """The settings of the default client, and the client, once it is made.

    It needs no lock, which an interrupt could leave taken: threads that come first at the same time may make a client
    each, and all of them use the first one.
    """

    def __init__(self, api_host: str | None = None, api_token: str | None = None) -> None:
        self.settings = (api_host, api_token)
        #: A dict is the set that keeps its order.
        self.clients: dict[Client, None] = {}

    def client(self) -> Client:
        """Give the client; make it if there is none."""
        while (client := self.existing()) is None:
            made = Client(*self.settings)
            made._bridge.is_shared = True
            self.clients[made] = None
        return client

    def existing(self) -> Client | None:
        """Give the client if there is one, and forget those that were closed."""
        for client in list(self.clients):
            if not client._bridge.is_closed:
                return client
            self.clients.pop(client, None)
        return None


_default = _Default()


def get_default_client(api_host: str | None = None) -> Client:
    """Give the client that the module-level functions use. It is made and connected on the first call.

    It is closed at the end of the interpreter; `close_default_client` does that earlier.

    :param api_host: the same as calling `configure_default_client` with it first.
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
    """Say what the default client connects to. To be called before its first use.

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
    if client is not None and client._bridge.is_open:
        raise LMStudioClientError(
            "The default client has been made already. Configure it before its first use, or close it first: "
            "close_default_client()"
        )
    # Complains if they make no sense.
    Client(api_host, api_token)
    _default = _Default(api_host, api_token)


def close_default_client() -> None:
    """Close the default client, if there is one, and forget what it connects to. The next use makes a new one.

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
    """A forked process has the default client's object, but not its thread."""
    _default.clients.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)

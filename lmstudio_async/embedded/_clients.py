"""Who may use the server, and what belongs to one client for as long as it is connected."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection

import attrs

from lmstudio_async._wire._messages import Authentication
from lmstudio_async.errors import LMStudioValueError

__all__ = ["Client", "Clients", "UploadedFile"]

_TOKEN = re.compile(r"sk-lm-([A-Za-z0-9]{8}):([A-Za-z0-9]{20})")


@attrs.frozen
class UploadedFile:
    """A file that a client has sent, for as long as it is connected."""

    name: str
    file_type: str
    mime_type: str
    content: bytes = attrs.field(repr=False)


@attrs.define(eq=False)
class Client:
    """All connections of one client."""

    identifier: str
    passkey: str = attrs.field(repr=False)
    connections: int = 0
    files: dict[str, UploadedFile] = attrs.field(factory=dict, repr=False)


class Clients:
    """The clients that are connected.

    Without tokens the first passkey of an identifier is the right one until the client's last connection goes;
    with tokens only their two halves are an identifier and its passkey.

    :raises LMStudioValueError: if a token does not look like one.
    """

    def __init__(self, api_tokens: Collection[str]) -> None:
        self._tokens: dict[str, str] = {}
        self._clients: dict[str, Client] = {}
        if isinstance(api_tokens, str):
            raise LMStudioValueError(
                "api_tokens is a list of tokens, not a single text: write api_tokens=[token]"
            )
        for token in api_tokens:
            match = _TOKEN.fullmatch(token) if isinstance(token, str) else None
            if match is None:
                raise LMStudioValueError(
                    "an API token looks like sk-lm-xxxxxxxx:yyyyyyyyyyyyyyyyyyyy (8 and 20 letters or digits)"
                )
            self._tokens[match[1]] = match[2]

    @property
    def need_tokens(self) -> bool:
        """Whether guests are refused."""
        return bool(self._tokens)

    def accepts_token(self, token: str) -> bool:
        """Whether an HTTP request with this token may be served."""
        match = _TOKEN.fullmatch(token)
        return match is not None and _same(self._tokens.get(match[1], ""), match[2])

    def admit(self, credentials: Authentication) -> Client | str:
        """Let a connection in, or say why not."""
        identifier, passkey = credentials.client_identifier, credentials.client_passkey
        if self._tokens and not _same(self._tokens.get(identifier, ""), passkey):
            return "Failed to validate client: this server needs an API token, and this is none that it knows"
        client = self._clients.get(identifier)
        if client is None:
            client = self._clients[identifier] = Client(identifier, passkey)
        elif not _same(client.passkey, passkey):
            return f'Failed to validate client: Invalid client passkey for client "{identifier}"'
        client.connections += 1
        return client

    def release(self, client: Client) -> None:
        """A connection has gone; what belongs to the client goes with its last one."""
        client.connections -= 1
        if not client.connections and self._clients.get(client.identifier) is client:
            del self._clients[client.identifier]


def _same(one: str, other: str) -> bool:
    # Takes as long for a nearly right secret as for a wrong one.
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace")) and bool(one)

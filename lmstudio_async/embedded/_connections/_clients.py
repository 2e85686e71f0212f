"""Authentication of clients, and the state that belongs to one client as long as it is connected."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from lmstudio_async._protocol._errors import server_error
from lmstudio_async.embedded._limits import ServerLimits
from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async._wire._messages import Authentication

__all__ = ["Client", "Clients", "UploadedFile"]

_TOKEN = re.compile(r"sk-lm-([A-Za-z0-9]{8}):([A-Za-z0-9]{20})")


@attrs.frozen
class UploadedFile:
    """A file that a client has uploaded, kept as long as the client is connected."""

    name: str
    file_type: str
    mime_type: str
    content: bytes = attrs.field(repr=False)


@attrs.define(eq=False)
class Client:
    """State that is shared by all connections of one client."""

    identifier: str
    passkey: str = attrs.field(repr=False)
    connections: int = 0
    files: dict[str, UploadedFile] = attrs.field(factory=dict, repr=False)
    uploads: int = 0
    """Number of files that the client has uploaded or is uploading."""
    uploaded_bytes: int = 0


class Clients:
    """Registry of the connected clients.

    Without tokens, the first passkey of an identifier is valid until the client's last connection ends. With tokens,
    the two halves of a token are the only valid identifier and passkey.

    :param api_tokens: the tokens that clients may authenticate with; empty to accept every client.
    :param limits: the limits of connections and of uploads.
    :raises LMStudioValueError: if a token does not have the form of one.
    """

    def __init__(self, api_tokens: Collection[str], limits: ServerLimits) -> None:
        self._limits = limits
        self._tokens: dict[str, str] = {}
        self._clients: dict[str, Client] = {}
        self._connections = 0
        self._uploaded_bytes = 0
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
    def needs_tokens(self) -> bool:
        """Whether clients without an API token are refused."""
        return bool(self._tokens)

    def accepts_token(self, token: str) -> bool:
        """Return whether an HTTP request with this token is authenticated."""
        match = _TOKEN.fullmatch(token)
        return match is not None and _same(self._tokens.get(match[1], ""), match[2])

    def admit(self, credentials: Authentication) -> Client | str:
        """Authenticate a connection and count it; return its client, or why it is refused."""
        identifier, passkey = credentials.client_identifier, credentials.client_passkey
        if self._tokens and not _same(self._tokens.get(identifier, ""), passkey):
            return "Failed to validate client: this server needs an API token, and does not know this one"
        client = self._clients.get(identifier)
        if client is not None and not _same(client.passkey, passkey):
            return f'Failed to validate client: Invalid client passkey for client "{identifier}"'
        if self._connections >= self._limits.connections:
            return (
                f"This server has {self._connections} connections, and no more are allowed at a time: "
                "close some, or try again later"
            )
        if client is None:
            client = self._clients[identifier] = Client(identifier, passkey)
        client.connections += 1
        self._connections += 1
        return client

    def release(self, client: Client) -> None:
        """Forget a connection that has ended, and with the last one the client and its files."""
        self._connections -= 1
        client.connections -= 1
        if not client.connections:
            del self._clients[client.identifier]
            self._uploaded_bytes -= client.uploaded_bytes

    @contextmanager
    def uploading(self, client: Client, size: int) -> Iterator[None]:
        """Count a file of a client against the limits of uploads; undo that if the block fails.

        :param size: the length of the file in bytes.
        :raises LMStudioServerError: the file would exceed a limit.
        """
        limits = self._limits
        if size > limits.file_bytes:
            raise server_error(
                f"The file has {_mib(size)}, and the limit for a file is {_mib(limits.file_bytes)}."
            )
        uploaded = client.uploaded_bytes
        if client.uploads >= limits.client_files or uploaded + size > limits.client_bytes:
            raise server_error(
                f"A client may upload {limits.client_files} files of {_mib(limits.client_bytes)} altogether, and this "
                f"one has uploaded {client.uploads} of {_mib(uploaded)}.",
                "Close the client, which forgets its files, and connect anew.",
            )
        if self._uploaded_bytes + size > limits.total_bytes:
            raise server_error(
                f"The clients of this server may upload {_mib(limits.total_bytes)} altogether, and less than the size "
                "of this file is left.",
                "Try again when other clients have disconnected.",
            )
        self._count(client, 1, size)
        try:
            yield
        except BaseException:
            self._count(client, -1, -size)
            raise

    def _count(self, client: Client, files: int, size: int) -> None:
        client.uploads += files
        client.uploaded_bytes += size
        self._uploaded_bytes += size


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _same(one: str, other: str) -> bool:
    # In constant time, so that the duration does not reveal how much of a secret is right.
    return hmac.compare_digest(*(text.encode("utf-8", "surrogatepass") for text in (one, other))) and bool(
        one
    )

"""Connections to a server behind a socket: opening them, and reporting a failure to open one."""

from __future__ import annotations

import base64
import hashlib
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx
import httpx_ws

from lmstudio_async._transport._certificates import no_certificates, read_certificates
from lmstudio_async._transport._frames import DEFAULT_MAX_MESSAGE_BYTES
from lmstudio_async._transport._http import CLOSE_LIMIT_SECONDS, RequestSockets, new_http_client
from lmstudio_async._transport._websocket import WebSocketTransport
from lmstudio_async.errors import (
    LMStudioConnectionClosedError,
    LMStudioUnreachableError,
)

if TYPE_CHECKING:
    from lmstudio_async._transport._address import ServerAddress
    from lmstudio_async._transport._base import ClientTransport

if "asyncio" in sys.modules:
    # Loaded here, in a worker thread, and not at the first connection. Programs on trio do not need asyncio.
    import lmstudio_async._transport._asyncio_stream  # noqa: F401

__all__ = ["WebSocketConnector"]

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocketConnector:
    """Makes connections to the namespaces of one server.

    :param address: where the server is.
    :param verify: trusted certificates for ``wss``: a TLS context, or the path of a file or directory of certificates.
        ``None`` trusts the usual public authorities.
    :param connect_timeout: seconds in which a connection must be open, from name lookup to the finished upgrade.
    :param ping_interval: seconds of silence after which the server gets a ping.
    :param ping_timeout: seconds of further silence after which the connection is given up.
    :param write_timeout: seconds that the server may leave the socket unread while data is sent to it.
    :param close_timeout: seconds to wait for the server's half of the closing handshake.
    :param max_message_bytes: a longer message from the server breaks the connection.

    ::

        connector = WebSocketConnector(parse_api_host("localhost:1234"))
        async with connector.connect("llm") as transport:
            await transport.send("{...}")
            frames = await transport.receive()
        await connector.aclose()
    """

    def __init__(
        self,
        address: ServerAddress,
        *,
        verify: ssl.SSLContext | str | None = None,
        connect_timeout: float = 10.0,
        ping_interval: float = 20.0,
        ping_timeout: float = 20.0,
        write_timeout: float = 10.0,
        close_timeout: float = 1.0,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        self._address = address
        self._verify = verify
        self._connect_timeout = connect_timeout
        self._transport_options: dict[str, Any] = {
            "ping_interval": ping_interval,
            "ping_timeout": ping_timeout,
            "write_timeout": write_timeout,
            "close_timeout": close_timeout,
            "max_message_bytes": max_message_bytes,
        }
        self._client: httpx.AsyncClient | None = None
        self._client_lock = anyio.Lock()
        self._closed = False

    @property
    def address(self) -> str:
        """Address of the server, as a person would write it."""
        return str(self._address)

    @asynccontextmanager
    async def connect(self, namespace: str) -> AsyncGenerator[ClientTransport, None]:
        """Connect to one namespace; leaving the block closes the connection.

        :param namespace: for example ``llm``.
        :raises LMStudioUnreachableError: if no websocket can be opened.
        :raises LMStudioConnectionClosedError: if this connector was closed.
        :raises LMStudioValueError: if ``verify`` names no certificates.
        """
        url = self._address.websocket_url(namespace)
        client = await self._get_client()
        sockets = RequestSockets()
        websockets = httpx_ws.AsyncWebSocketClient(client, session_class=_QuietSession)
        upgrade = websockets.connect(url, extensions=sockets.extensions)
        try:
            with anyio.fail_after(self._connect_timeout):
                try:
                    session = await upgrade.__aenter__()
                except anyio.get_cancelled_exc_class():
                    await sockets.aclose()
                    raise
        except Exception as exc:
            if self._closed:
                raise _closed_error() from exc
            from lmstudio_async._transport._connect_failure import connect_failure, without_traces

            proxy = sockets.proxy_before(url)
            # In a thread, because the remedy may depend on the installed packages. With a limiter of its own, because all
            # threads of the default limiter may be waiting for this connection.
            message = await anyio.to_thread.run_sync(
                connect_failure, url, exc, self._connect_timeout, proxy, limiter=anyio.CapacityLimiter(1)
            )
            raise LMStudioUnreachableError(message) from without_traces(exc)
        date = None if session.response is None else session.response.headers.get("date")
        transport = WebSocketTransport(
            session.stream, session.connection, url, date, **self._transport_options
        )
        try:
            _check_accept(url, session.response)
            yield transport
        finally:
            await transport.aclose()
            with anyio.move_on_after(CLOSE_LIMIT_SECONDS, shield=True):
                try:
                    await upgrade.__aexit__(None, None, None)
                except Exception:  # noqa: BLE001, S110 - a socket that cannot be closed properly is closed anyway
                    pass

    async def aclose(self) -> None:
        """Close the HTTP client that all connections share; open connections end. Idempotent."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            with anyio.move_on_after(CLOSE_LIMIT_SECONDS, shield=True):
                await client.aclose()

    async def _get_client(self) -> httpx.AsyncClient:
        if self._closed:
            raise _closed_error()
        if self._client is None:
            async with self._client_lock:
                # Another task may have made it, or closed the connector, while this one waited.
                if self._client is None:
                    verify = await self._load_certificates()
                    if self._closed:
                        raise _closed_error()
                    self._client = new_http_client(
                        self._address,
                        verify,
                        timeout=self._connect_timeout,
                        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                    )
        return self._client

    async def _load_certificates(self) -> ssl.SSLContext:
        verify = self._verify
        if isinstance(verify, ssl.SSLContext):
            return verify
        if not self._address.secure:
            return no_certificates()
        if verify is None:
            return await anyio.to_thread.run_sync(httpx.create_ssl_context)
        return await anyio.to_thread.run_sync(read_certificates, verify)


class _QuietSession(httpx_ws.AsyncWebSocketSession):
    """Holds the pieces of an upgraded connection and starts none of httpx-ws's background tasks.

    The background tasks cost a hundred microseconds per frame, and wrap exceptions that leave their block in a group.
    """

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self, None]:
        yield self


def _closed_error() -> LMStudioConnectionClosedError:
    return LMStudioConnectionClosedError("this client was closed by this program; make a new one")


def _check_accept(url: str, response: httpx.Response | None) -> None:
    """Check that a websocket server accepted this handshake, and not a program that repeats an earlier response."""
    if response is None:
        return
    key = response.request.headers["sec-websocket-key"].encode()
    expected = base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID).digest()).decode()  # noqa: S324
    if response.headers.get("sec-websocket-accept", "").strip() != expected:
        from lmstudio_async._transport._connect_failure import not_a_websocket_server

        raise LMStudioUnreachableError(not_a_websocket_server(url))

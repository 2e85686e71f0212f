"""Shared parts of all HTTP requests: when to use proxies, and the cleanup of sockets."""

from __future__ import annotations

import ssl
from typing import Any

import anyio
import httpcore
import httpx

from lmstudio_async._transport._address import ServerAddress
from lmstudio_async.errors import LMStudioUnreachableError

__all__ = ["CLOSE_LIMIT_SECONDS", "RequestSockets", "new_http_client"]

#: Seconds after which a socket that is being closed is abandoned.
CLOSE_LIMIT_SECONDS = 2.0


def new_http_client(address: ServerAddress, verify: ssl.SSLContext, **options: Any) -> httpx.AsyncClient:
    """Make a client for one server. Proxies that the environment names are not used for a server on this machine.

    :raises LMStudioUnreachableError: if the environment names a proxy that cannot be used.
    """
    try:
        return httpx.AsyncClient(verify=verify, trust_env=not address.is_loopback, **options)
    except ImportError as exc:
        raise LMStudioUnreachableError(
            f"{address} is behind the SOCKS proxy that the environment names, which needs: pip install httpx[socks]"
        ) from exc
    except (ValueError, httpx.InvalidURL):
        # Not chained, because the error may have a part of the proxy's password in its text.
        raise LMStudioUnreachableError(
            f"{address} is behind a proxy that cannot be understood. Correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY in "
            "the environment, or name the host in NO_PROXY."
        ) from None


class RequestSockets:
    """The sockets of one request.

    httpcore forgets a socket when it is cancelled in the middle of a TLS handshake. The caller of a request with these
    extensions can close the forgotten sockets. In all other cases, httpcore closes its sockets itself.

    ::

        sockets = RequestSockets()
        try:
            await client.get(url, extensions=sockets.extensions)
        except anyio.get_cancelled_exc_class():
            await sockets.aclose()
            raise
    """

    def __init__(self) -> None:
        self._streams: list[httpcore.AsyncNetworkStream] = []
        # The host that was last connected to: the server, or a proxy before it.
        self._host: str | None = None

    @property
    def extensions(self) -> dict[str, Any]:
        """Extensions that the request must get."""
        return {"trace": self._note}

    async def _note(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._host = info["host"]
        elif event == "connection.connect_tcp.complete":
            self._streams.append(info["return_value"])

    def proxy_before(self, url: str) -> str | None:
        """Return the host of the proxy that the request for this URL went to; None if it went to the server itself."""
        return None if self._host == httpx.URL(url).raw_host.decode() else self._host

    async def aclose(self) -> None:
        """Close the sockets. Idempotent, shielded from cancellation, and bounded in time."""
        with anyio.move_on_after(CLOSE_LIMIT_SECONDS, shield=True):
            for stream in self._streams:
                try:
                    await stream.aclose()
                except Exception:  # noqa: BLE001, S110 - it is gone either way
                    pass

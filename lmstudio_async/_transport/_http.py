"""What is the same wherever HTTP is spoken: when to mind proxies, and that no socket is left."""

from __future__ import annotations

import ssl
from typing import Any

import anyio
import httpcore
import httpx

from lmstudio_async._transport._address import ServerAddress
from lmstudio_async.errors import LMStudioUnreachableError

__all__ = ["RequestSockets", "new_http_client"]

_CLOSE_LIMIT_SECONDS = 2.0


def new_http_client(address: ServerAddress, verify: ssl.SSLContext, **options: Any) -> httpx.AsyncClient:
    """Make a client for one server. Proxies that the environment names never come between this machine and itself.

    :raises LMStudioUnreachableError: if there is a proxy to go through, and it makes no sense.
    """
    try:
        return httpx.AsyncClient(verify=verify, trust_env=not address.is_loopback, **options)
    except ImportError as exc:
        raise LMStudioUnreachableError(
            f"{address} is behind the SOCKS proxy that the environment names, which needs: pip install httpx[socks]"
        ) from exc
    except (ValueError, httpx.InvalidURL):
        # What the matter is may have a part of the proxy's password in it.
        raise LMStudioUnreachableError(
            f"{address} is behind a proxy that cannot be understood. Correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY in "
            "the environment, or name the host in NO_PROXY."
        ) from None


class RequestSockets:
    """The sockets of one request.

    httpcore forgets a socket when it is cancelled in the middle of a TLS handshake. Whoever gives a request these
    extensions can close what is left. Otherwise sockets are httpcore's own business.

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
        """What the request must be given."""
        return {"trace": self._note}

    async def _note(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._host = info["host"]
        elif event == "connection.connect_tcp.complete":
            self._streams.append(info["return_value"])

    def proxy_before(self, url: str) -> str | None:
        """Give the host of the proxy that the request for this URL went to; None if it went to the server itself."""
        return None if self._host == httpx.URL(url).raw_host.decode() else self._host

    async def aclose(self) -> None:
        """Close them. Idempotent, shielded from cancellation, and bounded in time."""
        with anyio.move_on_after(_CLOSE_LIMIT_SECONDS, shield=True):
            for stream in self._streams:
                try:
                    await stream.aclose()
                except Exception:  # noqa: BLE001, S110 - it is gone either way
                    pass

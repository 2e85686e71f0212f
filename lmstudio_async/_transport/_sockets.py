"""The sockets that an HTTP request opens, so that none of them is left."""

from __future__ import annotations

from typing import Any

import anyio
import httpcore

__all__ = ["RequestSockets"]

_CLOSE_LIMIT_SECONDS = 2.0


class RequestSockets:
    """The sockets of one request.

    httpcore forgets a socket when it is cancelled in the middle of a TLS handshake. Whoever gives a request these
    extensions can close what is left.

    ::

        sockets = RequestSockets()
        try:
            await client.get(url, extensions=sockets.extensions)
        except BaseException:
            await sockets.aclose()
            raise
    """

    def __init__(self) -> None:
        self._streams: list[httpcore.AsyncNetworkStream] = []

    @property
    def extensions(self) -> dict[str, Any]:
        """What the request must be given."""
        return {"trace": self._note}

    async def _note(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._streams.append(info["return_value"])

    async def aclose(self) -> None:
        """Close them. Idempotent, shielded from cancellation, and bounded in time."""
        with anyio.move_on_after(_CLOSE_LIMIT_SECONDS, shield=True):
            for stream in self._streams:
                try:
                    await stream.aclose()
                except Exception:  # noqa: BLE001, S110 - it is gone either way
                    pass

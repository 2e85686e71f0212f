"""Two plain loops without any SDK, as in a program that needs only the frames."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx_ws
import websockets.asyncio.client

__all__ = ["CREATION", "LOOPS", "HttpxWsLoop", "PlainLoop", "WebsocketsLoop", "predict"]

_AUTHENTICATION = {"authVersion": 1, "clientIdentifier": "guest:plain", "clientPasskey": "plain"}
CREATION: dict[str, Any] = {
    "modelSpecifier": {"type": "instanceReference", "instanceReference": "r1"},
    "predictionConfigStack": {"layers": []},
}


class PlainLoop:
    """A connection to a namespace."""

    async def send(self, message: dict[str, Any]) -> None:
        raise NotImplementedError

    async def receive(self) -> Any:
        raise NotImplementedError


class HttpxWsLoop(PlainLoop):
    """httpx-ws as in its documentation, without a limit for the message size."""

    def __init__(self, socket: httpx_ws.AsyncWebSocketSession) -> None:
        self._socket = socket

    @classmethod
    @asynccontextmanager
    async def connect(cls, host: str, namespace: str) -> AsyncIterator[HttpxWsLoop]:
        socket: httpx_ws.AsyncWebSocketSession
        async with httpx_ws.aconnect_ws(f"http://{host}/{namespace}") as socket:
            yield cls(socket)

    async def send(self, message: dict[str, Any]) -> None:
        await self._socket.send_json(message)

    async def receive(self) -> Any:
        return await self._socket.receive_json()


class WebsocketsLoop(PlainLoop):
    """The `websockets` package, with its own accelerator in C."""

    def __init__(self, socket: websockets.asyncio.client.ClientConnection) -> None:
        self._socket = socket

    @classmethod
    @asynccontextmanager
    async def connect(cls, host: str, namespace: str) -> AsyncIterator[WebsocketsLoop]:
        async with websockets.asyncio.client.connect(
            f"ws://{host}/{namespace}", max_size=None, compression=None, proxy=None
        ) as socket:
            yield cls(socket)

    async def send(self, message: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(message))

    async def receive(self) -> Any:
        return json.loads(await self._socket.recv())


LOOPS: dict[str, type[HttpxWsLoop | WebsocketsLoop]] = {
    "httpx-ws": HttpxWsLoop,
    "websockets": WebsocketsLoop,
}


async def authenticate(loop: PlainLoop) -> None:
    """Send the credentials."""
    await loop.send(_AUTHENTICATION)
    assert (await loop.receive())["success"]


async def predict(loop: PlainLoop, order: str, channel: int = 1) -> None:
    """Request a prediction."""
    history = {"messages": [{"role": "user", "content": [{"type": "text", "text": order}]}]}
    creation = CREATION | {"history": history}
    await loop.send(
        {"type": "channelCreate", "endpoint": "predict", "channelId": channel, "creationParameter": creation}
    )

"""A client of the protocol for tests of the server: it sends frames and returns the received ones, no more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from lmstudio_async._transport import Connector, FrameTransport
from lmstudio_async.errors import LMStudioWebsocketError

__all__ = [
    "INFO_MEMBERS",
    "INSTANCE_MEMBERS",
    "RawClient",
    "Refused",
    "connected",
    "query",
    "stack",
    "text_of",
]

Json = dict[str, Any]

INFO_MEMBERS = {
    "type", "modelKey", "format", "displayName", "publisher", "path", "sizeBytes", "indexedModelIdentifier",
    "deviceIdentifier", "paramsString", "architecture", "quantization", "vision", "trainedForToolUse",
    "maxContextLength",
}  # fmt: skip
INSTANCE_MEMBERS = INFO_MEMBERS | {
    "identifier",
    "instanceReference",
    "ttlMs",
    "lastUsedTime",
    "contextLength",
}

GUEST = {"authVersion": 1, "clientIdentifier": "guest:test", "clientPasskey": "secret"}


class Refused(Exception):
    """An rpcError or a channelError, with its error object."""

    def __init__(self, error: Json) -> None:
        super().__init__(error["title"])
        self.error = error
        self.code = error.get("displayData", {}).get("code")


class RawClient:
    """One connection. It returns frames in the order of their arrival."""

    def __init__(self, transport: FrameTransport) -> None:
        self.transport = transport
        self._frames: list[Json] = []
        self._last_id = 0

    async def send(self, message: Mapping[str, Any] | str) -> None:
        await self.transport.send(message if isinstance(message, str) else json.dumps(message))

    async def next(self, **wanted: Any) -> Json:
        """Return the next frame that has these members; keep the other frames for later."""
        with anyio.fail_after(20):
            while True:
                for index, frame in enumerate(self._frames):
                    if all(frame.get(name) == value for name, value in wanted.items()):
                        return self._frames.pop(index)
                self._frames += [json.loads(text) for text in await self.transport.receive()]

    async def silence(self) -> list[Json]:
        """Wait until the server has answered everything sent so far, and return the unread frames; it answers in order."""
        await self.send({"type": "keepAlive"})
        await self.next(type="keepAliveAck")
        frames, self._frames = self._frames, []
        return frames

    async def is_closed_by_server(self) -> bool:
        try:
            with anyio.fail_after(20):
                while True:
                    self._frames += [json.loads(text) for text in await self.transport.receive()]
        except LMStudioWebsocketError:
            return True

    async def authenticate(self, **changes: Any) -> Json:
        await self.send({**GUEST, **changes})
        return await self.next()

    async def call(self, endpoint: str, parameter: Any = None) -> Any:
        """Call an endpoint, and return the result."""
        self._last_id += 1
        message: Json = {"type": "rpcCall", "endpoint": endpoint, "callId": self._last_id}
        if parameter is not None:
            message["parameter"] = parameter
        await self.send(message)
        answer = await self.next(callId=self._last_id)
        if answer["type"] == "rpcError":
            raise Refused(answer["error"])
        return answer.get("result")

    async def open(self, endpoint: str, creation: Any = None) -> int:
        """Open a channel, and return its number."""
        self._last_id += 1
        message: Json = {"type": "channelCreate", "endpoint": endpoint, "channelId": self._last_id}
        if creation is not None:
            message["creationParameter"] = creation
        await self.send(message)
        return self._last_id

    async def packet(self, channel: int) -> Json | None:
        """Return the next packet of a channel, None at its end."""
        frame = await self.next(channelId=channel)
        if frame["type"] == "channelError":
            raise Refused(frame["error"])
        if frame["type"] == "channelClose":
            return None
        message: Json = frame["message"]
        return message

    async def packets(self, channel: int) -> list[Json]:
        """Return all packets of a channel to its end."""
        found = []
        while (packet := await self.packet(channel)) is not None:
            found.append(packet)
        return found

    async def tell(self, channel: int, **packet: Any) -> None:
        await self.send({"type": "channelSend", "channelId": channel, "message": packet})

    async def cancel(self, channel: int) -> None:
        await self.tell(channel, type="cancel")

    async def load(self, key: str, identifier: str | None = None, **more: Any) -> Json:
        """Load an instance, and return its info."""
        creation = {"modelKey": key, "loadConfigStack": stack(), **more}
        if identifier is not None:
            creation["identifier"] = identifier
        packets = await self.packets(await self.open("loadModel", creation))
        info: Json = packets[-1]["info"]
        return info


@asynccontextmanager
async def connected(server: Connector, namespace: str = "llm", **identity: Any) -> AsyncIterator[RawClient]:
    """Connect to the server, authenticate, and yield the client."""
    async with server.connect(namespace) as transport:
        client = RawClient(transport)
        assert await client.authenticate(**identity) == {"success": True}
        yield client


def stack(config: Mapping[str, Any] | None = None, *more: Json) -> Json:
    """Return a config stack of one layer, followed by more layers."""
    fields = [{"key": key, "value": value} for key, value in (config or {}).items()]
    return {"layers": [{"layerName": "apiOverride", "config": {"fields": fields}}, *more]}


def query(identifier: str | None = None, **more: Any) -> Json:
    """Return a model specifier."""
    return {"type": "query", "query": {**({} if identifier is None else {"identifier": identifier}), **more}}


def text_of(packets: Sequence[Json]) -> str:
    """Return the text of a prediction."""
    return "".join(packet["fragment"]["content"] for packet in packets if packet["type"] == "fragment")

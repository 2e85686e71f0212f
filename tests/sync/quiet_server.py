"""A server that begins every load and every answer, and ends none, so that there is always time to interrupt them.

::

    server = QuietServer()
    with lms.Client(server) as client:
        for progress in client.llm.load_new_instance_stream("qwen3-4b"):
            break
    assert server.has_received("cancel")
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

import lmstudio_sync as lms
from lmstudio_async._transport import FrameTransport, memory_pair
from tests.scripted_server import INSTANCE, MODEL

__all__ = ["QuietServer", "client_of"]


class QuietServer:
    """A server in the event loop of its client.

    :param confirms: whether the server confirms a cancel.
    :param authenticates: whether the server replies to the authentication of a client.
    :param fragments: number of fragments of an answer; the server sends them all at once.
    :param finishes_loads: whether a new instance is loaded at once.
    :param unloads: whether the server agrees to unload instances.
    """

    address = "quiet"
    is_running = True

    def __init__(
        self,
        *,
        confirms: bool = True,
        authenticates: bool = True,
        fragments: int = 1,
        finishes_loads: bool = False,
        unloads: bool = True,
    ) -> None:
        self.messages: list[dict[str, Any]] = []
        #: Number of the instances that were loaded.
        self.loads = 0
        self.is_connected = threading.Event()
        self._confirms = confirms
        self._authenticates = authenticates
        self._fragments = fragments
        self._finishes_loads = finishes_loads
        self._unloads = unloads
        self._heard = threading.Condition()

    def has_received(self, kind: str) -> bool:
        """Return whether a client has sent a packet of this kind on a channel."""
        return any(message.get("message") == {"type": kind} for message in self.messages)

    def wait_until_received(self, kind: str) -> bool:
        """Wait until a client has sent a packet of this kind on a channel; return whether it came within 20 seconds."""
        with self._heard:
            return self._heard.wait_for(lambda: self.has_received(kind), timeout=20)

    def calls(self) -> list[str]:
        """Return the names of the endpoints that clients have called, and of the channels that they have opened."""
        return [message["endpoint"] for message in self.messages if "endpoint" in message]

    @asynccontextmanager
    async def connect(self, namespace: str) -> AsyncIterator[FrameTransport]:
        theirs, ours = memory_pair()
        self.is_connected.set()
        try:
            async with anyio.create_task_group() as tasks:
                if self._authenticates:
                    await ours.send(json.dumps({"success": True}))
                tasks.start_soon(self._serve, ours)
                yield theirs
                tasks.cancel_scope.cancel()
        finally:
            # Receive also the messages that the client sent before it disconnected.
            with anyio.CancelScope(shield=True):
                await theirs.aclose()
                await self._serve(ours)

    async def _serve(self, transport: FrameTransport) -> None:
        try:
            while True:
                for frame in await transport.receive():
                    await self._hear(transport, json.loads(frame))
        except lms.LMStudioWebsocketError:
            await transport.aclose()

    async def _hear(self, transport: FrameTransport, message: dict[str, Any]) -> None:
        with self._heard:
            self.messages.append(message)
            self._heard.notify_all()
        for answer in self._answers(message):
            await transport.send(json.dumps(answer))

    def _answers(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        match message:
            case {"type": "rpcCall", "endpoint": "unloadModel", "callId": number} if not self._unloads:
                return [{"type": "rpcError", "callId": number, "error": {"title": "The engine is stuck"}}]
            case {"type": "rpcCall", "endpoint": endpoint, "callId": number}:
                results = {"listLoaded": [INSTANCE], "getModelInfo": INSTANCE}
                return [{"type": "rpcResult", "callId": number, "result": results.get(endpoint)}]
            case {"type": "channelCreate", "endpoint": "predict", "channelId": number}:
                packet = {"type": "fragment", "fragment": _fragment("on and on ")}
                return [{"type": "channelSend", "channelId": number, "message": packet}] * self._fragments
            case {"type": "channelCreate", "endpoint": "loadModel", "channelId": number} if (
                self._finishes_loads
            ):
                self.loads += 1
                packet = {"type": "success", "info": INSTANCE}
                return [
                    {"type": "channelSend", "channelId": number, "message": packet},
                    {"type": "channelClose", "channelId": number},
                ]
            case {"type": "channelCreate", "channelId": number}:
                packets = [{"type": "resolved", "info": MODEL}, {"type": "progress", "progress": 0.5}]
                return [{"type": "channelSend", "channelId": number, "message": packet} for packet in packets]
            case {"message": {"type": "cancel"}, "channelId": number} if self._confirms:
                return [{"type": "channelError", "channelId": number, "error": {"title": "Cancelled"}}]
        return []


def _fragment(text: str) -> dict[str, Any]:
    return {"content": text, "tokensCount": 1, "containsDrafted": False, "reasoningType": "none"}


def client_of(server: QuietServer, **settings: Any) -> lms.Client:
    """Return a client of the server, which has all that the client needs of an embedded server."""
    return lms.Client(server, **settings)  # type: ignore[arg-type]

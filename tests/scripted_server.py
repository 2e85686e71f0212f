"""A server that a test scripts message by message, to do things that a good server never does.

::

    async with ScriptedServer().client() as (client, server):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.llm.unload, "qwen3-4b")
            call = await server.next_message()
            await server.answer(call)
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from lmstudio_async import AsyncClient, AsyncLLM, LMStudioWebsocketError
from lmstudio_async._transport import ClientTransport, FrameTransport, memory_pair

__all__ = ["INSTANCE", "MODEL", "ScriptedServer", "list_nothing", "loaded_llm", "losing", "until"]

MODEL = {
    "type": "llm",
    "modelKey": "qwen3-4b",
    "format": "gguf",
    "displayName": "Qwen3 4B",
    "publisher": "qwen",
    "path": "qwen/qwen3-4b-GGUF/qwen3-4b-Q4_K_M.gguf",
    "sizeBytes": 2_500_000_000,
    "indexedModelIdentifier": "qwen/qwen3-4b-GGUF/qwen3-4b-Q4_K_M.gguf",
    "deviceIdentifier": None,
    "vision": False,
    "trainedForToolUse": True,
    "maxContextLength": 32768,
}
INSTANCE = MODEL | {
    "identifier": "qwen3-4b",
    "instanceReference": "r1",
    "ttlMs": 3_600_000,
    "lastUsedTime": None,
    "contextLength": 4096,
}


class ScriptedServer:
    """The other side of one client's connections, one at a time."""

    address = "scripted"
    is_running = True

    def __init__(self, *, authentication: Any = None) -> None:
        self._authentication = {"success": True} if authentication is None else authentication
        self._unread: list[dict[str, Any]] = []
        self._transport: FrameTransport
        self._dropped = False
        self.connections = 0

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[tuple[AsyncClient, ScriptedServer]]:
        async with AsyncClient(self, **settings) as client:  # type: ignore[arg-type]
            yield client, self

    @asynccontextmanager
    async def connect(self, namespace: str) -> AsyncIterator[ClientTransport]:
        theirs, self._transport = memory_pair()
        self.connections += 1
        self._dropped = False
        if self._authentication != "never":
            await self._transport.send(json.dumps(self._authentication))
        try:
            yield theirs
        finally:
            await theirs.aclose()

    async def next_message(self) -> dict[str, Any]:
        """Return the next message of the client, except authentication. After `drop`, read from the next connection."""
        while not self._unread:
            while self._dropped or not self.connections:
                await anyio.lowlevel.checkpoint()
            frames = await self._transport.receive()
            messages = [json.loads(frame) for frame in frames]
            self._unread += [message for message in messages if "authVersion" not in message]
        return self._unread.pop(0)

    async def nothing_more(self) -> bool:
        """Return whether the client disconnected without another message."""
        try:
            return not await self.next_message()
        except LMStudioWebsocketError:
            return True

    async def say(self, **message: Any) -> None:
        await self._transport.send(json.dumps(message))

    async def answer(self, call: dict[str, Any], result: Any = None) -> None:
        result = {} if result is None else {"result": result}
        await self.say(type="rpcResult", callId=call["callId"], **result)

    async def packet(self, channel: dict[str, Any], **packet: Any) -> None:
        await self.say(type="channelSend", channelId=channel["channelId"], message=packet)

    async def close(self, channel: dict[str, Any]) -> None:
        await self.say(type="channelClose", channelId=channel["channelId"])

    async def fail(self, channel: dict[str, Any], title: str) -> None:
        await self.say(type="channelError", channelId=channel["channelId"], error={"title": title})

    async def drop(self) -> None:
        """Lose the connection."""
        self._dropped = True
        await self._transport.aclose()


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until the condition holds."""
    while not condition():
        await anyio.lowlevel.checkpoint()


async def list_nothing(client: AsyncClient, server: ScriptedServer) -> None:
    """Call `list_loaded`, and answer with an empty list."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.list_loaded)
        await server.answer(await server.next_message(), [])


async def loaded_llm(client: AsyncClient, server: ScriptedServer) -> AsyncLLM:
    """Return a handle of `INSTANCE`, which the server lists as loaded."""
    handles: list[AsyncLLM] = []

    async def list_loaded() -> None:
        handles.extend(await client.llm.list_loaded())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(list_loaded)
        await server.answer(await server.next_message(), [INSTANCE])
    return handles[0]


@asynccontextmanager
async def losing(server: ScriptedServer) -> AsyncIterator[None]:
    """Drop the connection as soon as the server has received a message."""

    async def lose() -> None:
        await server.next_message()
        await server.drop()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lose)
        yield

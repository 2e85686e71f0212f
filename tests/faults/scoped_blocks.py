"""Blocks with a handle of an instance on a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from lmstudio_async import AsyncClient, AsyncLLM
from tests.scripted_server import INSTANCE, ScriptedServer, until

__all__ = [
    "Both",
    "confirm_unload",
    "leaving",
    "load",
    "refuse",
    "refuse_as_gone",
    "refuse_unload",
    "server_hears_nothing",
    "stay_until",
    "succeed",
]

Both = tuple[AsyncClient, ScriptedServer]


async def succeed(server: ScriptedServer, channel: dict[str, Any], kind: str = "success") -> None:
    await server.packet(channel, type=kind, info=INSTANCE)
    await server.close(channel)


async def load(tasks: TaskGroup, client: AsyncClient, server: ScriptedServer) -> AsyncLLM:
    """Return the handle of a new instance."""
    handles: list[AsyncLLM] = []

    async def run() -> None:
        handles.append(await client.llm.load_new_instance("qwen3-4b"))

    tasks.start_soon(run)
    await succeed(server, await server.next_message())
    await until(lambda: bool(handles))
    return handles[0]


async def stay_until(llm: AsyncLLM, leave: anyio.Event) -> None:
    async with llm:
        await leave.wait()


async def confirm_unload(server: ScriptedServer) -> None:
    """Let the server find the instance by its reference, and unload it."""
    look = await server.next_message()
    assert look["endpoint"] == "getModelInfo"
    assert look["parameter"]["specifier"] == {"type": "instanceReference", "instanceReference": "r1"}
    await server.answer(look, INSTANCE)
    unload = await server.next_message()
    assert unload["endpoint"] == "unloadModel"
    assert unload["parameter"]["identifier"] == "qwen3-4b"
    await server.answer(unload)


async def refuse_unload(server: ScriptedServer) -> None:
    """Let the server find the instance, and fail to unload it."""
    await server.answer(await server.next_message(), INSTANCE)
    await refuse(server, await server.next_message())


async def refuse(server: ScriptedServer, unload: dict[str, Any]) -> None:
    assert unload["endpoint"] == "unloadModel"
    await server.say(type="rpcError", callId=unload["callId"], error={"title": "The engine is stuck"})


async def refuse_as_gone(server: ScriptedServer, call: dict[str, Any]) -> None:
    gone = {"title": "The instance was unloaded.", "displayData": {"code": "generic.specificModelUnloaded"}}
    await server.say(type="rpcError", callId=call["callId"], error=gone)


async def server_hears_nothing(client: AsyncClient, server: ScriptedServer) -> bool:
    """Return whether the client has sent no request besides the one that this sends."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.list_loaded)
        message = await server.next_message()
        await server.answer(message, [])
    return bool(message["endpoint"] == "listLoaded")


@asynccontextmanager
async def leaving(
    both: Both, *, error: Exception | None = None, scope: anyio.CancelScope | None = None
) -> AsyncIterator[list[BaseException]]:
    """Load an instance, and leave its block in another task; yield the list in which its exception will be."""
    client, server = both
    raised: list[BaseException] = []

    async with anyio.create_task_group() as tasks:
        llm = await load(tasks, client, server)

        async def leave() -> None:
            with scope or anyio.CancelScope():
                try:
                    async with llm:
                        if error is not None:
                            raise error
                except Exception as caught:  # noqa: BLE001 - the test looks at it
                    raised.append(caught)

        with anyio.fail_after(30):
            tasks.start_soon(leave)
            yield raised

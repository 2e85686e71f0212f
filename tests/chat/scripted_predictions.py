"""Helpers to run a prediction while the test acts as the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from lmstudio_async import AsyncClient, AsyncLLM, PredictionResult
from tests.scripted_server import ScriptedServer, loaded_llm

__all__ = ["STATS", "Asked", "Both", "ask", "hello", "say_and_end"]

Both = tuple[AsyncClient, ScriptedServer]

STATS = {"stopReason": "eosFound"}


class Asked:
    """One prediction, for which the test acts as the server."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.message: dict[str, Any] = {}
        self.result: PredictionResult | None = None

    @property
    def fields(self) -> dict[str, Any]:
        layers = self.message["creationParameter"]["predictionConfigStack"]["layers"]
        return {field["key"]: field["value"] for layer in layers for field in layer["config"]["fields"]}

    async def say(self, *contents: str, **members: Any) -> None:
        for content in contents:
            await self.server.packet(self.message, type="fragment", fragment={"content": content, **members})

    async def end(self, **success: Any) -> None:
        await self.server.packet(self.message, type="success", **({"stats": STATS} | success))
        await self.server.close(self.message)


async def ask(both: Both, ask_it: Callable[[AsyncLLM], Awaitable[PredictionResult]], play: Any) -> Asked:
    """Run a prediction while `play` acts as the server."""
    client, server = both
    llm = await loaded_llm(client, server)
    asked = Asked(server)

    async def run() -> None:
        asked.result = await ask_it(llm)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            asked.message = await server.next_message()
            await play(asked)
    return asked


async def hello(asked: Asked) -> None:
    await asked.say("Hel", "lo")
    await asked.end()


async def say_and_end(asked: Asked, *contents: str) -> None:
    await asked.say(*contents)
    await asked.end()

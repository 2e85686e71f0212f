"""A model that says and calls what a test tells it to, and someone who talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from lmstudio_async import AsyncLLM
from tests.scripted_server import INSTANCE, ScriptedServer

__all__ = ["Outcome", "acting", "answer", "answer_and_close", "call", "config_of", "history_of", "results_of"]

STATS = {"stopReason": "toolCalls", "predictedTokensCount": 3}


class Outcome:
    """What came of a call of ``act``."""

    result: Any = None
    error: BaseException | None = None


@asynccontextmanager
async def acting(llm: AsyncLLM, tools: Sequence[Any], **settings: Any) -> AsyncIterator[Outcome]:
    """``act`` is under way; what came of it is known when the block is over."""
    outcome = Outcome()

    async def act() -> None:
        try:
            outcome.result = await llm.act(settings.pop("chat", "go"), tools, **settings)
        except Exception as error:  # noqa: BLE001 - what came of it, whatever it is
            outcome.error = error

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(act)
            yield outcome


def call(name: str, number: int | None = None, /, **arguments: Any) -> dict[str, Any]:
    """A request to call a tool."""
    return {"type": "function", "id": f"c{number or name}", "name": name, "arguments": arguments}


async def answer(server: ScriptedServer, *said: str | float | dict[str, Any]) -> dict[str, Any]:
    """Say texts, tell progress, call tools, in this order; the request that it answers is given."""
    channel = await server.next_message()
    assert channel["endpoint"] == "predict"
    for each in said:
        if isinstance(each, str):
            fragment = {"content": each, "tokensCount": 1, "containsDrafted": False, "reasoningType": "none"}
            await server.packet(channel, type="fragment", fragment=fragment)
        elif isinstance(each, float):
            await server.packet(channel, type="promptProcessingProgress", progress=each)
        else:
            await server.packet(channel, type="toolCallGenerationStart")
            await server.packet(channel, type="toolCallGenerationEnd", toolCallRequest=each)
    return channel


async def answer_and_close(server: ScriptedServer, *said: str | float | dict[str, Any]) -> dict[str, Any]:
    """The same, and that was all."""
    channel = await answer(server, *said)
    await server.packet(
        channel,
        type="success",
        stats=STATS,
        modelInfo=INSTANCE,
        loadModelConfig={"fields": []},
        predictionConfig={"fields": []},
    )
    await server.close(channel)
    return channel


def history_of(channel: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that a request for an answer carries."""
    messages = channel["creationParameter"]["history"]["messages"]
    assert isinstance(messages, list)
    return messages


def config_of(channel: dict[str, Any]) -> dict[str, Any]:
    """The settings that a request for an answer carries."""
    layers = channel["creationParameter"]["predictionConfigStack"]["layers"]
    return {field["key"]: field["value"] for layer in layers for field in layer["config"]["fields"]}


def results_of(channel: dict[str, Any]) -> list[str]:
    """What the tools gave, as the last message of a request for an answer has it."""
    message = history_of(channel)[-1]
    assert message["role"] == "tool"
    return [part["content"] for part in message["content"]]

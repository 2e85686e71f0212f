"""A call of ``act``, and the texts and tool calls that a scripted server sends in answer to it."""

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
    """The result or the error of a call of ``act``."""

    result: Any = None
    error: BaseException | None = None


@asynccontextmanager
async def acting(llm: AsyncLLM, tools: Sequence[Any], **settings: Any) -> AsyncIterator[Outcome]:
    """Run ``act`` during the block; its outcome is complete after the block."""
    outcome = Outcome()

    async def act() -> None:
        try:
            outcome.result = await llm.act(settings.pop("chat", "go"), tools, **settings)
        except Exception as error:  # noqa: BLE001 - any error is an outcome
            outcome.error = error

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(act)
            yield outcome


def call(name: str, number: int | None = None, /, **arguments: Any) -> dict[str, Any]:
    """Return a request to call a tool."""
    return {"type": "function", "id": f"c{number or name}", "name": name, "arguments": arguments}


async def answer(server: ScriptedServer, *parts: str | float | dict[str, Any]) -> dict[str, Any]:
    """Send texts, progress and tool calls, in this order, and return the request that they answer."""
    channel = await server.next_message()
    assert channel["endpoint"] == "predict"
    for each in parts:
        if isinstance(each, str):
            fragment = {"content": each, "tokensCount": 1, "containsDrafted": False, "reasoningType": "none"}
            await server.packet(channel, type="fragment", fragment=fragment)
        elif isinstance(each, float):
            await server.packet(channel, type="promptProcessingProgress", progress=each)
        else:
            await server.packet(channel, type="toolCallGenerationStart")
            await server.packet(channel, type="toolCallGenerationEnd", toolCallRequest=each)
    return channel


async def answer_and_close(server: ScriptedServer, *parts: str | float | dict[str, Any]) -> dict[str, Any]:
    """Send the same, then the result, and close the channel."""
    channel = await answer(server, *parts)
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
    """Return the messages of a prediction request."""
    messages = channel["creationParameter"]["history"]["messages"]
    assert isinstance(messages, list)
    return messages


def config_of(channel: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a prediction request."""
    layers = channel["creationParameter"]["predictionConfigStack"]["layers"]
    return {field["key"]: field["value"] for layer in layers for field in layer["config"]["fields"]}


def results_of(channel: dict[str, Any]) -> list[str]:
    """Return the results of the tools in the last message of a prediction request."""
    message = history_of(channel)[-1]
    assert message["role"] == "tool"
    return [part["content"] for part in message["content"]]

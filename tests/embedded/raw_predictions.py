"""Helpers that send predict requests to the embedded server in raw frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.embedded.raw_client import Json, RawClient, query, stack

__all__ = [
    "ADD",
    "ENDLESS",
    "PREFIX",
    "STATS_MEMBERS",
    "TOOLS",
    "ask",
    "begin",
    "checked",
    "first_fragment",
    "message",
    "need",
    "user",
]

PREFIX = "llm.prediction."

#: A context length in tokens that no answer of a test fills.
ENDLESS = 500_000

#: The definition of a tool.
ADD: Json = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}

#: A prediction config that offers the tool.
TOOLS: Json = {"tools": {"type": "toolArray", "tools": [ADD]}}

STATS_MEMBERS = {
    "stopReason", "tokensPerSecond", "numGpuLayers", "timeToFirstTokenSec", "totalTimeSec", "promptTokensCount",
    "predictedTokensCount", "totalTokensCount",
}  # fmt: skip


def user(text: str) -> Json:
    return message("user", text)


def message(role: str, text: str, *parts: Json) -> Json:
    return {"role": role, "content": [{"type": "text", "text": text}, *parts]}


async def need(raw: RawClient, key: str) -> None:
    """Load the model if it is not loaded."""
    if all(info["identifier"] != key for info in await raw.call("listLoaded")):
        length = ENDLESS if key == "endless" else 512
        await raw.load(key, loadConfigStack=stack({"llm.load.contextLength": length}))


async def begin(
    raw: RawClient, key: str, config: Mapping[str, Any] | None = None, *messages: Json, **more: Any
) -> int:
    """Load the model if it is not loaded, and open a channel for a prediction."""
    await need(raw, key)
    config = {PREFIX + name: value for name, value in (config or {}).items()}
    creation = {
        "modelSpecifier": query(key),
        "history": {"messages": list(messages) or [user("hi")]},
        "predictionConfigStack": stack(config),
        **more,
    }
    return await raw.open("predict", creation)


async def ask(
    raw: RawClient, key: str, config: Mapping[str, Any] | None = None, *messages: Json, **more: Any
) -> list[Json]:
    """Return all packets of a prediction."""
    return await raw.packets(await begin(raw, key, config, *messages, **more))


async def first_fragment(raw: RawClient, channel: int) -> None:
    while (packet := await raw.packet(channel)) is not None and packet["type"] != "fragment":
        pass


def checked(value: Any) -> Json:
    return {"checked": True, "value": value}

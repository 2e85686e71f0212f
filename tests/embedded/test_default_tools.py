"""Tools for models whose chat template does not support tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async.embedded._prediction._default_tools import RequestScanner, with_tools
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import Json, RawClient, query, stack, text_of
from tests.embedded.raw_predictions import ADD, ask, checked, message, user

# The tiny models follow a grammar byte by byte and cannot choose, so a call of this tool has only one valid form.
RING = {
    "type": "function",
    "function": {
        "name": "ring",
        "parameters": {
            "type": "object",
            "properties": {"bell": {"$ref": "#/$defs/bell"}},
            "required": ["bell"],
            "$defs": {"bell": {"enum": ["door"]}},
        },
    },
}
RUNG = ("ring", {"bell": "door"})


def tools(*some: Any) -> Json:
    return {"tools": {"type": "toolArray", "tools": list(some)}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm(
        "acme/calls-GGUF/calls-Q8_0.gguf", script=["Let me ", "[TOOL_REQUEST]"], then=["The sum is 3."]
    )
    folder.add_llm("acme/talks-GGUF/talks-Q8_0.gguf", script="Hello there my friend")
    folder.add_llm(
        "acme/dreams-GGUF/dreams-Q8_0.gguf", script=["[TOOL_REQUEST]", '{"name": "fly", "arguments": {}}']
    )
    return folder.folder


async def answer_of(client: RawClient, key: str, config: Json, *messages: Json) -> list[Json]:
    # The tiny models count every byte as a token, and the instructions are long.
    await client.load(key, loadConfigStack=stack({"llm.load.contextLength": 2048}))
    return await ask(client, key, config, *messages)


def calls_of(packets: list[Json]) -> list[tuple[str, Json]]:
    ends = [packet["toolCallRequest"] for packet in packets if packet["type"] == "toolCallGenerationEnd"]
    return [(end["name"], end["arguments"]) for end in ends]


async def test_a_model_without_a_template_for_tools_can_call_tools(client: RawClient) -> None:
    packets = await answer_of(client, "calls", tools(RING), user("Ring!"))
    assert text_of(packets) == "Let me "
    assert RUNG in calls_of(packets)
    kinds = [packet["type"] for packet in packets if packet["type"].startswith("toolCall")]
    assert kinds[:3] == [
        "toolCallGenerationStart",
        "toolCallGenerationNameReceived",
        "toolCallGenerationArgumentFragmentGenerated",
    ]
    assert packets[-1]["stats"]["stopReason"] == "toolCalls"


async def test_the_prompt_contains_tools_calls_and_results(client: RawClient) -> None:
    call = {"id": "c1", "type": "function", "name": "add", "arguments": {"a": 1, "b": 2}}
    result = {"role": "tool", "content": [{"type": "toolCallResult", "content": "3", "toolCallId": "c1"}]}
    asked = message("assistant", "", {"type": "toolCallRequest", "toolCallRequest": call})
    packets = await answer_of(client, "calls", tools(ADD), user("1+2?"), asked, result)
    assert text_of(packets) == "The sum is 3."
    parameter = {
        "specifier": query("calls"),
        "history": {"messages": [message("system", "Be kind."), user("1+2?"), asked, result]},
        "predictionConfigStack": stack(),
        "opts": {"toolDefinitions": [ADD]},
    }
    formatted = (await client.call("applyPromptTemplate", parameter))["formatted"]
    assert formatted.count("<|im_start|>system") == 1
    assert "Be kind." in formatted
    assert "Add two numbers" in formatted
    assert '[TOOL_REQUEST]{"name": "add", "arguments": {"a": 1, "b": 2}}[END_TOOL_REQUEST]' in formatted
    assert "[TOOL_RESULT]3[END_TOOL_RESULT]" in formatted


async def test_a_model_may_answer_without_calling_a_tool(client: RawClient) -> None:
    packets = await answer_of(client, "talks", tools(ADD))
    assert text_of(packets) == "Hello there my friend"
    assert packets[-1]["stats"]["stopReason"] == "eosFound"


async def test_a_model_must_call_a_tool_if_tool_choice_is_required(client: RawClient) -> None:
    config = {**tools(RING), "toolChoice": {"type": "generic", "mode": "required"}}
    packets = await answer_of(client, "talks", {**config, "maxPredictedTokens": checked(400)})
    assert text_of(packets) == ""
    assert RUNG in calls_of(packets)


async def test_a_model_cannot_call_an_unknown_tool(client: RawClient) -> None:
    packets = await answer_of(client, "dreams", tools(RING))
    assert {name for name, _ in calls_of(packets)} == {"ring"}


async def test_no_tool_is_offered_if_tool_choice_is_none(client: RawClient) -> None:
    config = {**tools(ADD), "toolChoice": {"type": "generic", "mode": "none"}}
    packets = await answer_of(client, "calls", config)
    assert calls_of(packets) == []
    assert text_of(packets) == "Let me [TOOL_REQUEST]"


async def test_an_unfinished_call_is_reported_as_failed(client: RawClient) -> None:
    packets = await answer_of(client, "calls", {**tools(RING), "maxPredictedTokens": checked(40)})
    failed = next(packet for packet in packets if packet["type"] == "toolCallGenerationFailed")
    assert "ring" in failed["error"]["title"]
    assert packets[-1]["stats"]["stopReason"] == "maxPredictedTokensReached"


def test_results_of_several_tools_are_one_message() -> None:
    history = [{"role": "tool", "content": "3"}, {"role": "tool", "content": "4"}]
    (written,) = with_tools(history, [])
    assert written == {
        "role": "user",
        "content": "[TOOL_RESULT]3[END_TOOL_RESULT]\n[TOOL_RESULT]4[END_TOOL_RESULT]",
    }
    assert history[0] == {"role": "tool", "content": "3"}


ARGUMENTS = st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text()))


@given(st.lists(st.tuples(st.text(), ARGUMENTS), max_size=3), st.text(), st.data())
def test_calls_are_found_however_the_text_is_split(
    calls: list[tuple[str, Json]], before: str, data: st.DataObject
) -> None:
    # The text must not contain a bracket that begins a call.
    before = before.replace("[", "(")
    text = before + "\n".join(
        f'[TOOL_REQUEST]{{"name": {json.dumps(name)}, "arguments": {json.dumps(arguments)}}}[END_TOOL_REQUEST]'
        for name, arguments in calls
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    scanner = RequestScanner()
    plain, names, arguments = "", dict[int, str](), dict[int, str]()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        piece, deltas = scanner.feed(text[start:end])
        plain += piece
        for delta in deltas:
            function = delta["function"]
            names.setdefault(delta["index"], function.get("name"))
            arguments[delta["index"]] = arguments.get(delta["index"], "") + function["arguments"]
    assert plain + scanner.flush() == before
    assert [(names[index], json.loads(arguments[index])) for index in sorted(names)] == calls

"""Tool calls that the engine does not recognize, and answers that it mistakes for calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

import lmstudio_async as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import HERMES, ModelsFolder
from lmstudio_async.testing._chat_templates import LLAMA, XML
from tests.embedded.conftest import new_server
from tests.embedded.raw_client import Json, RawClient, text_of
from tests.embedded.raw_predictions import ADD, TOOLS, ask, checked
from tests.images import png

# Answers that are no calls.
PLAIN = {
    "dict": 'Use a dict: {"a": 1}.',
    "json": '{"temperature": 3, "unit": "C"}',
    "code": "int main() {\n    return 0;\n}",
    "list": 'The names: ["a", "b"] and {c}.',
    "quote": 'The tool is {"name": "add", "description": "Add two numbers"}.',
}
CALL = '{"name": "add", "parameters": {"a": 1, "b": 2}}'
OTHER = '{"name": "add", "parameters": {"a": 3, "b": 4}}'
TAGS = (
    "<tool_call><function=add><parameter=a>%s</parameter><parameter=b>%s</parameter></function></tool_call>"
)
ONE, TWO = ("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})
# This template lists the tools for the model, but does not render the calls of earlier answers.
UNRENDERED = LLAMA.replace("message.role == 'assistant' and message.tool_calls", "false")
# A template, and two calls as models with this template write them.
CALLS = {
    "semicolon": (LLAMA, f"{CALL}; {OTHER}"),
    "lines": (LLAMA, f"{CALL}\n{OTHER}"),
    "listed": (LLAMA, f"[{CALL}, {OTHER}]"),
    "functions": (LLAMA, '<function=add>{"a": 1, "b": 2}</function><function=add>{"a": 3, "b": 4}</function>'),
    "openai": (LLAMA, "\n".join(each.replace("parameters", "arguments") for each in (CALL, OTHER))),
    "tags": (XML, (TAGS % (1, 2) + TAGS % (3, 4))),
    "unrendered": (UNRENDERED, f"[{CALL}, {OTHER}]"),
    "oneline": (
        HERMES,
        "".join(f"<tool_call>{each}</tool_call>".replace("parameters", "arguments") for each in (CALL, OTHER)),
    ),
    "blanks": (
        HERMES,
        "".join(f"<tool_call> \n\n {each}  </tool_call>\n\n".replace("parameters", "arguments") for each in (CALL, OTHER)),
    ),
}  # fmt: skip
THOUGHTFUL = '{"name": "add", "parameters": {"a": 1, "note": "A thought is <think>hm</think> here"}}'
BROKEN = {
    "cut": '{"name": "add", "parameters": {"a": 1, "b',
    "listed-arguments": '{"name": "add", "parameters": [1, 2]}',
}
# Answers in which the engine mistakes a brace or a mark for the beginning of a call, and then gives up.
GIVEN_UP = {
    "data": (HERMES, '<tool_call>\n{"city": "Rome"}\n</tool_call> is JSON in a tag.'),
    "tag": (XML, ["<tool_call>\n<b>bold", "</b> stands in a tag"]),
    "late-thought": (LLAMA, ["So {", "<think>", "Hm", " hm</", "think>", " x}"]),
    "thoughtful": (HERMES, ["<tool_call>\n<b>bold ", "<think>", "Hm", " hm</", "think>", "Yes"]),
}
GEMMA = """
{%- for tool in tools %}
    {{- '<|tool>' + tool.function.name + '<tool|>' }}
{%- endfor %}
{%- for message in messages %}
    {{- '<|turn>' + message.role + '\n' + message.content | string + '<turn|>\n' }}
    {%- for call in message.tool_calls %}
        {{- '<|tool_call>call:' + call.function.name + '{<|"|><|"|>}<tool_call|>' }}
    {%- endfor %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|turn>model\n' }}
{%- endif %}"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    for name, text in (PLAIN | BROKEN).items():
        folder.add_llm(name, script=text, chat_template=LLAMA)
    for name, (template, script) in GIVEN_UP.items():
        folder.add_llm(name, script=script, chat_template=template)
    folder.add_llm("writer", script=f"So {THOUGHTFUL}", chat_template=LLAMA)
    for name, script in (("seer", CALL), ("describer", PLAIN["dict"])):
        folder.add_llm(f"acme/{name}-GGUF/{name}-Q8_0.gguf", script=script, chat_template=LLAMA)
        folder.add_projector(f"acme/{name}-GGUF/mmproj-{name}-F16.gguf")
    folder.add_llm("endless", script="Use {x} on and on ", endless=True, chat_template=LLAMA)
    folder.add_llm(
        "gemma",
        script=[
            "Well <|tool_call>",
            "call:add{a:1,",
            "b:2}<tool_call|>",
            "<|tool_call>",
            "call:add{n:",
            '<|"|>',
            "x",
        ],
        chat_template=GEMMA,
    )
    for name, (template, text) in CALLS.items():
        folder.add_llm(name, script=text, then=["The sums are 3 and 7."], chat_template=template)
    return folder.folder


server = pytest.fixture(new_server, scope="module")


@pytest.fixture
async def sdk(server: EmbeddedServer) -> AsyncIterator[lms.AsyncClient]:
    async with lms.AsyncClient(server) as client:
        yield client


async def ready(client: lms.AsyncClient, key: str) -> lms.AsyncLLM:
    return await client.llm.model(key, config={"context_length": 1024})


class Calculator:
    """A tool that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Json]] = []

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        self.calls.append(("add", {"a": a, "b": b}))
        return a + b


@pytest.mark.parametrize("name", PLAIN)
async def test_answer_with_a_brace_stays_whole_where_tools_are_offered(
    sdk: lms.AsyncClient, name: str
) -> None:
    llm, calculator = await ready(sdk, name), Calculator()
    received: list[str] = []
    result = await llm.act(
        "Go", [calculator.add], on_prediction_fragment=lambda piece, _: received.append(piece.content)
    )
    assert "".join(received) == PLAIN[name]
    assert (result.rounds, calculator.calls) == (1, [])


@pytest.mark.parametrize("name", CALLS)
async def test_act_makes_each_call_that_the_model_has_written(sdk: lms.AsyncClient, name: str) -> None:
    llm, calculator = await ready(sdk, name), Calculator()
    messages: list[Any] = []
    await llm.act("1+2? 3+4?", [calculator.add], on_message=messages.append)
    assert calculator.calls == [ONE, TWO]
    assert [type(message).__name__ for message in messages] == [
        "AssistantResponse",
        "ToolResultMessage",
        "AssistantResponse",
    ]


async def test_text_after_a_brace_is_streamed_before_the_answer_ends(sdk: lms.AsyncClient) -> None:
    llm = await ready(sdk, "endless")
    received = ""
    async with llm.respond_stream("Go", config={"raw_tools": TOOLS["tools"]}) as answer:
        async for fragment in answer:
            received += fragment.content
            if received.endswith("} on "):
                break
    assert received.startswith("Use {x} on ")


async def test_bare_calls_are_distinguished_from_text_in_answers_about_images(sdk: lms.AsyncClient) -> None:
    image = await sdk.files.prepare_image(png(255, 0, 0))
    chat = lms.Chat()
    chat.add_user_message("What?", images=[image])
    config: Any = {"raw_tools": TOOLS["tools"]}
    called = await (await ready(sdk, "seer")).respond(chat, config=config)
    assert [(call.name, call.arguments) for call in called.tool_call_requests] == [ONE]
    described = await (await ready(sdk, "describer")).respond(chat, config=config)
    assert (described.content, described.tool_call_requests) == (PLAIN["dict"], ())


async def test_stop_string_after_a_brace_ends_the_answer(sdk: lms.AsyncClient) -> None:
    llm = await ready(sdk, "dict")
    result = await llm.respond("Go", config={"raw_tools": TOOLS["tools"], "stop_strings": [": 1"]})
    assert result.content == 'Use a dict: {"a"'
    assert result.stats.stop_string == ": 1"


async def test_bare_call_is_streamed_in_its_parts(client: RawClient) -> None:
    packets = await ask(client, "semicolon", TOOLS)
    calls = [packet for packet in packets if packet["type"].startswith("toolCall")]
    kinds = [packet["type"].removeprefix("toolCallGeneration") for packet in calls]
    assert [kind for kind, _ in groupby(kinds)] == [
        "Start",
        "NameReceived",
        "ArgumentFragmentGenerated",
        "End",
    ] * 2
    ends = [packet for packet in calls if packet["type"] == "toolCallGenerationEnd"]
    assert [end["rawContent"] for end in ends] == [CALL, OTHER]
    identifiers = [end["toolCallRequest"]["id"] for end in ends]
    assert identifiers == [
        packet["toolCallId"] for packet in calls if packet["type"] == "toolCallGenerationStart"
    ]
    assert len(set(identifiers)) == 2
    assert text_of(packets) == ""
    assert packets[-1]["stats"]["stopReason"] == "toolCalls"


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_call_fails_with_its_text(sdk: lms.AsyncClient, name: str) -> None:
    llm, calculator = await ready(sdk, name), Calculator()
    steps: list[lms.ToolCallProgress] = []
    with pytest.raises(lms.LMStudioPredictionError, match="add|none of the tools"):
        await llm.act("Go", [calculator.add], on_tool_call=steps.append)
    assert (steps[-1].phase, steps[-1].raw_content) == ("failed", BROKEN[name])
    assert calculator.calls == []


async def test_reasoning_tags_in_arguments_stay_in_the_arguments(sdk: lms.AsyncClient) -> None:
    result = await (await ready(sdk, "writer")).respond("Go", config={"raw_tools": TOOLS["tools"]})
    (request,) = result.tool_call_requests
    assert request.arguments == json.loads(THOUGHTFUL)["parameters"]
    assert (result.content, result.stats.stop_reason) == ("So ", "toolCalls")


async def test_bare_call_names_the_tool_as_the_client_does(client: RawClient) -> None:
    tool = {"type": "function", "function": {**ADD["function"], "name": "Add"}}
    config = {"tools": {"type": "toolArray", "tools": [tool]}, "toolNaming": "snakeCase"}
    packets = await ask(client, "semicolon", config)
    ends = [packet for packet in packets if packet["type"] == "toolCallGenerationEnd"]
    assert [end["toolCallRequest"]["name"] for end in ends] == ["Add", "Add"]


async def test_bare_call_that_a_token_limit_cuts_is_reported_as_failed(client: RawClient) -> None:
    packets = await ask(client, "semicolon", {**TOOLS, "maxPredictedTokens": checked(3)})
    failed = next(packet for packet in packets if packet["type"] == "toolCallGenerationFailed")
    assert CALL.startswith(failed["rawContent"])
    assert packets[-1]["stats"]["stopReason"] == "maxPredictedTokensReached"


@pytest.mark.parametrize("name", GIVEN_UP)
async def test_text_that_the_engine_mistakes_for_a_call_stays_text(sdk: lms.AsyncClient, name: str) -> None:
    llm, calculator = await ready(sdk, name), Calculator()
    received: list[lms.LlmPredictionFragment] = []
    await llm.act("Go", [calculator.add], on_prediction_fragment=lambda piece, _: received.append(piece))
    assert "".join(piece.content for piece in received) == "".join(GIVEN_UP[name][1])
    thought = "".join(piece.content for piece in received if piece.reasoning_type == "reasoning")
    assert thought == ("Hm hm" if "thought" in name else "")


async def test_whole_call_is_kept_if_the_engine_gives_up_on_the_next_one(client: RawClient) -> None:
    packets = await ask(client, "gemma", TOOLS)
    kinds = [packet["type"] for packet in packets if packet["type"].startswith("toolCall")]
    assert [kind.removeprefix("toolCallGeneration") for kind, _ in groupby(kinds)] == [
        *("Start", "NameReceived", "ArgumentFragmentGenerated", "End"),
        *("Start", "NameReceived", "ArgumentFragmentGenerated", "Failed"),
    ]
    end = next(packet for packet in packets if packet["type"] == "toolCallGenerationEnd")
    assert (end["toolCallRequest"]["name"], end["toolCallRequest"]["arguments"]) == ONE
    failed = next(packet for packet in packets if packet["type"] == "toolCallGenerationFailed")
    assert "add" in failed["error"]["title"]
    assert failed["rawContent"] == '{"n":'
    assert (text_of(packets), packets[-1]["stats"]["stopReason"]) == ("Well ", "toolCalls")

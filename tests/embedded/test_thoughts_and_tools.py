"""Reasoning that is separated from answers, and tool calls of the model."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import pytest

import lmstudio_async as lms
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import HERMES, THINKING, ModelsFolder, tool_call
from lmstudio_async.testing._chat_templates import LLAMA, MISTRAL, XML
from tests.embedded.conftest import new_server
from tests.embedded.raw_client import Json, RawClient, Refused, connected, query, stack, text_of
from tests.embedded.raw_predictions import (
    ADD,
    PREFIX,
    STATS_MEMBERS,
    TOOLS,
    ask,
    begin,
    checked,
    message,
    need,
    user,
)

OPEN_THINKING = THINKING.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}", 1)

# Family -> its template, and a call of an unknown tool in its form.
INVENTED = {
    "hermes": (HERMES, tool_call("sub", a=1, b=2)),
    "xml": (
        XML,
        ["<tool_call>\n<function=sub>\n<parameter=a>\n1", "\n</parameter>\n</function>\n</tool_call>"],
    ),
    "llama": (LLAMA, ['{"name": "sub", "para', 'meters": {"a": 1, ', '"b": 2}}']),
    "mistral": (MISTRAL, ['[TOOL_CALLS][{"name": "sub", ', '"arguments": {"a": 1,', ' "b": 2}}]']),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", script="Hello there my friend")
    folder.add_llm(
        "acme/tools-GGUF/tools-Q8_0.gguf",
        script=["Let me ", *tool_call("add", a=1, b=2)],
        then=["The sum is 3."],
        chat_template=HERMES,
    )
    folder.add_llm(
        "acme/thinker-GGUF/thinker-Q8_0.gguf",
        script=["<thi", "nk>", "Hm", " hm</", "think>", "Yes", " you"],
        chat_template=THINKING,
    )
    folder.add_llm(
        "acme/opened-GGUF/opened-Q8_0.gguf", script=["Hm", "</think>", "Yes"], chat_template=OPEN_THINKING
    )
    folder.add_llm(
        "acme/ponder-GGUF/ponder-Q8_0.gguf",
        script=["<think>", " hm", " hmm", " so", " yes", "</think>", "Answer"],
        chat_template=THINKING,
        # The tags are tokens of their own (type 4), as in models that were trained to think.
        metadata={"tokenizer.ggml.token_type": [1] * 256 + [3] * 3 + [4, 1, 1, 1, 1, 4, 1]},
    )
    folder.add_llm(
        "acme/both-GGUF/both-Q8_0.gguf",
        script=["<thi", "nk>", "Hm", " hm</", "think>", "Yes", " you"],
        chat_template=HERMES,
    )
    for family, (template, script) in INVENTED.items():
        folder.add_llm(f"acme/{family}-GGUF/{family}-Q8_0.gguf", script=script, chat_template=template)
    folder.add_llm(
        "acme/babbler-GGUF/babbler-Q8_0.gguf",
        script=['<tool_call>\n{"name": "sub"', " and on ", "and so on "],
        endless=True,
        chat_template=HERMES,
    )
    return folder.folder


server = pytest.fixture(new_server, scope="module")


# -- reasoning


async def test_reasoning_is_separated_from_the_answer_by_its_tags(client: RawClient) -> None:
    packets = await ask(client, "thinker")
    pieces = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    found = [(piece["reasoningType"], piece["content"], piece["isStructural"]) for piece in pieces]
    assert found[0] == ("reasoningStartTag", "<think>", True)
    assert "".join(text for kind, text, _ in found if kind == "reasoning") == "Hm hm"
    assert ("reasoningEndTag", "</think>", True) in found
    assert "".join(text for kind, text, _ in found if kind == "none") == "Yes you"


async def test_reasoning_that_the_template_opens_begins_with_the_answer(client: RawClient) -> None:
    packets = await ask(client, "opened")
    pieces = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    assert [(piece["reasoningType"], piece["content"]) for piece in pieces] == [
        ("reasoningStartTag", "<think>"),
        ("reasoning", "Hm"),
        ("reasoningEndTag", "</think>"),
        ("none", "Yes"),
    ]


async def test_reasoning_is_text_if_parsing_is_disabled(client: RawClient) -> None:
    parsing = {"enabled": False, "startString": "<think>", "endString": "</think>"}
    packets = await ask(client, "thinker", {"reasoning.parsing": parsing})
    assert {p["fragment"]["reasoningType"] for p in packets if p["type"] == "fragment"} == {"none"}
    assert text_of(packets) == "<think>Hm hm</think>Yes you"


async def test_reasoning_parsing_accepts_other_tags(client: RawClient) -> None:
    parsing = {"enabled": True, "startString": "Hello", "endString": "my"}
    packets = await ask(client, "tiny", {"reasoning.parsing": parsing})
    found = [
        (p["fragment"]["reasoningType"], p["fragment"]["content"]) for p in packets if p["type"] == "fragment"
    ]
    assert found == [
        ("reasoningStartTag", "Hello"),
        ("reasoning", " there"),
        ("reasoning", " "),
        ("reasoningEndTag", "my"),
        ("none", " friend"),
    ]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("the", "my", [("none", "Hello "), ("reasoning", "re "), ("none", " friend")]),
        ("lo th", "fri", [("none", "Hel"), ("reasoning", "ere my "), ("none", "end")]),
        ("Hello", "nowhere", [("reasoning", " there my friend")]),
    ],
)
async def test_reasoning_begins_at_the_first_start_tag_at_any_place(
    client: RawClient, start: str, end: str, expected: list[tuple[str, str]]
) -> None:
    parsing = {"enabled": True, "startString": start, "endString": end}
    packets = await ask(client, "tiny", {"reasoning.parsing": parsing})
    pieces = [p["fragment"] for p in packets if p["type"] == "fragment"]
    joined = [
        (kind, "".join(piece["content"] for piece in group))
        for kind, group in groupby(pieces, lambda piece: piece["reasoningType"])
    ]
    assert [piece for piece in joined if piece[0] in ("none", "reasoning")] == expected


@pytest.mark.parametrize(("key", "tools"), [("thinker", {}), ("both", {}), ("both", TOOLS)])
@pytest.mark.parametrize("stop", ["m", "Yes", "m</"])
async def test_a_stop_string_does_not_end_reasoning(
    client: RawClient, key: str, tools: Json, stop: str
) -> None:
    packets = await ask(client, key, {**tools, "stopStrings": [stop]})
    pieces = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    assert "".join(piece["content"] for piece in pieces if piece["reasoningType"] == "reasoning") == "Hm hm"
    answer = "".join(piece["content"] for piece in pieces if piece["reasoningType"] == "none")
    stopped = stop == "Yes"
    assert answer == ("" if stopped else "Yes you")
    assert packets[-1]["stats"]["stopReason"] == ("stopStringFound" if stopped else "eosFound")


@pytest.mark.parametrize(("budget", "thought"), [(2, " hm hmm"), (0, "")])
async def test_thinking_ends_when_its_budget_is_used_up(client: RawClient, budget: int, thought: str) -> None:
    packets = await ask(client, "ponder", {"reasoning.budgetTokens": checked(budget)})
    pieces = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    assert "".join(piece["content"] for piece in pieces if piece["reasoningType"] == "reasoning") == thought
    assert "".join(piece["content"] for piece in pieces if piece["reasoningType"] == "none") == "Answer"


async def test_the_reasoning_budget_message_is_a_setting_of_the_load(models: Path) -> None:
    message = {"llm.load.llama.reasoningBudgetMessage": " Enough!", "llm.load.contextLength": 512}
    async with EmbeddedServer(models, threads=1) as server, connected(server) as client:
        await client.load("ponder", loadConfigStack=stack(message))
        config = await client.call("getLoadConfig", {"specifier": query("ponder")})
        assert {"key": "llm.load.llama.reasoningBudgetMessage", "value": " Enough!"} in config["fields"]
        packets = await ask(client, "ponder", {"reasoning.budgetTokens": checked(2)})
    pieces = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    thought = "".join(piece["content"] for piece in pieces if piece["reasoningType"] == "reasoning")
    assert thought == " hm hmm Enough!"
    assert "".join(piece["content"] for piece in pieces if piece["reasoningType"] == "none") == "Answer"


# -- tools


async def test_a_tool_call_is_streamed_in_its_parts(client: RawClient) -> None:
    packets = await ask(client, "tools", TOOLS, user("1+2?"))
    assert text_of(packets).strip() == "Let me"
    kinds = [packet["type"] for packet in packets if packet["type"].startswith("toolCall")]
    assert kinds[:2] == ["toolCallGenerationStart", "toolCallGenerationNameReceived"]
    assert set(kinds[2:-1]) == {"toolCallGenerationArgumentFragmentGenerated"}
    assert kinds[-1] == "toolCallGenerationEnd"
    pieces = [packet["content"] for packet in packets if packet["type"].endswith("FragmentGenerated")]
    end = next(packet for packet in packets if packet["type"] == "toolCallGenerationEnd")
    request = end["toolCallRequest"]
    assert json.loads("".join(pieces)) == request["arguments"] == {"a": 1, "b": 2}
    assert (request["name"], request["type"]) == ("add", "function")
    assert request["id"] == next(p for p in packets if p["type"] == "toolCallGenerationStart")["toolCallId"]
    assert packets[-1]["stats"]["stopReason"] == "toolCalls"
    assert set(packets[-1]["stats"]) == STATS_MEMBERS


async def test_the_result_of_a_tool_goes_back_to_the_model(client: RawClient) -> None:
    call = {"id": "c1", "type": "function", "name": "add", "arguments": {"a": 1, "b": 2}}
    result = {"role": "tool", "content": [{"type": "toolCallResult", "content": "3", "toolCallId": "c1"}]}
    asked = message("assistant", "", {"type": "toolCallRequest", "toolCallRequest": call})
    packets = await ask(client, "tools", TOOLS, user("1+2?"), asked, result)
    assert text_of(packets) == "The sum is 3."
    assert packets[-1]["stats"]["stopReason"] == "eosFound"
    parameter = {
        "specifier": query("tools"),
        "history": {"messages": [user("1+2?"), asked, result]},
        "predictionConfigStack": stack(),
        "opts": {"toolDefinitions": [ADD]},
    }
    formatted = (await client.call("applyPromptTemplate", parameter))["formatted"]
    assert "Add two numbers" in formatted
    assert '{"name": "add", "arguments": {"a": 1, "b": 2}}' in formatted
    assert "<tool_response>\n3" in formatted


async def test_a_renamed_tool_is_reported_by_the_name_of_the_client(client: RawClient) -> None:
    # The model receives the name "add", and calls it.
    tool = {"type": "function", "function": {**ADD["function"], "name": "Add"}}
    config = {"tools": {"type": "toolArray", "tools": [tool]}, "toolNaming": "snakeCase"}
    packets = await ask(client, "tools", config)
    end = next(packet for packet in packets if packet["type"] == "toolCallGenerationEnd")
    assert end["toolCallRequest"]["name"] == "Add"


async def test_an_unfinished_tool_call_is_reported_as_failed(client: RawClient) -> None:
    config = {**TOOLS, "maxPredictedTokens": checked(3)}
    packets = await ask(client, "tools", config)
    failed = next(packet for packet in packets if packet["type"] == "toolCallGenerationFailed")
    assert "add" in failed["error"]["title"]
    assert packets[-1]["stats"]["stopReason"] == "maxPredictedTokensReached"


@pytest.mark.parametrize("family", INVENTED)
async def test_a_call_of_an_unknown_tool_fails_and_the_answer_succeeds(
    client: RawClient, family: str
) -> None:
    packets = await ask(client, family, TOOLS)
    kinds = [packet["type"] for packet in packets if packet["type"].startswith("toolCall")]
    assert kinds == ["toolCallGenerationStart", "toolCallGenerationFailed"]
    failed = next(packet for packet in packets if packet["type"] == "toolCallGenerationFailed")
    assert failed["rawContent"] == "".join(INVENTED[family][1])
    assert "none of the tools" in failed["error"]["title"]
    stats = packets[-1]["stats"]
    assert (stats["stopReason"], text_of(packets)) == ("eosFound", "")
    assert stats["predictedTokensCount"] >= len(INVENTED[family][1])


async def test_act_passes_a_failed_call_to_its_handler(models: Path) -> None:
    received: list[tuple[str, object]] = []

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async with lms.AsyncClient(EmbeddedServer(models, threads=1)) as client:
        model = await client.llm.load_new_instance("hermes")
        with pytest.raises(lms.LMStudioPredictionError, match="none of the tools"):
            await model.act(
                "1+2?",
                [add],
                handle_invalid_tool_request=lambda error, request: received.append((str(error), request)),
            )
    ((message, request),) = received
    assert "none of the tools" in message
    assert request is None


async def test_max_tokens_limits_a_call_that_fails(client: RawClient) -> None:
    packets = await ask(client, "babbler", {**TOOLS, "maxPredictedTokens": checked(3)})
    assert packets[-1]["stats"]["stopReason"] == "maxPredictedTokensReached"
    failed = next(packet for packet in packets if packet["type"] == "toolCallGenerationFailed")
    assert failed["rawContent"].startswith("<tool_call>")


async def test_an_answer_can_be_cancelled_during_a_call_that_fails(client: RawClient) -> None:
    channel = await begin(client, "babbler", TOOLS)
    while (packet := await client.packet(channel)) is not None and packet["progress"] < 1:
        pass
    await client.cancel(channel)
    packets = await client.packets(channel)
    assert packets[-1]["stats"]["stopReason"] in ("userStopped", "contextLengthReached")


async def test_no_tool_is_called_if_tool_choice_is_none(client: RawClient) -> None:
    config = {**TOOLS, "toolChoice": {"type": "generic", "mode": "none"}}
    packets = await ask(client, "tools", config)
    assert not [packet for packet in packets if packet["type"].startswith("toolCall")]
    assert "<tool_call>" in text_of(packets)


async def test_a_stop_string_ends_an_answer_with_tools_too(client: RawClient) -> None:
    config = {**TOOLS, "stopStrings": ["t m"]}
    packets = await ask(client, "tools", config)
    assert text_of(packets) == "Le"
    assert packets[-1]["stats"]["stopReason"] == "stopStringFound"
    assert packets[-1]["stats"]["stopString"] == "t m"


@pytest.mark.parametrize("name", ["systemPrompt", "tools"])
async def test_raw_text_with_a_setting_of_chats_is_refused(client: RawClient, name: str) -> None:
    await need(client, "tools")
    values = {"systemPrompt": "Be kind.", **TOOLS}
    creation = {
        "modelSpecifier": query("tools"),
        "rawPrompt": "Say ",
        "predictionConfigStack": stack({PREFIX + name: values[name]}),
    }
    with pytest.raises(Refused, match=name):
        await client.packets(await client.open("completeRawText", creation))

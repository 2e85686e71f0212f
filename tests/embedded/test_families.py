"""Model families that mark their reasoning in an unusual way, or whose chat templates accept fewer chats."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstudio_async.testing import HERMES, ModelsFolder
from lmstudio_async.testing._chat_templates import GEMMA, HARMONY, MAGISTRAL
from tests.embedded.conftest import new_server
from tests.embedded.raw_client import Json, RawClient, Refused, query, stack, text_of
from tests.embedded.raw_predictions import ask, message, need, user

ORDINARY, STEERING, OWN = 1, 3, 4
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
TOOLS = {"tools": {"type": "toolArray", "tools": [TOOL]}}


server = pytest.fixture(new_server, scope="module")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))

    def add(name: str, template: str, script: list[str], kinds: list[int], then: list[list[str]]) -> None:
        types = [ORDINARY] * 256 + [STEERING] * (3 + len(then)) + kinds
        metadata = {"tokenizer.ggml.token_type": types}
        path = f"acme/{name}-GGUF/{name}-Q8_0.gguf"
        folder.add_llm(path, script=script, then=then, chat_template=template, metadata=metadata)

    s, o = STEERING, ORDINARY
    add(
        "gpt-oss",
        HARMONY,
        [
            *("<|channel|>", "analysis", "<|message|>", "Hm hm", "<|end|>"),
            # These marks have to be one token, because a script can contain each token only once.
            *("<|start|>assistant<|channel|>final<|message|>", "Hello", "<|return|>"),
        ],
        [s, o, s, o, s, OWN, o, s, s],
        # The engine recognizes the family only if the vocabulary has this token too.
        [["<|call|>"]],
    )
    add(
        "caller",
        HARMONY,
        [
            "<|channel|>",
            "commentary to=functions.add ",
            "<|constrain|>",
            "json",
            "<|message|>",
            '{"a": ',
            "1}",
            "<|call|>",
        ],
        [s, o, s, o, s, o, o, s, s],
        [["<|return|>"]],
    )
    add(
        "deluded",
        HARMONY,
        [
            "<|channel|>",
            "analysis",
            "<|message|>",
            "Hm",
            "<|end|>",
            "<|start|>assistant to=functions.add",
            "<|constrain|>",
            '{"a": 1}',
            "<|call|>",
        ],
        [s, o, s, o, s, OWN, s, o, s, s],
        [["<|return|>"]],
    )
    thoughts = ["[THINK]", "Hm hm", "[/THINK]", "Hello"]
    add("magistral", MAGISTRAL, thoughts, [s, o, s, o], [])
    add("marked", HERMES, thoughts, [s, o, s, o], [])
    folder.add_llm("acme/gemma-GGUF/gemma-Q8_0.gguf", script="Hello", chat_template=GEMMA)
    return folder.folder


def pieces(packets: list[Json]) -> list[tuple[str, str]]:
    found = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    return [(fragment["reasoningType"], fragment["content"]) for fragment in found]


@pytest.mark.parametrize("config", [{}, TOOLS], ids=["plain", "tools"])
async def test_reasoning_in_a_channel_is_separated_from_the_answer(client: RawClient, config: Json) -> None:
    packets = await ask(client, "gpt-oss", config)
    assert pieces(packets) == [
        ("reasoningStartTag", "<think>"),
        ("reasoning", "Hm hm"),
        ("reasoningEndTag", "</think>"),
        ("none", "Hello"),
    ]
    assert packets[-1]["stats"]["stopReason"] == "eosFound"


async def test_a_model_with_channels_calls_tools(client: RawClient) -> None:
    packets = await ask(client, "caller", TOOLS)
    (end,) = (packet for packet in packets if packet["type"] == "toolCallGenerationEnd")
    assert (end["toolCallRequest"]["name"], end["toolCallRequest"]["arguments"]) == ("add", {"a": 1})
    assert packets[-1]["stats"]["stopReason"] == "toolCalls"


async def test_a_call_without_any_tools_fails_and_keeps_the_reasoning_before_it(
    client: RawClient,
) -> None:
    packets = await ask(client, "deluded")
    assert ("reasoning", "Hm") in pieces(packets)
    assert packets[-1]["stats"]["stopReason"] == "failed"


async def test_reasoning_tags_of_a_known_template_need_no_config(client: RawClient) -> None:
    packets = await ask(client, "magistral")
    assert pieces(packets) == [
        ("reasoningStartTag", "[THINK]"),
        ("reasoning", "Hm hm"),
        ("reasoningEndTag", "[/THINK]"),
        ("none", "Hello"),
    ]
    base = await client.call("getBasePredictionConfig", {"specifier": query("magistral")})
    for config in (base, packets[-1]["predictionConfig"]):
        tags = {"enabled": True, "startString": "[THINK]", "endString": "[/THINK]"}
        assert {"key": "llm.prediction.reasoning.parsing", "value": tags} in config["fields"]


async def test_reasoning_tags_that_are_control_tokens_are_found_if_the_config_names_them(
    client: RawClient,
) -> None:
    assert pieces(await ask(client, "marked")) == [("none", "Hm hm"), ("none", "Hello")]
    tags = {"enabled": True, "startString": "[THINK]", "endString": "[/THINK]"}
    found = pieces(await ask(client, "marked", {"reasoning.parsing": tags}))
    assert found[1:] == [("reasoning", "Hm hm"), ("reasoningEndTag", "[/THINK]"), ("none", "Hello")]


async def test_a_template_without_system_role_puts_the_system_prompt_before_the_user_message(
    client: RawClient,
) -> None:
    await need(client, "gemma")
    parameter = {
        "specifier": query("gemma"),
        "history": {"messages": [message("system", "Be kind."), user("hi")]},
        "predictionConfigStack": stack(),
        "opts": {"omitBosToken": True},
    }
    formatted = (await client.call("applyPromptTemplate", parameter))["formatted"]
    assert formatted == "<start_of_turn>user\nBe kind.\nhi<end_of_turn>\n<start_of_turn>model\n"


async def test_the_error_of_a_chat_template_is_passed_on(client: RawClient) -> None:
    with pytest.raises(Refused) as refused:
        await ask(client, "gemma", {}, user("hi"), user("are you there?"))
    assert str(refused.value) == (
        "The model's chat template refuses this chat: "
        "Conversation roles must alternate user/assistant/user/assistant/..."
    )
    assert text_of(await ask(client, "gemma")) == "Hello"

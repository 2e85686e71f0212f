"""Chats and prompts that are longer than the context, and what is left out of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine import Engine, EngineStream
from lmstudio_async.testing import ModelsFolder
from lmstudio_async.testing._chat_templates import GEMMA
from tests.embedded.asking import PREFIX, ask, checked, message, need, user
from tests.embedded.raw_client import Json, RawClient, Refused, connected, query, stack, text_of

POLICIES = ["truncateMiddle", "rollingWindow"]


@pytest.fixture
def server(shared_server: EmbeddedServer) -> EmbeddedServer:
    return shared_server


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", script="Hello there my friend")
    marked = {"tokenizer.ggml.add_bos_token": True}
    folder.add_llm("acme/marked-GGUF/marked-Q8_0.gguf", script="Hello there my friend", metadata=marked)
    folder.add_llm("acme/gemma-GGUF/gemma-Q8_0.gguf", script="Hello there my friend", chat_template=GEMMA)
    return folder.folder


async def prompt_of(server: EmbeddedServer, client: RawClient, key: str, policy: str, *messages: Json) -> str:
    """What the model reads of a chat."""
    async with connected(server, "diagnostics") as watcher:
        logs = await watcher.open("streamLogs")
        await watcher.silence()
        config = {"contextOverflowPolicy": policy, "maxPredictedTokens": checked(40)}
        packets = await ask(client, key, config, *messages)
        assert text_of(packets) == "Hello there my friend"
        packet = await watcher.packet(logs)
        assert packet is not None
        return str(packet["log"]["data"]["input"])


async def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(client: RawClient) -> None:
    with pytest.raises(Refused, match="context of 512"):
        await ask(client, "tiny", {}, user("word " * 300))


@pytest.mark.parametrize(
    ("policy", "kept"), [("truncateMiddle", ["first", "last"]), ("rollingWindow", ["last"])]
)
async def test_messages_are_left_out_as_the_policy_says(
    server: EmbeddedServer, client: RawClient, policy: str, kept: list[str]
) -> None:
    messages = [message("system", "rules")]
    for index in range(8):
        name = "first" if not index else "last" if index == 7 else "between"
        messages.append(message("assistant" if index % 2 and index != 7 else "user", f"{name} " + "x" * 100))
    prompt = await prompt_of(server, client, "tiny", policy, *messages)
    assert prompt.startswith("<|im_start|>system\nrules")
    assert [name for name in ("first", "last") if name in prompt] == kept
    assert prompt.count("between") < 6


@pytest.mark.parametrize("policy", POLICIES)
async def test_raw_text_that_is_too_long_is_cut_as_the_policy_says(client: RawClient, policy: str) -> None:
    await need(client, "tiny")
    creation = {
        "modelSpecifier": query("tiny"),
        "rawPrompt": "word " * 300,
        "predictionConfigStack": stack({PREFIX + "contextOverflowPolicy": policy}),
    }
    packets = await client.packets(await client.open("completeRawText", creation))
    assert text_of(packets) == "Hello there my friend"
    assert 300 < packets[-1]["stats"]["promptTokensCount"] < 512


@pytest.mark.parametrize("policy", POLICIES)
async def test_raw_text_that_is_cut_still_begins_as_the_model_wants_it(
    client: RawClient, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[list[int]] = []
    complete = Engine.complete

    def noted(engine: Engine, body: Mapping[str, Any]) -> EngineStream:
        prompts.append(body["prompt"])
        return complete(engine, body)

    monkeypatch.setattr(Engine, "complete", noted)
    await need(client, "marked")
    creation = {
        "modelSpecifier": query("marked"),
        "rawPrompt": "word " * 300,
        "predictionConfigStack": stack({PREFIX + "contextOverflowPolicy": policy}),
    }
    await client.packets(await client.open("completeRawText", creation))
    ((first, *others),) = prompts
    end_of_text = 256
    assert first == end_of_text
    assert end_of_text not in others


@pytest.mark.parametrize("policy", POLICIES)
async def test_user_and_assistant_go_on_taking_turns(
    server: EmbeddedServer, client: RawClient, policy: str
) -> None:
    # The template of this model refuses a chat in which they do not.
    chat = [
        message("assistant" if index % 2 else "user", f"message {index} " + "x" * 60) for index in range(21)
    ]
    prompt = await prompt_of(server, client, "gemma", policy, *chat)
    assert ("message 0 " in prompt) == (policy == "truncateMiddle")
    assert "message 20 " in prompt


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_message_that_is_too_long_by_itself_is_cut_as_the_policy_says(
    server: EmbeddedServer, client: RawClient, policy: str
) -> None:
    chat = [message("system", "rules"), user("begun " + "x" * 3000 + " ended")]
    prompt = await prompt_of(server, client, "tiny", policy, *chat)
    assert prompt.startswith("<|im_start|>system\nrules<|im_end|>")
    assert ("begun" in prompt) == (policy == "truncateMiddle")
    assert " ended<|im_end|>" in prompt
    # No more is left out than has to be: 512 tokens, 40 of them for the answer.
    assert prompt.count("x") > 400


async def test_what_is_said_to_the_system_is_never_cut(client: RawClient) -> None:
    with pytest.raises(Refused, match="context of 512"):
        await ask(
            client,
            "tiny",
            {"contextOverflowPolicy": "truncateMiddle"},
            message("system", "rules " * 200),
            user("hi"),
        )


async def test_a_very_long_chat_is_not_shortened_message_by_message(
    server: EmbeddedServer, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = 0
    tokenize = Engine.tokenize

    async def counted(engine: Engine, text: str, *, add_special: bool) -> list[int]:
        nonlocal looked_at
        looked_at += 1
        return await tokenize(engine, text, add_special=add_special)

    monkeypatch.setattr(Engine, "tokenize", counted)
    chat = [message("assistant" if index % 2 else "user", f"message {index}") for index in range(1001)]
    prompt = await prompt_of(server, client, "tiny", "rollingWindow", *chat)
    assert "message 1000" in prompt
    assert looked_at < 20

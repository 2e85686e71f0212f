"""Chats and prompts that are longer than the context, and the parts that the overflow policy removes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine._engine import Engine, EngineStream
from lmstudio_async.testing import ModelsFolder
from lmstudio_async.testing._chat_templates import GEMMA
from tests.embedded.conftest import new_server
from tests.embedded.raw_client import Json, RawClient, Refused, connected, query, stack, text_of
from tests.embedded.raw_predictions import PREFIX, ask, checked, message, need, user

POLICIES = ["truncateMiddle", "rollingWindow"]


server = pytest.fixture(new_server, scope="module")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf", script="Hello there my friend")
    marked = {"tokenizer.ggml.add_bos_token": True}
    folder.add_llm("acme/marked-GGUF/marked-Q8_0.gguf", script="Hello there my friend", metadata=marked)
    folder.add_llm("acme/gemma-GGUF/gemma-Q8_0.gguf", script="Hello there my friend", chat_template=GEMMA)
    return folder.folder


async def prompt_of(server: EmbeddedServer, client: RawClient, key: str, policy: str, *messages: Json) -> str:
    """Return the prompt that the model receives for a chat."""
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
async def test_messages_are_removed_according_to_the_policy(
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
async def test_raw_text_that_is_too_long_is_truncated_according_to_the_policy(
    client: RawClient, policy: str
) -> None:
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
async def test_truncated_raw_text_has_one_bos_token(
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
async def test_user_and_assistant_messages_still_alternate(
    server: EmbeddedServer, client: RawClient, policy: str
) -> None:
    # The template of this model refuses a chat whose roles do not alternate.
    chat = [
        message("assistant" if index % 2 else "user", f"message {index} " + "x" * 60) for index in range(21)
    ]
    prompt = await prompt_of(server, client, "gemma", policy, *chat)
    assert ("message 0 " in prompt) == (policy == "truncateMiddle")
    assert "message 20 " in prompt


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_message_longer_than_the_context_is_truncated_according_to_the_policy(
    server: EmbeddedServer, client: RawClient, policy: str
) -> None:
    chat = [message("system", "rules"), user("begun " + "x" * 3000 + " ended")]
    prompt = await prompt_of(server, client, "tiny", policy, *chat)
    assert prompt.startswith("<|im_start|>system\nrules<|im_end|>")
    assert ("begun" in prompt) == (policy == "truncateMiddle")
    assert " ended<|im_end|>" in prompt
    # The server removes no more than necessary: the context has 512 tokens, 40 of them for the answer.
    assert prompt.count("x") > 400


async def test_a_system_prompt_is_never_truncated(client: RawClient) -> None:
    with pytest.raises(Refused, match="context of 512"):
        await ask(
            client,
            "tiny",
            {"contextOverflowPolicy": "truncateMiddle"},
            message("system", "rules " * 200),
            user("hi"),
        )


async def test_a_very_long_chat_is_shortened_with_few_tokenize_requests(
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

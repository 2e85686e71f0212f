"""Answers that are longer than the context, and continue because of the context overflow policy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

import lmstudio_async as lms
from lmstudio_async._config._types import ContextOverflowPolicy
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine._engine import Engine, EngineStream
from lmstudio_async.testing import THINKING, ModelsFolder
from tests.embedded.channel_model import add_with_channels
from tests.embedded.raw_client import connected, query, stack
from tests.embedded.raw_predictions import PREFIX, checked

CONTEXT = 512
POLICIES: list[ContextOverflowPolicy] = ["truncateMiddle", "rollingWindow"]
ROLLING: lms.LlmPredictionConfigDict = {"context_overflow_policy": "rollingWindow"}

#: A script longer than two contexts; each piece is one token and contains its position.
SCRIPT = [f" w{number}" for number in range(1200)]
STORY = "".join(SCRIPT)
#: Reasoning that is longer than the context, for an answer that is even longer.
THOUGHT = [f" t{number}" for number in range(600)]
#: The reasoning and the answer of a model with channels.
SPOKEN_THOUGHTS, SPOKEN_PIECES = ([each.strip() + "." for each in pieces] for pieces in (THOUGHT, SCRIPT))
SPOKEN_THOUGHT, SPOKEN = "".join(SPOKEN_THOUGHTS), "".join(SPOKEN_PIECES)
THOUGHTFUL = ["<think>", *THOUGHT, "</think>", *SCRIPT]

#: The prompt ends with the opening tag of reasoning, as in templates of models that always reason.
ALWAYS_THINKING = THINKING.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>\\n'")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("story", script=SCRIPT)
    folder.add_llm("marked", script=SCRIPT, metadata={"tokenizer.ggml.add_bos_token": True})
    folder.add_llm("endless", script="on and on ", endless=True)
    folder.add_llm("thinker", script=THOUGHTFUL, chat_template=THINKING)
    folder.add_llm("always", script=[*THOUGHT, "</think>", *SCRIPT], chat_template=ALWAYS_THINKING)
    add_with_channels(folder, "gpt-oss", thoughts=SPOKEN_THOUGHTS, answer=SPOKEN_PIECES)
    folder.add_llm("mute", script="on and on ")
    return folder.folder


@pytest.fixture(scope="module")
async def server(models: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(models, threads=1, auto_evict=False) as server:
        yield server


@pytest.fixture(scope="module")
async def client(server: EmbeddedServer) -> AsyncIterator[lms.AsyncClient]:
    async with lms.AsyncClient(server) as client:
        yield client


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


class Asked:
    """The prompts that the engine is asked to continue, and the chats that it is asked to answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prompts: list[tuple[Engine, Any]] = []
        self.chats: list[Any] = []
        complete, chat = Engine.complete, Engine.chat

        def noted_chat(engine: Engine, body: Mapping[str, Any]) -> EngineStream:
            self.chats.append(body["messages"])
            return chat(engine, body)

        def noted(engine: Engine, body: Mapping[str, Any]) -> EngineStream:
            self.prompts.append((engine, body["prompt"]))
            return complete(engine, body)

        monkeypatch.setattr(Engine, "complete", noted)
        monkeypatch.setattr(Engine, "chat", noted_chat)

    async def texts(self) -> list[str]:
        """Return the prompts as text."""
        texts = []
        for engine, prompt in self.prompts:
            parts = prompt if isinstance(prompt, list) else [prompt]
            text = "".join(part for part in parts if isinstance(part, str))
            texts.append(text + await engine.detokenize([part for part in parts if isinstance(part, int)]))
        return texts

    async def rolled(self) -> list[str]:
        """Return the prompts that lack a part of the previous one."""
        return [text for before, text in pairwise(await self.texts()) if not text.startswith(before)]


async def load(client: lms.AsyncClient, key: str) -> lms.AsyncLLM:
    """Load a model if it is not loaded."""
    return await client.llm.model(key, config={"context_length": CONTEXT}, ttl=None)


def long_chat() -> lms.Chat:
    """Return a chat with a system prompt and five questions, four of them answered."""
    chat = lms.Chat("Rules")
    for number in range(4):
        chat.add_user_message(f"question {number}")
        chat.add_assistant_response(f"reply {number}")
    chat.add_user_message("latest question")
    return chat


# -- the end of an answer


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("unified", [True, False])
async def test_an_answer_continues_beyond_the_end_of_the_context(
    client: lms.AsyncClient, policy: ContextOverflowPolicy, *, unified: bool
) -> None:
    config: lms.LlmLoadModelConfigDict = {"context_length": CONTEXT, "use_unified_kv_cache": unified}
    llm = await client.llm.load_new_instance("story", config=config)
    chatted = await llm.respond("Tell", config={"context_overflow_policy": policy})
    completed = await llm.complete("Once", config={"context_overflow_policy": policy})
    await llm.unload()
    for result in (chatted, completed):
        assert result.content == STORY
        assert result.stats.stop_reason == "eosFound"
        # The end of the answer is a token, too.
        assert result.stats.predicted_tokens_count == len(SCRIPT) + 1
    assert completed.stats.prompt_tokens_count == len("Once")


async def test_an_answer_ends_with_the_context_under_stop_at_limit(client: lms.AsyncClient) -> None:
    llm = await load(client, "story")
    result = await llm.respond("Tell", config={"context_overflow_policy": "stopAtLimit"})
    assert result.stats.stop_reason == "contextLengthReached"
    assert STORY.startswith(result.content)


@pytest.mark.parametrize("limit", [CONTEXT - 4, CONTEXT, 2 * CONTEXT + 1])
async def test_max_tokens_beyond_the_context_are_kept(client: lms.AsyncClient, limit: int) -> None:
    llm = await load(client, "story")
    result = await llm.complete("Once", config={**ROLLING, "max_tokens": limit})
    assert result.content == "".join(SCRIPT[:limit])
    assert result.stats.stop_reason == "maxPredictedTokensReached"
    assert result.stats.predicted_tokens_count == limit


@pytest.mark.parametrize("distance", [-2, -1, 0, 1, 2])
async def test_a_stop_string_is_found_where_the_window_rolls(client: lms.AsyncClient, distance: int) -> None:
    llm = await load(client, "story")
    place = CONTEXT - len("Once") + distance
    config: lms.LlmPredictionConfigDict = {**ROLLING, "stop_strings": [SCRIPT[place] + SCRIPT[place + 1]]}
    result = await llm.complete("Once", config=config)
    assert result.content == "".join(SCRIPT[:place])
    assert result.stats.stop_reason == "stopStringFound"


async def test_log_probs_have_each_token_once(client: lms.AsyncClient) -> None:
    llm = await load(client, "story")
    result = await llm.complete("Once", config={**ROLLING, "log_probs": 0})
    assert result.content == STORY
    assert [token.text for token in result.tokens or ()][: len(SCRIPT)] == SCRIPT


async def test_an_endless_answer_continues_until_it_is_cancelled(
    client: lms.AsyncClient, asked: Asked
) -> None:
    llm = await load(client, "endless")
    answered = 0
    async with llm.respond_stream("Go", config=ROLLING) as stream:
        async for fragment in stream:
            answered += fragment.tokens_count
            if answered > 6 * CONTEXT:
                await stream.cancel()
    assert stream.result().stats.stop_reason == "userStopped"
    prompts = [prompt for _, prompt in asked.prompts[1:]]
    # The server keeps only as much of the answer as fits, and moves the window by a large part of the context.
    assert max(map(len, prompts)) <= CONTEXT
    assert len(await asked.rolled()) <= answered // (CONTEXT // 3)


async def test_an_answer_under_a_grammar_ends_with_the_context(client: lms.AsyncClient) -> None:
    llm = await load(client, "endless")
    grammar: lms.LlmPredictionConfigDict = {"structured": {"type": "gbnf", "gbnf_grammar": "root ::= [^~]*"}}
    result = await llm.complete("Once", config={**ROLLING, **grammar})
    assert result.stats.stop_reason == "contextLengthReached"


@pytest.mark.parametrize("policy", [*POLICIES, "stopAtLimit"])
async def test_an_answer_without_a_whole_character_ends_with_the_context(
    server: EmbeddedServer, policy: ContextOverflowPolicy
) -> None:
    async with connected(server) as raw:
        await raw.load("mute", loadConfigStack=stack({"llm.load.contextLength": CONTEXT}))
        config = {
            PREFIX + "contextOverflowPolicy": policy,
            PREFIX + "maxPredictedTokens": checked(2 * CONTEXT),
            # The first byte of a character of three bytes.
            PREFIX + "llama.logitBias": [[0xE4, 100_000]],
        }
        creation = {
            "modelSpecifier": query("mute"),
            "rawPrompt": "Once",
            "predictionConfigStack": stack(config),
        }
        with anyio.fail_after(30):
            packets = await raw.packets(await raw.open("completeRawText", creation))
    assert packets[-1]["stats"]["stopReason"] == "contextLengthReached"


# -- the content of the window


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_chat_loses_old_messages_before_it_loses_the_answer(
    client: lms.AsyncClient, asked: Asked, policy: ContextOverflowPolicy
) -> None:
    llm = await load(client, "story")
    result = await llm.respond(long_chat(), config={"context_overflow_policy": policy})
    assert result.content == STORY
    rolled = await asked.rolled()
    assert len(rolled) > 2
    for text in rolled:
        assert text.startswith("<|im_start|>system\nRules<|im_end|>")
        assert "latest question<|im_end|>\n<|im_start|>assistant\n" in text
        assert ("question 0" in text) == (policy == "truncateMiddle")
        assert "question 3" not in text
        # The kept part of the answer ends where the model continues.
        _, _, answered = text.rpartition("assistant\n")
        assert answered.endswith(tuple(SCRIPT))
        assert answered in STORY
        assert len(answered.split()) > CONTEXT // 5


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_message_that_fills_the_context_loses_a_part_too(
    client: lms.AsyncClient, asked: Asked, policy: ContextOverflowPolicy
) -> None:
    llm = await load(client, "story")
    prompt = "begun " + "x" * 300 + " ended"
    result = await llm.respond(prompt, config={"context_overflow_policy": policy})
    assert result.content == STORY
    rolled = await asked.rolled()
    assert len(rolled) > 2
    for text in rolled:
        assert "ended<|im_end|>\n<|im_start|>assistant\n" in text
        assert ("begun" in text) == (policy == "truncateMiddle")


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_raw_prompt_loses_its_oldest_part_or_its_middle(
    client: lms.AsyncClient, asked: Asked, policy: ContextOverflowPolicy
) -> None:
    llm = await load(client, "marked")
    result = await llm.complete("begun " + "x" * 200, config={"context_overflow_policy": policy})
    assert result.content == STORY
    rolled = await asked.rolled()
    assert len(rolled) > 2
    for text in rolled:
        # This model has a BOS token.
        assert text.startswith("<|endoftext|>begun x" if policy == "truncateMiddle" else "<|endoftext|>")
        assert ("begun" in text) == (policy == "truncateMiddle")
        assert text.count("<|endoftext|>") == 1


async def test_a_system_prompt_that_fills_the_context_ends_the_answer(client: lms.AsyncClient) -> None:
    llm = await load(client, "story")
    chat = lms.Chat("x" * (CONTEXT - 80))
    chat.add_user_message("Go")
    result = await llm.respond(chat, config=ROLLING)
    assert result.stats.stop_reason == "contextLengthReached"
    assert STORY.startswith(result.content)


# -- reasoning


@pytest.mark.parametrize("key", ["thinker", "always"])
async def test_reasoning_longer_than_the_context_stays_separated(
    client: lms.AsyncClient, asked: Asked, key: str
) -> None:
    llm = await load(client, key)
    result = await llm.respond("Go", config=ROLLING)
    assert result.reasoning_content == "".join(THOUGHT)
    assert result.non_reasoning_content == STORY
    # Without the tags the model could not tell whether its reasoning has ended.
    rolled = await asked.rolled()
    assert len(rolled) > 4
    for text in rolled:
        _, _, answered = text.rpartition("assistant\n")
        thinks = answered.rfind("<think>") > answered.rfind("</think>")
        assert thinks == (answered.split()[-1].rpartition(">")[2].startswith("t"))


# -- chats whose answers the engine parses


async def test_an_answer_of_a_model_with_channels_continues_beyond_the_context(
    client: lms.AsyncClient, asked: Asked
) -> None:
    llm = await load(client, "gpt-oss")
    result = await llm.respond(long_chat(), config=ROLLING)
    assert (result.reasoning_content, result.non_reasoning_content) == (SPOKEN_THOUGHT, SPOKEN)
    assert result.stats.stop_reason == "eosFound"
    # The two headers and the end are tokens, too.
    assert result.stats.predicted_tokens_count == len(THOUGHT) + len(SCRIPT) + 3
    *_, last = asked.chats
    assert [message["role"] for message in last] == ["system", "user", "assistant"]
    assert last[1]["content"] == "latest question"
    assert "reasoning_content" not in last[2]
    assert SPOKEN.rpartition(last[2]["content"])[1]


async def test_max_tokens_of_a_model_with_channels_are_kept(client: lms.AsyncClient) -> None:
    llm = await load(client, "gpt-oss")
    limit = len(THOUGHT) + 2 + CONTEXT
    result = await llm.respond("Go", config={**ROLLING, "max_tokens": limit})
    assert result.reasoning_content == SPOKEN_THOUGHT
    assert result.non_reasoning_content == "".join(SPOKEN_PIECES[:CONTEXT])
    assert result.stats.stop_reason == "maxPredictedTokensReached"
    assert result.stats.predicted_tokens_count == limit


async def test_log_probs_of_a_model_with_channels_have_each_token_once(client: lms.AsyncClient) -> None:
    llm = await load(client, "gpt-oss")
    result = await llm.respond("Go", config={**ROLLING, "log_probs": 0})
    assert result.non_reasoning_content == SPOKEN
    texts = [token.text for token in result.tokens if token.text.startswith(("t", "w"))]
    assert texts == SPOKEN_THOUGHTS + SPOKEN_PIECES


async def test_a_model_with_channels_ends_with_the_context_by_default(client: lms.AsyncClient) -> None:
    llm = await load(client, "gpt-oss")
    result = await llm.respond("Go")
    assert result.stats.stop_reason == "contextLengthReached"
    assert SPOKEN_THOUGHT.startswith(result.reasoning_content)
    assert len(result.reasoning_content.split(".")) > CONTEXT // 2


async def test_an_answer_that_the_client_has_begun_is_not_repeated(client: lms.AsyncClient) -> None:
    llm = await load(client, "gpt-oss")
    chat = lms.Chat()
    chat.add_user_message("Go")
    chat.add_assistant_response("w0.")
    result = await llm.respond(chat, config=ROLLING)
    assert result.stats.stop_reason == "contextLengthReached"
    assert SPOKEN.startswith("w0." + result.content)

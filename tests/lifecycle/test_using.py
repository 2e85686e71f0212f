"""Using loaded instances: answers, completions, tokens and vectors, sequentially and concurrently."""

from __future__ import annotations

import math

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncEmbeddingModel,
    AsyncLLM,
    LMStudioCancelledError,
    LMStudioValueError,
)
from tests.lifecycle.conftest import ROOM, in_process

LLAMA = "llama-3.2-1b-instruct"
SCRIPT = "Forty-two, as everybody knows."
QUESTION = "What is the meaning of life?"


@pytest.fixture
async def llm(client: AsyncClient) -> AsyncLLM:
    return await client.llm.load_new_instance(LLAMA)


@pytest.fixture
async def talker(client: AsyncClient) -> AsyncLLM:
    return await client.llm.load_new_instance("talker", config=ROOM)


@pytest.fixture
async def embedding(client: AsyncClient) -> AsyncEmbeddingModel:
    return await client.embedding.model("text-embedding-nomic-embed-text-v1.5")


# -- answers


@in_process
@pytest.mark.parametrize(
    "chat",
    [
        QUESTION,
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
        {"messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]},
    ],
    ids=["text", "messages", "dict"],
)
async def test_a_chat_is_answered(llm: AsyncLLM, chat: str) -> None:
    result = await llm.respond(chat)

    assert str(result) == result.content == SCRIPT
    assert result.stats.stop_reason == "eosFound"
    assert result.stats.predicted_tokens_count
    assert result.model_info.identifier == LLAMA
    assert result.load_config.context_length == llm.info.context_length


async def test_an_answer_comes_in_fragments(llm: AsyncLLM) -> None:
    async with llm.respond_stream(QUESTION) as stream:
        fragments = [fragment.content async for fragment in stream]
        result = await stream.wait_for_result()

    assert "".join(fragments) == result.content == stream.content == SCRIPT
    assert len(fragments) > 1
    assert stream.stats == result.stats


@in_process
async def test_an_answer_can_be_iterated_over_without_a_block(llm: AsyncLLM) -> None:
    assert "".join([fragment.content async for fragment in llm.respond_stream(QUESTION)]) == SCRIPT


@in_process
async def test_max_tokens_limits_an_answer(talker: AsyncLLM) -> None:
    result = await talker.respond("Go", config={"max_tokens": 5})

    assert result.stats.stop_reason == "maxPredictedTokensReached"
    assert result.stats.predicted_tokens_count == 5
    assert result.prediction_config.max_tokens == 5


@in_process
async def test_a_text_is_completed(llm: AsyncLLM) -> None:
    result = await llm.complete("The answer:", config={"stop_strings": [", as"]})

    assert result.content == "Forty-two"
    assert (result.stats.stop_reason, result.stats.stop_string) == ("stopStringFound", ", as")


@in_process
async def test_a_completion_comes_in_fragments(llm: AsyncLLM) -> None:
    async with llm.complete_stream("The answer:") as stream:
        assert "".join([fragment.content async for fragment in stream]) == SCRIPT


async def test_a_cancelled_answer_keeps_the_content_so_far(talker: AsyncLLM) -> None:
    async with talker.respond_stream("Go") as stream:
        first = await anext(stream)
        await stream.cancel()
        result = await stream.wait_for_result()

    assert result.stats.stop_reason == "userStopped"
    assert result.content.startswith(first.content)


async def test_leaving_the_block_of_an_answer_cancels_it_and_keeps_the_instance(talker: AsyncLLM) -> None:
    async with talker.respond_stream("Go") as stream:
        await anext(stream)

    with pytest.raises(LMStudioCancelledError):
        stream.result()
    assert (await talker.respond("Go", config={"max_tokens": 2})).stats.predicted_tokens_count == 2


async def test_a_timeout_stops_an_answer(talker: AsyncLLM) -> None:
    with anyio.move_on_after(20) as scope:
        async for _ in talker.respond_stream("Go"):
            scope.deadline = anyio.current_time()

    assert scope.cancelled_caught
    assert (await talker.respond("Go", config={"max_tokens": 2})).stats.predicted_tokens_count == 2


@in_process
async def test_two_instances_answer_concurrently(client: AsyncClient, talker: AsyncLLM) -> None:
    another = await client.llm.load_new_instance(LLAMA)
    async with talker.respond_stream("Go") as stream:
        await anext(stream)
        assert str(await another.respond(QUESTION)) == SCRIPT
        await anext(stream)


# -- tokens and vectors


@in_process
async def test_count_tokens_agrees_with_tokenize(llm: AsyncLLM) -> None:
    tokens = await llm.tokenize("Hello, world!")

    assert tokens
    assert all(isinstance(token, int) for token in tokens)
    assert await llm.count_tokens("Hello, world!") == len(tokens)
    assert await llm.tokenize(["Hello, world!", "Hello"]) == [tokens, await llm.tokenize("Hello")]
    assert await llm.tokenize([]) == []


@in_process
async def test_a_text_has_a_vector(embedding: AsyncEmbeddingModel) -> None:
    vector = await embedding.embed("Hello, world!")

    assert len(vector) == 16
    assert math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-3)


async def test_embed_returns_the_vectors_in_the_order_of_the_texts(embedding: AsyncEmbeddingModel) -> None:
    first, second, third = await embedding.embed(("one", "two", "one"))

    assert first == pytest.approx(third, abs=1e-5)
    assert first == pytest.approx(await embedding.embed("one"), abs=1e-5)
    assert second == pytest.approx(await embedding.embed("two"), abs=1e-5)
    assert first != pytest.approx(second, abs=1e-2)
    assert await embedding.embed([]) == []


@in_process
async def test_count_tokens_of_an_embedding_model_omits_the_two_special_tokens(
    embedding: AsyncEmbeddingModel,
) -> None:
    assert await embedding.count_tokens("abc") == len(await embedding.tokenize("abc")) - 2 == 3


async def test_batches_of_hundreds_of_texts_come_back_in_order(embedding: AsyncEmbeddingModel) -> None:
    texts = [f"text number {n}" for n in range(200)]

    vectors = await embedding.embed(text for text in texts)
    tokens = await embedding.tokenize(texts)

    assert len(vectors) == len(tokens) == 200
    assert len({tuple(vector) for vector in vectors}) == 200
    for n in (0, 77, 199):
        assert vectors[n] == pytest.approx(await embedding.embed(texts[n]), abs=1e-5)
        assert tokens[n] == await embedding.tokenize(texts[n])


@in_process
@pytest.mark.parametrize("texts", [5, [b"bytes"], ["fine", None]])
async def test_embed_and_tokenize_refuse_inputs_other_than_texts(
    embedding: AsyncEmbeddingModel, texts: object
) -> None:
    for method in (embedding.embed, embedding.tokenize):
        with pytest.raises(LMStudioValueError, match="input must be"):
            await method(texts)  # type: ignore[call-overload]

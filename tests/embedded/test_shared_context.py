"""Simultaneous predictions share the context of their instance, and none shortens the answer of another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmstudio_async as lms
from lmstudio_async import LlmPredictionConfigDict
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine._engine import Engine, EngineStream
from lmstudio_async.testing import ModelsFolder
from tests.embedded.channel_model import add_with_channels
from tests.embedded.raw_predictions import ENDLESS
from tests.soak import bounded

Question = tuple[str, LlmPredictionConfigDict]
Ending = tuple[str, str]

#: An answer longer than a quarter of the context, so that a prediction without a limit outgrows its share.
SCRIPT = [f" w{number}" for number in range(250)]
#: An answer longer than the context.
STORY = [f" w{number}" for number in range(1200)]

#: The reasoning and the answer of a model with channels.
THOUGHTS, ANSWER = [f"t{number}." for number in range(100)], [f"w{number}." for number in range(200)]

ROLLING: LlmPredictionConfigDict = {"context_overflow_policy": "rollingWindow"}

#: A grammar that allows any text without a tilde. The engine cannot continue a part of an answer under a grammar.
HELD: LlmPredictionConfigDict = {"structured": {"type": "gbnf", "gbnf_grammar": "root ::= [^~]*"}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("talk", script=SCRIPT)
    folder.add_llm("story", script=STORY)
    add_with_channels(folder, "gpt-oss", thoughts=THOUGHTS, answer=ANSWER)
    folder.add_llm("endless", script="on and on ", endless=True)
    folder.add_llm("long", script="on and on ", endless=True, context_length=ENDLESS)
    return folder.folder


@pytest.fixture(scope="module")
async def client(models: Path) -> AsyncIterator[lms.AsyncClient]:
    async with (
        EmbeddedServer(models, threads=1, auto_evict=False) as server,
        lms.AsyncClient(server) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def alone() -> Alone:
    return Alone()


class Alone:
    """The answers to questions when nothing else runs. Each question is asked once."""

    def __init__(self) -> None:
        self._endings: dict[str, Ending] = {}

    async def __call__(self, llm: lms.AsyncLLM, question: Question) -> Ending:
        if repr(question) not in self._endings:
            [self._endings[repr(question)]] = await at_once(llm, question)
        return self._endings[repr(question)]


async def load(client: lms.AsyncClient, key: str, context_length: int = 512) -> lms.AsyncLLM:
    """Load a model if it is not loaded."""
    return await client.llm.model(key, config={"context_length": context_length}, ttl=None)


async def at_once(llm: lms.AsyncLLM, *questions: Question) -> list[Ending]:
    """Ask all questions at once, and return the answers with their stop reasons."""
    endings: dict[int, Ending] = {}

    async def ask(number: int, prompt: str, config: LlmPredictionConfigDict) -> None:
        result = await llm.complete(prompt, config=config)
        endings[number] = result.content, result.stats.stop_reason

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number, (prompt, config) in enumerate(questions):
                tasks.start_soon(ask, number, prompt, config)
    return [endings[number] for number in range(len(questions))]


async def wait_until_queued(llm: lms.AsyncLLM, count: int) -> None:
    with anyio.fail_after(30):
        while (await llm.get_processing_state()).queued != count:
            pass


async def test_two_long_requests_both_get_their_whole_answers(client: lms.AsyncClient) -> None:
    llm = await load(client, "endless")
    question: Question = ("x" * 300, {"max_tokens": 120})
    first, second = await at_once(llm, question, question)
    assert first == second
    assert first[1] == "maxPredictedTokensReached"
    assert len(first[0].split()) >= 120


async def test_two_endless_answers_both_reach_the_end_of_the_context(client: lms.AsyncClient) -> None:
    llm = await load(client, "endless")
    (first, why), (second, _) = await at_once(llm, ("x" * 50, {}), ("x" * 50, {}))
    assert first == second
    assert why == "contextLengthReached"
    assert len(first.split()) > 400


@pytest.mark.parametrize("count", [2, 3, 4])
async def test_simultaneous_answers_beyond_the_context_are_all_complete(
    client: lms.AsyncClient, count: int
) -> None:
    llm = await load(client, "story")
    questions: list[Question] = [("x" * length, ROLLING) for length in (1, 100, 200, 300)[:count]]
    assert await at_once(llm, *questions) == [("".join(STORY), "eosFound")] * count


async def test_an_endless_answer_does_not_block_other_requests(client: lms.AsyncClient) -> None:
    llm = await load(client, "endless")
    # Each of the other requests needs the whole context.
    async with llm.complete_stream("x", config=ROLLING) as endless, anyio.create_task_group() as tasks:
        await endless.__anext__()
        tasks.start_soon(endless.wait_for_result)
        first, second = await at_once(llm, ("x", HELD), ("x" * 50, {}))
        await endless.cancel()
    assert first[1] == second[1] == "contextLengthReached"
    assert endless.result().stats.stop_reason == "userStopped"


@pytest.mark.parametrize("config", [{}, ROLLING])
@pytest.mark.parametrize("count", [1, 2, 4])
async def test_chats_with_a_model_with_channels_take_a_share(
    client: lms.AsyncClient,
    config: LlmPredictionConfigDict,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[int | None] = []
    chat = Engine.chat

    def noted(engine: Engine, body: Mapping[str, Any]) -> EngineStream:
        limits.append(body.get("n_predict"))
        return chat(engine, body)

    monkeypatch.setattr(Engine, "chat", noted)
    llm = await load(client, "gpt-oss")
    results: list[lms.PredictionResult] = []

    async def ask(number: int) -> None:
        results.append(await llm.respond("x" * 20 * number, config=config))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(ask, number)
    for result in results:
        assert (result.reasoning_content, result.non_reasoning_content) == (
            "".join(THOUGHTS),
            "".join(ANSWER),
        )
        assert result.stats.stop_reason == "eosFound"
        # The two headers and the end are tokens, too.
        assert result.stats.predicted_tokens_count == len(THOUGHTS) + len(ANSWER) + 3
    # The first request takes a share of the context, and requests more tokens when it has used its share up.
    first = limits[0]
    assert first is not None
    assert first < 512 // 2
    assert len(limits) > count


async def test_a_request_that_does_not_fit_is_queued_and_can_be_cancelled(client: lms.AsyncClient) -> None:
    llm = await load(client, "long", ENDLESS)
    async with llm.complete_stream("x", config=HELD) as running:
        await running.__anext__()
        async with llm.complete_stream("x", config=HELD) as waiting, anyio.create_task_group() as tasks:
            tasks.start_soon(waiting.wait_for_result)
            await wait_until_queued(llm, 1)
            await waiting.cancel()
        assert waiting.result().stats.stop_reason == "userStopped"
        await wait_until_queued(llm, 0)
        await running.cancel()


async def test_unloading_ends_a_queued_request(client: lms.AsyncClient) -> None:
    llm = await client.llm.load_new_instance("long", "to unload", config={"context_length": ENDLESS})
    reasons = []

    async def ask() -> None:
        reasons.append((await llm.complete("x", config=HELD)).stats.stop_reason)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        await wait_until_queued(llm, 1)
        await llm.unload()
    assert reasons == ["modelUnloaded"] * 2


lengths = st.sampled_from([1, 40, 100, 200, 350, 480])
configs = st.sampled_from(
    [
        {},
        {"max_tokens": 20},
        {"max_tokens": 150},
        {"max_tokens": 600},
        {"stop_strings": [" w60 w61"]},
        HELD,
        ROLLING,
        {**ROLLING, "max_tokens": 600},
        {"context_overflow_policy": "truncateMiddle"},
    ]
)


@given(questions=st.lists(st.tuples(lengths.map("x".__mul__), configs), min_size=2, max_size=8))
@bounded(8)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_simultaneous_requests_have_the_same_answers_as_lone_requests(
    client: lms.AsyncClient, alone: Alone, questions: list[Question]
) -> None:
    llm = await load(client, "talk")
    answers = await at_once(llm, *questions)
    assert answers == [await alone(llm, question) for question in questions]

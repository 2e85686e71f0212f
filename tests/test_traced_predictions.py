"""Spans of predictions, with the in-memory exporter of OpenTelemetry."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from lmstudio_async import (
    AsyncClient,
    Chat,
    EmbeddedServer,
    LMStudioError,
    LMStudioStructuredOutputError,
    LMStudioTimeoutError,
)
from lmstudio_async.testing import HERMES, ModelsFolder, tool_call
from tests.clock import let_pass
from tests.scripted_server import INSTANCE, ScriptedServer, loaded_llm, until
from tests.spans import Spans, attributes, collected, texts

QWEN = "qwen3-4b"
NOMIC = "text-embedding-nomic"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm(QWEN, script="SECRET-ANSWER, as they say.")
    script = tool_call("look_up", word="SECRET-ARGUMENT")
    folder.add_llm("tools", script=script, then=["SECRET-CONCLUSION."], chat_template=HERMES)
    folder.add_embedding(NOMIC)
    return folder.folder


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return collected(monkeypatch)


@pytest.fixture
async def client(models: Path) -> AsyncIterator[AsyncClient]:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        yield client


async def test_an_answer_is_a_span_with_the_names_of_the_conventions(
    client: AsyncClient, spans: Spans
) -> None:
    llm = await client.llm.load_new_instance(QWEN, "mine")
    with spans.own("request"):
        result = await llm.respond(
            "Hello", config={"temperature": 0, "max_tokens": 2, "top_k_sampling": 9, "stop_strings": ["#"]}
        )
    chat = spans.one("chat")
    assert chat.name == f"chat {QWEN}"
    assert spans.parent_of(chat) == "request"
    assert chat.kind is SpanKind.CLIENT
    found = attributes(chat)
    assert 0 < found.pop("gen_ai.response.time_to_first_chunk") < 60
    # As the conventions say, so that storages with fixed types accept it.
    assert type(found["gen_ai.request.temperature"]) is float
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "lmstudio",
        "gen_ai.request.model": QWEN,
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.max_tokens": 2,
        "gen_ai.request.top_k": 9,
        "gen_ai.request.stop_sequences": ("#",),
        "gen_ai.response.model": QWEN,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": result.stats.prompt_tokens_count,
        "gen_ai.usage.output_tokens": 2,
        "lmstudio.identifier": "mine",
        "lmstudio.stop_reason": "maxPredictedTokensReached",
        "server.address": "embedded",
    }


async def test_completions_rounds_and_vectors_are_spans(client: AsyncClient, spans: Spans) -> None:
    llm = await client.llm.load_new_instance(QWEN)
    with suppress(LMStudioStructuredOutputError):
        await llm.complete("Once", response_format={"type": "object"}, config={"max_tokens": 99})
    completion = attributes(spans.one("text_completion"))
    assert completion["gen_ai.operation.name"] == "text_completion"
    assert completion["gen_ai.output.type"] == "json"

    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    tools = await client.llm.load_new_instance("tools")
    with spans.own("request"):
        await tools.act("Hello", [look_up])
    first, second = spans.named("chat tools")
    assert spans.parent_of(first) == spans.parent_of(second) == "request"
    assert attributes(first)["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert attributes(second)["gen_ai.response.finish_reasons"] == ("stop",)

    nomic = await client.embedding.load_new_instance(NOMIC)
    with spans.own("request"):
        vectors = await nomic.embed(["one", "two"])
    vector_span = spans.one("embeddings")
    assert vector_span.name == f"embeddings {NOMIC}"
    assert attributes(vector_span)["gen_ai.embeddings.dimension.count"] == len(vectors[0])
    assert attributes(vector_span)["gen_ai.request.model"] == NOMIC
    await nomic.unload()
    with pytest.raises(LMStudioError):
        await nomic.embed("one")
    failed = spans.named("embeddings")[1]
    assert attributes(failed)["error.type"] == "LMStudioInstanceUnloadedError"
    assert failed.status.description and "unloaded" in failed.status.description


async def test_no_span_has_a_prompt_or_an_answer(client: AsyncClient, spans: Spans) -> None:
    def look_up(word: str) -> str:
        """SECRET-DESCRIPTION."""
        return f"SECRET-RESULT of {word}"

    llm = await client.llm.load_new_instance(QWEN)
    chat = Chat("SECRET-SYSTEM")
    chat.add_user_message("SECRET-QUESTION")
    assert "SECRET" in str(await llm.respond(chat))
    await llm.complete("SECRET-PROMPT")
    tools = await client.llm.load_new_instance("tools")
    await tools.act("SECRET-QUESTION", [look_up])
    nomic = await client.embedding.load_new_instance(NOMIC)
    await nomic.embed("SECRET-TEXT")
    assert len(spans.all()) == 8
    assert "SECRET" not in "".join(map(texts, spans.all()))


@pytest.mark.parametrize("problem", ["tool call", "packet", "template"])
async def test_an_error_that_quotes_the_model_or_the_prompt_has_no_text(
    both: tuple[AsyncClient, ScriptedServer], spans: Spans, problem: str
) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    stream = await llm.respond_stream("Hello")
    channel = await server.next_message()
    if problem == "tool call":
        await server.packet(channel, type="toolCallGenerationFailed", error={"title": "no JSON: SECRET"})
    elif problem == "packet":
        await server.packet(channel, type="fragment", fragment="SECRET")
        await server.close(channel)
    else:
        await server.fail(channel, "Cannot render SECRET")
    with pytest.raises(LMStudioError, match="SECRET") as caught:
        await stream.wait_for_result()
    chat = spans.one("chat")
    assert attributes(chat)["error.type"] == type(caught.value).__name__
    assert chat.status.status_code is StatusCode.ERROR
    assert "SECRET" not in texts(chat)
    if problem == "tool call":
        await server.close(channel)


async def test_the_error_of_a_vector_that_quotes_the_text_has_no_text(
    both: tuple[AsyncClient, ScriptedServer], spans: Spans
) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:

        async def embed() -> None:
            nomic = await client.embedding.model()
            with pytest.raises(LMStudioError, match="SECRET"):
                await nomic.embed("Hello")

        tasks.start_soon(embed)
        info = INSTANCE | {"type": "embedding"}
        await server.answer(await server.next_message(), info)
        call = await server.next_message()
        await server.say(type="rpcError", callId=call["callId"], error={"title": "too long: SECRET"})
    failed = spans.one("embeddings")
    assert attributes(failed)["error.type"] == "LMStudioServerError"
    assert "SECRET" not in texts(failed)


@pytest.mark.parametrize("way", ["cancel", "leave", "drop", "close"])
async def test_the_span_of_a_stream_ends_with_the_stream(spans: Spans, way: str) -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await loaded_llm(client, server)
        stream = await llm.respond_stream("Hello")
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment={"content": "Hi"})
        await stream.__anext__()
        assert not spans.all()

        async def stop() -> None:
            assert (await server.next_message())["message"] == {"type": "cancel"}
            if way != "close":
                await server.packet(channel, type="success", stats={"stopReason": "userStopped"})
                await server.close(channel)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            if way == "cancel":
                await stream.cancel()
            elif way == "leave":
                await stream.aclose()
            elif way == "close":
                await client.aclose()
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ResourceWarning)
                    del stream
                    gc.collect()
        await until(lambda: bool(spans.all()))
    chat = spans.one("chat")
    found = attributes(chat)
    assert found["lmstudio.cancelled"] is True
    assert found["gen_ai.response.finish_reasons"] == ("error",)
    assert "error.type" not in found and chat.status.status_code is StatusCode.UNSET


async def test_a_stream_whose_connection_is_lost_ends_its_span(
    both: tuple[AsyncClient, ScriptedServer], spans: Spans
) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    stream = await llm.respond_stream("Hello")
    await server.next_message()
    await server.drop()
    with pytest.raises(LMStudioError):
        await stream.wait_for_result()
    assert attributes(spans.one("chat"))["error.type"] == "LMStudioConnectionBrokenError"


async def test_a_timeout_is_an_error_of_the_span(spans: Spans) -> None:
    async with ScriptedServer().client(timeout=60) as (client, server):
        llm = await loaded_llm(client, server)
        async with anyio.create_task_group() as tasks:

            async def respond() -> None:
                with pytest.raises(LMStudioTimeoutError):
                    await llm.respond("Hello")

            tasks.start_soon(respond)
            await server.next_message()
            await let_pass(60)
            await server.close(await server.next_message())
    found = attributes(spans.one("chat"))
    assert found["error.type"] == "LMStudioTimeoutError" and "lmstudio.cancelled" not in found


@pytest.mark.parametrize("answered", [True, False])
async def test_a_completion_by_an_older_server_is_one_span(
    both: tuple[AsyncClient, ScriptedServer], spans: Spans, answered: bool
) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    refusal = "Received channelCreate for unknown endpoint, endpoint = completeRawText"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(llm.complete, "Once")
        assert (await server.next_message())["endpoint"] == "completeRawText"
        await server.say(type="communicationWarning", warning=refusal, kind="unknown")
        channel = await server.next_message()
        assert channel["endpoint"] == "predict"
        assert not spans.all()
        if answered:
            await server.packet(channel, type="success", stats={"stopReason": "eosFound"})
            await server.close(channel)
        else:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await server.close(await server.next_message())
    found = attributes(spans.one("text_completion"))
    assert found["gen_ai.response.finish_reasons"] == ("stop" if answered else "error",)
    assert found.get("lmstudio.cancelled") is (None if answered else True)


@pytest.mark.parametrize("way", ["cancel", "leave", "drop"])
async def test_a_completion_that_is_left_between_its_two_requests_ends_its_span(
    both: tuple[AsyncClient, ScriptedServer], spans: Spans, way: str
) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    stream = await llm.complete_stream("Once")
    await server.next_message()
    refusal = "Received channelCreate for unknown endpoint, endpoint = completeRawText"
    await server.say(type="communicationWarning", warning=refusal, kind="unknown")
    await until(lambda: "failed" in repr(stream))
    assert not spans.all()
    if way == "cancel":
        await stream.cancel()
    elif way == "leave":
        await stream.aclose()
    else:
        del stream
        gc.collect()
    await until(lambda: bool(spans.all()))
    found = attributes(spans.one("text_completion"))
    assert found["lmstudio.cancelled"] is True
    assert found["gen_ai.response.finish_reasons"] == ("error",)


async def test_a_sampler_that_drops_all_spans_costs_no_attributes(
    both: tuple[AsyncClient, ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = collected(monkeypatch, ALWAYS_OFF)

    def fail(*_: Any) -> None:
        pytest.fail("a span was made")

    monkeypatch.setattr("lmstudio_async._tracing.OperationSpan.__init__", fail)
    client, server = both
    llm = await loaded_llm(client, server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(llm.respond, "Hello")
        channel = await server.next_message()
        await server.packet(channel, type="success", stats={"stopReason": "eosFound"})
        await server.close(channel)
    assert not spans.all()

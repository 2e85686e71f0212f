"""Spans of loads and unloads, with the in-memory exporter of OpenTelemetry."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from lmstudio_async import (
    AsyncClient,
    EmbeddedServer,
    LMStudioError,
    LMStudioModelNotFoundError,
    LMStudioUnreachableError,
)
from lmstudio_async.testing import ModelsFolder
from tests.scripted_server import INSTANCE, MODEL, ScriptedServer, until
from tests.spans import Spans, attributes, collected

QWEN = "qwen3-4b"
NOMIC = "text-embedding-nomic"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm(QWEN)
    folder.add_embedding(NOMIC)
    return folder.folder


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return collected(monkeypatch)


@pytest.fixture
async def client(models: Path) -> AsyncIterator[AsyncClient]:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        yield client


async def test_a_load_is_a_span_below_the_span_of_the_caller(client: AsyncClient, spans: Spans) -> None:
    config = {"context_length": 512, "seed": 7}
    with spans.own("request"):
        await client.llm.load_new_instance(QWEN, "mine", ttl=90, config=config)  # type: ignore[arg-type]
    load = spans.one("lmstudio.load")
    assert spans.parent_of(load) == "request"
    assert load.kind is SpanKind.CLIENT and load.status.status_code is StatusCode.UNSET
    found = attributes(load)
    sent = json.loads(found.pop("lmstudio.config"))
    assert sent["llm.load.contextLength"] == 512
    assert sent["llm.load.seed"] == {"checked": True, "value": 7}
    assert found.pop("lmstudio.instance_reference")
    assert found == {
        "server.address": "embedded",
        "lmstudio.kind": "llm",
        "lmstudio.model_key": QWEN,
        "lmstudio.identifier": "mine",
        "lmstudio.ttl": 90,
        "lmstudio.context_length": 512,
        "lmstudio.result": "loaded",
    }


async def test_get_or_load_tells_whether_it_has_loaded(client: AsyncClient, spans: Spans) -> None:
    with spans.own("first"):
        await client.llm.model(QWEN)
    with spans.own("second"):
        await client.llm.model(QWEN)
    first, second = spans.named("lmstudio.load")
    assert [spans.parent_of(first), spans.parent_of(second)] == ["first", "second"]
    assert attributes(first)["lmstudio.result"] == "loaded"
    assert attributes(second)["lmstudio.result"] == "already_loaded"


async def test_an_eviction_is_an_event_of_the_load(client: AsyncClient, spans: Spans) -> None:
    await client.llm.model(QWEN)
    await client.embedding.model(NOMIC)
    events = {event.name: event for event in spans.named("lmstudio.load")[1].events}
    assert dict(events["evicting"].attributes or {}) == {
        "lmstudio.identifier": QWEN,
        "lmstudio.model_key": QWEN,
    }


async def test_progress_is_at_most_one_event_for_each_quarter(
    both: tuple[AsyncClient, ScriptedServer], spans: Spans
) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.load_new_instance, QWEN)
        channel = await server.next_message()
        await server.packet(channel, type="resolved", info=MODEL)
        for percent in range(1, 100):
            await server.packet(channel, type="progress", progress=percent / 100)
        await server.packet(channel, type="success", info=INSTANCE)
        await server.close(channel)
    load = spans.one("lmstudio.load")
    assert [(event.name, (event.attributes or {})["lmstudio.fraction"]) for event in load.events] == [
        ("loading", 0.01),
        ("loading", 0.25),
        ("loading", 0.5),
        ("loading", 0.75),
    ]


async def test_a_failed_load_is_a_span_with_the_error(client: AsyncClient, spans: Spans) -> None:
    with pytest.raises(LMStudioModelNotFoundError):
        await client.llm.load_new_instance("nope")
    load = spans.one("lmstudio.load")
    assert load.status.status_code is StatusCode.ERROR
    assert load.status.description and "nope" in load.status.description
    found = attributes(load)
    assert found["lmstudio.result"] == "failed"
    assert found["error.type"] == "LMStudioModelNotFoundError"
    # OpenTelemetry recommends no event for it.
    assert not load.events


async def test_a_client_that_finds_its_server_on_first_use_names_it(
    closed_port: int, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTUDIO_HOST", f"127.0.0.1:{closed_port}")
    for request in ("load_new_instance", "unload"):
        client = AsyncClient()
        with pytest.raises(LMStudioUnreachableError):
            await getattr(client.llm, request)(QWEN)
        await client.aclose()
    for span in spans.all():
        found = attributes(span)
        assert (found["server.address"], found["server.port"]) == ("127.0.0.1", closed_port)
    assert [span.name for span in spans.all()] == ["lmstudio.load", "lmstudio.unload"]


async def test_an_unreachable_server_ends_the_span(closed_port: int, spans: Spans) -> None:
    async with AsyncClient(f"127.0.0.1:{closed_port}") as client:
        with pytest.raises(LMStudioError):
            await client.llm.load_new_instance(QWEN)
    found = attributes(spans.one("lmstudio.load"))
    assert (found["server.address"], found["server.port"]) == ("127.0.0.1", closed_port)
    assert found["error.type"] == "LMStudioUnreachableError"


@pytest.mark.parametrize("way", ["task", "cancel", "client"])
async def test_a_cancelled_load_is_marked(spans: Spans, way: str) -> None:
    async with ScriptedServer().client() as (client, server):
        loading = client.llm.load_new_instance_stream(QWEN)
        async with anyio.create_task_group() as tasks:

            async def load() -> None:
                try:
                    await loading.wait_for_result()
                except LMStudioError:
                    assert way != "task"

            async def confirm() -> None:
                assert (await server.next_message())["message"] == {"type": "cancel"}
                await server.close(channel)

            tasks.start_soon(load)
            channel = await server.next_message()
            if way == "task":
                async with anyio.create_task_group() as confirming:
                    confirming.start_soon(confirm)
                    tasks.cancel_scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await until(lambda: bool(spans.all()))
            else:
                tasks.start_soon(confirm)
                await (loading.cancel() if way == "cancel" else client.aclose())
    load_span = spans.one("lmstudio.load")
    found = attributes(load_span)
    assert found["lmstudio.cancelled"] is True
    assert found["lmstudio.result"] == "cancelled"
    assert "error.type" not in found and load_span.status.status_code is StatusCode.UNSET


async def test_a_load_that_outlives_its_connection_is_one_span(
    both: tuple[AsyncClient, ScriptedServer], spans: Spans
) -> None:
    client, server = both
    loading = client.llm.load_new_instance_stream(QWEN)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loading.wait_for_result)
        channel = await server.next_message()
        await server.packet(channel, type="resolved", info=MODEL)
        await server.packet(channel, type="progress", progress=0.5)
        await until(lambda: loading.fraction == 0.5)
        await server.drop()
        assert not spans.all()
        await server.answer(await server.next_message(), [INSTANCE])
    assert attributes(spans.one("lmstudio.load"))["lmstudio.result"] == "loaded"


async def test_tasks_that_share_a_load_have_a_span_each(
    both: tuple[AsyncClient, ScriptedServer], spans: Spans
) -> None:
    client, server = both

    async def request(name: str) -> None:
        with spans.own(name):
            await client.llm.model(QWEN)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request, "first")
        channel = await server.next_message()
        tasks.start_soon(request, "second")
        await anyio.wait_all_tasks_blocked()
        await server.packet(channel, type="loadSuccess", info=INSTANCE)
        await server.close(channel)
    load, wait = sorted(spans.named("lmstudio.load"), key=lambda span: span.name)
    assert (load.name, wait.name) == ("lmstudio.load", "lmstudio.load.wait")
    assert (spans.parent_of(load), spans.parent_of(wait)) == ("first", "second")
    assert load.context and [link.context.span_id for link in wait.links] == [load.context.span_id]


async def test_an_unload_is_a_span(client: AsyncClient, spans: Spans) -> None:
    llm = await client.llm.load_new_instance(QWEN, "mine")
    with spans.own("request"):
        await llm.unload()
        with pytest.raises(LMStudioError):
            await llm.unload()
        with pytest.raises(LMStudioModelNotFoundError):
            await client.llm.unload("gone")
    first, second, third = spans.named("lmstudio.unload")
    assert {spans.parent_of(each) for each in (first, second, third)} == {"request"}
    assert attributes(first) == {
        "server.address": "embedded",
        "lmstudio.kind": "llm",
        "lmstudio.identifier": "mine",
        "lmstudio.model_key": QWEN,
    }
    assert attributes(second)["error.type"] == "LMStudioInstanceUnloadedError"
    assert attributes(third)["error.type"] == "LMStudioModelNotFoundError"
    assert attributes(third)["lmstudio.identifier"] == "gone"


async def test_the_unload_at_the_end_of_a_block_is_a_span_below_that_of_the_caller(
    client: AsyncClient, spans: Spans
) -> None:
    with spans.own("request"):
        async with await client.llm.load_new_instance(QWEN, "mine"):
            pass
    unload = spans.one("lmstudio.unload")
    assert spans.parent_of(unload) == "request"
    assert attributes(unload)["lmstudio.identifier"] == "mine"

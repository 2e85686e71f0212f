"""Spans of `ensure_instance`: one for each call, whatever its steps, below the span of the caller."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode

from lmstudio_async import AsyncClient, LMStudioConfigMismatchError
from tests.lifecycle.conftest import NewClient
from tests.lifecycle.test_ensure_races import MINE, ScriptedLlms, ensuring, join
from tests.processes import HeldLoads
from tests.scripted_server import MODEL, until
from tests.spans import Spans, attributes, collected

QWEN = "qwen3-4b"


@pytest.fixture
def place() -> str:
    return "in process"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return collected(monkeypatch)


async def test_a_load_and_a_found_instance_are_a_span_each_below_their_callers(
    client: AsyncClient, spans: Spans
) -> None:
    config: Any = {"context_length": 512}
    for caller in ("first", "second"):
        with spans.own(caller):
            await client.llm.ensure_instance(QWEN, "mine", ttl=90, config=config)

    first, second = spans.named("lmstudio")
    assert [first.name, second.name] == ["lmstudio.load"] * 2
    assert [spans.parent_of(first), spans.parent_of(second)] == ["first", "second"]
    assert first.status.status_code is StatusCode.UNSET
    assert {event.name for event in first.events} == {"loading"}
    found = attributes(first)
    assert json.loads(found.pop("lmstudio.config"))["llm.load.contextLength"] == 512
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
    assert attributes(second)["lmstudio.result"] == "already_loaded"


async def test_the_span_of_a_stream_is_below_the_span_of_the_caller(
    client: AsyncClient, spans: Spans
) -> None:
    with spans.own("request"):
        async with client.llm.ensure_instance_stream(QWEN) as ensuring:
            await ensuring.wait_for_result()

    assert spans.parent_of(spans.one("lmstudio")) == "request"


async def test_the_unload_of_a_replacement_is_a_span_below_that_of_the_load(
    client: AsyncClient, spans: Spans
) -> None:
    await client.llm.load_new_instance(QWEN, "mine", config={"context_length": 1024})
    with spans.own("request"):
        await client.llm.ensure_instance(QWEN, "mine", config={"context_length": 512}, on_mismatch="replace")

    unload, load = spans.named("lmstudio")[1:]
    assert (unload.name, spans.parent_of(unload)) == ("lmstudio.unload", "lmstudio.load")
    assert (load.name, spans.parent_of(load)) == ("lmstudio.load", "request")
    assert attributes(load)["lmstudio.result"] == "loaded"


async def test_a_mismatch_is_the_error_of_the_span(client: AsyncClient, spans: Spans) -> None:
    await client.llm.load_new_instance(QWEN, "mine", config={"context_length": 1024})
    with pytest.raises(LMStudioConfigMismatchError):
        await client.llm.ensure_instance(QWEN, "mine", config={"context_length": 512})

    span = spans.named("lmstudio.load")[1]
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "LMStudioConfigMismatchError"
    assert attributes(span)["lmstudio.result"] == "failed"


async def test_a_name_that_is_in_use_and_a_load_that_fails_for_another_caller_are_no_errors(
    spans: Spans,
) -> None:
    async with ensuring() as (task, server):
        await server.refuse_name()
        channel = await join(server)
        await server.packet(channel, type="unloadingOtherJITModel", info=MINE | {"identifier": "old"})
        await server.packet(channel, type="startLoading", identifier="mine", info=MODEL)
        await server.packet(channel, type="loadProgress", progress=0.5)
        await until(lambda: task.fractions[-1:] == [0.5])
        await server.fail(channel, "Out of memory")
        await server.load()

    span = spans.one("lmstudio")
    assert [event.name for event in span.events] == ["evicting", "loading"]
    assert attributes(span)["lmstudio.result"] == "loaded"
    assert span.status.status_code is StatusCode.UNSET


async def test_a_load_that_was_awaited_counts_as_loaded(
    new_client: NewClient, held_loads: HeldLoads, spans: Spans
) -> None:
    async with new_client() as client, new_client() as other, anyio.create_task_group() as tasks:
        tasks.start_soon(other.llm.load_new_instance, QWEN)
        await held_loads.next()
        with spans.own("request"):
            await client.llm.ensure_instance(QWEN, on_progress=lambda _: held_loads.let_go())

    (span,) = [each for each in spans.named("lmstudio") if spans.parent_of(each) == "request"]
    assert attributes(span)["lmstudio.result"] == "loaded"


async def test_tasks_that_share_a_call_have_a_span_each(spans: Spans) -> None:
    server = ScriptedLlms()

    async def request(client: AsyncClient, name: str) -> None:
        with spans.own(name):
            await client.llm.ensure_instance(QWEN, "mine")

    async with server.client() as (client, _), anyio.create_task_group() as tasks:
        tasks.start_soon(request, client, "first")
        look = await server.expect("listLoaded")
        tasks.start_soon(request, client, "second")
        await anyio.wait_all_tasks_blocked()
        await server.answer(look, [MINE])

    load, wait = sorted(spans.named("lmstudio"), key=lambda span: span.name)
    assert (load.name, wait.name) == ("lmstudio.load", "lmstudio.load.wait")
    assert (spans.parent_of(load), spans.parent_of(wait)) == ("first", "second")
    assert load.context and [link.context.span_id for link in wait.links] == [load.context.span_id]


async def test_a_cancelled_call_is_marked(client: AsyncClient, held_loads: HeldLoads, spans: Spans) -> None:
    async with client.llm.ensure_instance_stream(QWEN) as ensuring:
        await anext(ensuring)

    span = spans.one("lmstudio")
    assert attributes(span)["lmstudio.result"] == "cancelled"
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("call", ["model", "ensure_instance"])
async def test_no_span_is_made_below_a_span_that_is_not_recorded(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spans = collected(monkeypatch, ParentBased(ALWAYS_ON))
    await client.llm.load_new_instance(QWEN, config={"context_length": 1024})
    (recorded,) = spans.all()
    assert recorded.context
    unsampled = NonRecordingSpan(SpanContext(recorded.context.trace_id, 1, is_remote=False))
    with trace.use_span(unsampled):
        if call == "model":
            await client.llm.model(QWEN)
        else:
            await client.llm.ensure_instance(QWEN, config={"context_length": 512}, on_mismatch="replace")

    assert spans.all() == [recorded]

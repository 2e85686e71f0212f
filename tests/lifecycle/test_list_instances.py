"""`list_instances`: one call for all instances, what they do, and when they will be unloaded."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncEmbeddingModel,
    AsyncLLM,
    InstanceStatus,
    LMStudioUnreachableError,
)
from lmstudio_async._transport._server_clock import seconds_ahead
from tests.instance_server import HOUR, InstanceServer, instance, news
from tests.lifecycle.conftest import ROOM, in_process, with_serve
from tests.processes import needs_proc, workers
from tests.scripted_server import until

LLAMA = "llama-3.2-1b-instruct"
NOMIC = "text-embedding-nomic-embed-text-v1.5"


@with_serve
async def test_each_instance_is_listed_with_its_settings(client: AsyncClient) -> None:
    assert await client.list_instances() == []
    vectors = await client.embedding.load_new_instance(NOMIC, "vectors", ttl=None)
    llama = await client.llm.load_new_instance(LLAMA, "mine", ttl=60, config={"context_length": 1024})

    llm, embedding = await client.list_instances()

    assert (llm.kind, llm.identifier, llm.model_key) == ("llm", "mine", LLAMA)
    assert llm.instance_reference == llama.info.instance_reference
    assert (llm.status, llm.queued, llm.prompt_progress) == ("idle", 0, None)
    assert (llm.ttl, llm.context_length, llm.device) == (60, 1024, None)
    assert llm.size_bytes == llama.info.size_bytes > 0
    assert llm.info == await llama.get_info()
    # This client has seen it come.
    assert llm.idle_seconds is not None
    assert 0 <= llm.idle_seconds < 60
    assert llm.unloads_in == pytest.approx(60 - llm.idle_seconds)
    assert (embedding.kind, embedding.identifier) == ("embedding", "vectors")
    assert (embedding.ttl, embedding.unloads_in) == (None, None)
    assert (llm.handle(), embedding.handle()) == (llama, vectors)


@with_serve
async def test_a_handle_of_the_list_is_of_the_right_kind_and_works(client: AsyncClient) -> None:
    await client.llm.load_new_instance(LLAMA)
    await client.embedding.load_new_instance(NOMIC)

    llm, embedding = [instance.handle() for instance in await client.list_instances()]

    assert isinstance(llm, AsyncLLM)
    assert isinstance(embedding, AsyncEmbeddingModel)
    assert (await llm.respond("Why?")).content
    assert len(await embedding.embed("Why?")) > 0
    await llm.unload()
    assert [each.handle() for each in await client.list_instances()] == [embedding]


@with_serve
async def test_a_busy_instance_is_listed_with_its_state_and_queue(client: AsyncClient) -> None:
    talker = await client.llm.load_new_instance(
        "talker", ttl=60, config={**ROOM, "max_parallel_predictions": 1}
    )
    async with talker.respond_stream("Go") as first:
        await anext(first)
        async with talker.respond_stream("And you?"):
            with anyio.fail_after(20):
                (listed,) = await client.list_instances()
                while not listed.queued:
                    (listed,) = await client.list_instances()

    assert (listed.status, listed.queued) == ("generating", 1)
    assert (listed.idle_seconds, listed.unloads_in) == (0.0, 60)


@needs_proc
@in_process
async def test_the_progress_of_a_prompt_is_listed(client: AsyncClient) -> None:
    talker = await client.llm.load_new_instance("talker", config=ROOM)
    (worker,) = workers()
    listed: list[InstanceStatus[AsyncLLM | AsyncEmbeddingModel]] = []

    async def list_instances(fraction: float) -> None:
        if not listed and 0 < fraction < 1:
            # The worker does not go on meanwhile. It has many batches left.
            os.kill(worker, signal.SIGSTOP)
            listed.extend(await client.list_instances())
            os.kill(worker, signal.SIGCONT)

    words = "many words " * 800
    async with talker.respond_stream(words, on_prompt_processing_progress=list_instances) as stream:
        await anext(stream)
        (busy,) = await client.list_instances()

    assert listed[0].status == "processingPrompt"
    assert listed[0].prompt_progress is not None
    assert 0 < listed[0].prompt_progress < 1
    assert (busy.status, busy.prompt_progress) == ("generating", None)


async def test_the_requests_go_out_concurrently() -> None:
    server = InstanceServer(instance("a"), instance("b"), instance("c", type="embedding"))
    async with server.client() as (client, _), anyio.create_task_group() as tasks:
        server.hold("listLoaded")
        server.hold("getInstanceProcessingState")
        tasks.start_soon(client.list_instances)
        await until(lambda: server.held("listLoaded") == 2)
        server.release("listLoaded")
        await until(lambda: server.held("getInstanceProcessingState") == 3)
        server.release("getInstanceProcessingState")


async def test_an_instance_that_goes_during_the_call_is_left_out() -> None:
    async with InstanceServer(instance("a"), instance("b")).client() as (client, server):
        server.hold_lists()
        listed: list[Any] = []

        async def list_instances() -> None:
            listed.extend(await client.list_instances())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(list_instances)
            await until(lambda: server.looks == 1)
            server.remove("r-a")
            server.release_lists()

    assert [each.identifier for each in listed] == ["b"]


@pytest.mark.parametrize("answer", ["error", "warning"])
async def test_a_server_without_processing_states_lists_no_status(answer: str) -> None:
    async with InstanceServer(instance("a"), instance("b"), tells_states=answer).client() as (client, _):
        listed = await client.list_instances()

    assert [(each.identifier, each.status, each.queued) for each in listed] == [
        ("a", None, 0),
        ("b", None, 0),
    ]


async def test_a_never_used_instance_has_an_idle_time_only_if_this_client_saw_it_come() -> None:
    async with InstanceServer(instance("old", ttlMs=60_000)).client() as (client, server):
        (old,) = await client.list_instances()
        async with client.watch_instances(interval=HOUR) as watch:
            await news(watch)
            server.instances.append(instance("new", ttlMs=60_000))
            async with client.watch_instances():
                await news(watch)
        _, new = await client.list_instances()

    assert (old.idle_seconds, old.unloads_in) == (None, None)
    assert new.idle_seconds is not None
    assert new.unloads_in == pytest.approx(60 - new.idle_seconds)


@pytest.mark.parametrize("ahead", [0, 7200, -7200])
async def test_the_idle_time_is_that_of_the_servers_clock(ahead: float) -> None:
    used = (time.time() + ahead - 30) * 1000
    server = InstanceServer(instance("a", lastUsedTime=int(used), ttlMs=60_000), ahead=ahead)
    async with server.client() as (client, _):
        (listed,) = await client.list_instances()

    assert listed.idle_seconds == pytest.approx(30, abs=10)
    assert listed.unloads_in == pytest.approx(30, abs=10)


async def test_the_idle_time_is_never_negative() -> None:
    used = int((time.time() + 1000) * 1000)
    async with InstanceServer(instance("a", lastUsedTime=used, ttlMs=60_000)).client() as (client, _):
        (listed,) = await client.list_instances()

    assert (listed.idle_seconds, listed.unloads_in) == (0.0, 60)


async def test_devices_are_listed() -> None:
    async with InstanceServer(instance("a", deviceIdentifier="gpu-box")).client() as (client, _):
        assert [each.device for each in await client.list_instances()] == ["gpu-box"]


async def test_an_unreachable_server_is_an_error() -> None:
    server = InstanceServer()
    server.is_up = False
    async with server.client() as (client, _):
        with pytest.raises(LMStudioUnreachableError):
            await client.list_instances()


def test_the_date_of_a_response_is_the_servers_clock() -> None:
    noon = 1_790_000_000.0 - 1_790_000_000 % 86400 + 43200
    date = "Mon, 21 Sep 2026 12:00:00 GMT"
    assert noon == 1_789_992_000

    assert seconds_ahead(date, noon - 3600) == pytest.approx(3600, abs=1)
    assert seconds_ahead(date, noon + 3600) == pytest.approx(-3600, abs=1)
    assert seconds_ahead(date.replace("GMT", "-0000"), noon - 3600) == pytest.approx(3600, abs=1)
    # The header has whole seconds, so a small difference says nothing.
    assert seconds_ahead(date, noon + 1.5) == 0
    for odd in ("", "yesterday", "Mon, 99 Foo 2026 12:00:00 GMT", "Mon, 21 Sep 99999 12:00:00 GMT", "\x00"):
        assert seconds_ahead(odd, noon) == 0


async def test_the_date_of_a_served_servers_handshake_agrees_with_this_clock(address: str) -> None:
    async with AsyncClient(address) as client:
        await client.llm.list_loaded()
        assert client._session("llm").server_is_ahead == 0

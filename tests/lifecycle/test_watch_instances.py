"""`watch_instances` on the embedded server, here and over `serve`: what this client, others and the server itself do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio

from lmstudio_async import (
    AsyncClient,
    AsyncInstanceWatch,
    InstanceChanged,
    InstanceEvent,
    InstanceLoaded,
    InstanceLoading,
    InstancePresent,
    InstanceUnloaded,
    ServerBack,
    ServerLost,
)
from tests.cli.commands import serving
from tests.instance_server import HOUR, kinds, news
from tests.lifecycle.conftest import ROOM, NewClient, in_process, with_serve
from tests.processes import needs_proc, workers

LLAMA = "llama-3.2-1b-instruct"
QWEN = "qwen3-4b"
NOMIC = "text-embedding-nomic-embed-text-v1.5"

#: Seconds between two looks, for tests that wait for what other clients do.
SOON = 0.02


async def first(watch: AsyncInstanceWatch, kind: type[InstanceEvent], identifier: str = "") -> InstanceEvent:
    """Wait for the first event of a kind. Drop all others."""
    with anyio.fail_after(20):
        async for event in watch:
            if isinstance(event, kind) and event.identifier == identifier:
                return event
    raise AssertionError("the watch has ended")


async def look(*clients: AsyncClient) -> None:
    """Let clients look at their server."""
    for client in clients:
        # A watch begins with a look, whose result the other watches of the client get as well.
        async with client.watch_instances():
            pass


async def loads_and_unloads(watch: AsyncInstanceWatch, until: str) -> list[str]:
    """Return the loads and unloads up to the unload of an instance, each in a few words."""
    told: list[InstanceEvent] = []
    with anyio.fail_after(20):
        async for event in watch:
            if isinstance(event, InstanceLoaded | InstanceUnloaded | InstancePresent):
                told.append(event)
            if isinstance(event, InstanceUnloaded) and event.identifier == until:
                return kinds(told)
    raise AssertionError("the watch has ended")


@with_serve
async def test_the_first_events_are_what_is_loaded(client: AsyncClient) -> None:
    llama = await client.llm.load_new_instance(LLAMA, "mine", ttl=60)
    await client.embedding.load_new_instance(NOMIC, "vectors")

    async with client.watch_instances() as watch:
        llm, embedding = await anext(watch), await anext(watch)

    assert isinstance(llm, InstancePresent)
    assert (llm.kind, llm.identifier, llm.status, llm.queued) == ("llm", "mine", "idle", 0)
    assert llm.instance_reference == llama.info.instance_reference
    assert llm.info == llama.info
    assert isinstance(embedding, InstancePresent)
    assert (embedding.kind, embedding.identifier) == ("embedding", "vectors")


@with_serve
async def test_loads_and_unloads_of_the_client_are_told_without_a_look(client: AsyncClient) -> None:
    async with client.watch_instances(interval=HOUR) as watch:
        llama = await client.llm.load_new_instance(LLAMA, "mine")
        await client.embedding.load_new_instance(NOMIC, "vectors")
        await llama.unload()
        await client.embedding.unload("vectors")
        await client.llm.load_new_instance(LLAMA, "mine")
        events = await news(watch)

    assert isinstance(events[0], InstanceLoading)
    assert kinds([event for event in events if not isinstance(event, InstanceLoading | InstanceChanged)]) == [
        "InstanceLoaded mine",
        "InstanceLoaded vectors",
        "InstanceUnloaded mine",
        "InstanceUnloaded vectors",
        "InstanceLoaded mine",
    ]
    reasons = [event.reason for event in events if isinstance(event, InstanceUnloaded)]
    assert reasons == ["unloaded_by_this_client"] * 2
    assert [event.at for event in events] == sorted(event.at for event in events)


@with_serve
async def test_an_eviction_by_this_client_is_told_at_once_and_before_the_load(client: AsyncClient) -> None:
    llama = await client.llm.model(LLAMA)
    await llama.respond("Why?")
    async with client.watch_instances(interval=HOUR) as watch:
        await client.llm.model(QWEN)
        events = await news(watch)

    told = [event for event in events if isinstance(event, InstanceLoaded | InstanceUnloaded)]
    assert kinds(list(told)) == [f"InstanceUnloaded {LLAMA}", f"InstanceLoaded {QWEN}"]
    assert isinstance(told[0], InstanceUnloaded)
    assert (told[0].reason, told[0].evicted_for) == ("evicted", QWEN)


@with_serve
async def test_loads_and_unloads_of_another_client_are_told_at_the_next_look(
    client: AsyncClient, new_client: NewClient
) -> None:
    async with new_client() as other, client.watch_instances(interval=SOON) as watch:
        llama = await other.llm.load_new_instance(LLAMA, "theirs")
        loaded = await first(watch, InstanceLoaded, "theirs")
        talking = await other.llm.load_new_instance("talker", config=ROOM)
        await first(watch, InstanceLoaded, "talker")
        async with talking.respond_stream("Go") as stream:
            await anext(stream)
            busy = await first(watch, InstanceChanged, "talker")
        await llama.unload()
        gone = await first(watch, InstanceUnloaded, "theirs")

    assert loaded.instance_reference == gone.instance_reference == llama.info.instance_reference
    assert isinstance(busy, InstanceChanged)
    assert busy.status in ("processingPrompt", "generating")
    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "unloaded"


@with_serve
async def test_an_expired_instance_is_told_with_its_reason(client: AsyncClient) -> None:
    async with client.watch_instances(interval=SOON) as watch:
        await client.llm.load_new_instance(LLAMA, ttl=0.1)
        gone = await first(watch, InstanceUnloaded, LLAMA)

    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "ttl"


@needs_proc
@in_process
async def test_a_crashed_instance_is_told(client: AsyncClient) -> None:
    async with client.watch_instances(interval=SOON) as watch:
        await client.llm.load_new_instance(LLAMA)
        (worker,) = workers()
        os.kill(worker, signal.SIGKILL)
        gone = await first(watch, InstanceUnloaded, LLAMA)

    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "crashed"


@with_serve
async def test_an_eviction_by_another_client_is_told_with_its_model(
    client: AsyncClient, new_client: NewClient
) -> None:
    async with new_client() as other, client.watch_instances(interval=SOON) as watch:
        llama = await other.llm.model(LLAMA)
        await first(watch, InstanceLoaded, LLAMA)
        await llama.respond("Why?")
        await other.llm.model(QWEN)
        gone = await first(watch, InstanceUnloaded, LLAMA)

    assert isinstance(gone, InstanceUnloaded)
    assert (gone.reason, gone.evicted_for) == ("evicted", QWEN)


@with_serve
async def test_every_watch_of_every_client_tells_the_same(client: AsyncClient, new_client: NewClient) -> None:
    async with new_client() as other, anyio.create_task_group() as tasks:
        told: list[list[str]] = []

        async def collect(watcher: AsyncClient, *, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with watcher.watch_instances(interval=SOON) as watch:
                task_status.started()
                told.append(await loads_and_unloads(watch, until="last"))

        for watcher in (client, client, other, other):
            await tasks.start(collect, watcher)
        for loader, name in ((client, "a"), (other, "b"), (client, "last")):
            llama = await loader.llm.load_new_instance(LLAMA, name)
            await look(client, other)
            await llama.unload()
            await look(client, other)

    steps = [
        f"{step} {name}" for name in ("a", "b", "last") for step in ("InstanceLoaded", "InstanceUnloaded")
    ]
    assert told == [steps] * 4


async def test_a_restarted_server_is_lost_and_back_with_what_differs(models: Path) -> None:
    with serving(models) as (place, server):
        async with AsyncClient(place) as client:
            await client.llm.load_new_instance(LLAMA, "mine")
            async with client.watch_instances(interval=SOON) as watch:
                server.process.kill()
                lost = await first(watch, ServerLost)
                with serving(models, port=place.rpartition(":")[2]):
                    await first(watch, ServerBack)
                    gone = await first(watch, InstanceUnloaded, "mine")
                    await client.llm.load_new_instance(LLAMA, "mine")
                    again = await first(watch, InstanceLoaded, "mine")

    assert isinstance(lost, ServerLost)
    assert place in str(lost.error)
    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "server_gone"
    assert again.instance_reference != gone.instance_reference


@in_process
async def test_a_watch_is_left_at_once_by_a_cancellation(client: AsyncClient) -> None:
    with anyio.fail_after(20):
        with anyio.move_on_after(0.05):
            async for _ in client.watch_instances(interval=HOUR):
                pass
        async with client.watch_instances(interval=HOUR):
            pass

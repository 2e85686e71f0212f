"""Events of a watch: what a look finds, and what the client itself does, on a scripted server."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    InstanceChanged,
    InstanceLoaded,
    InstanceLoadFailed,
    InstanceLoading,
    InstancePresent,
    InstanceUnloaded,
    LMStudioError,
)
from tests.clock import let_pass
from tests.instance_server import HOUR, InstanceServer, instance, kinds, look, news
from tests.scripted_server import MODEL, until

pytestmark = pytest.mark.usefixtures("no_task_is_left")


# -- looks


async def test_a_look_tells_what_other_clients_have_done() -> None:
    async with InstanceServer(instance("a"), instance("b", type="embedding")).watched() as (
        _,
        server,
        watch,
    ):
        assert kinds(await news(watch)) == ["InstancePresent a", "InstancePresent b"]

        server.remove("r-a", reason="evicted", evictedFor="big")
        server.instances.append(instance("c"))
        server.states["c"] = {"status": "generating", "queued": 2}
        await look()
        gone, came = await news(watch)

    assert isinstance(gone, InstanceUnloaded)
    assert (gone.identifier, gone.instance_reference, gone.kind) == ("a", "r-a", "llm")
    assert (gone.reason, gone.evicted_for) == ("evicted", "big")
    assert isinstance(came, InstanceLoaded)
    assert (came.status, came.queued) == ("generating", 2)
    assert came.info is not None
    assert came.info.model_key == MODEL["modelKey"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("unloaded", "unloaded"),
        ("ttl", "ttl"),
        ("crashed", "crashed"),
        ("serverStopped", "server_gone"),
        ("a new one", "unknown"),
        (None, "unknown"),
    ],
)
async def test_the_reason_is_the_one_that_the_server_tells(told: str | None, expected: str) -> None:
    async with InstanceServer(instance("a"), instance("b")).watched() as (_, server, watch):
        server.remove("r-a", reason=told)
        await look()
        gone = (await news(watch))[-1]

    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == expected


async def test_each_change_of_state_queue_and_use_is_an_event() -> None:
    async with InstanceServer(instance("a")).watched() as (_, server, watch):
        await news(watch)
        seen: list[Any] = []
        for change in (
            {"states": {"a": {"status": "processingPrompt", "queued": 0}}},
            {"states": {"a": {"status": "processingPrompt", "queued": 3}}},
            {"states": {}, "instances": [instance("a", lastUsedTime=1_790_000_000_000)]},
            {"instances": [instance("a", lastUsedTime=1_790_000_000_000, ttlMs=5000)]},
            {},
        ):
            for name, value in change.items():
                setattr(server, name, value)
            await look()
            seen.append([event for event in await news(watch) if isinstance(event, InstanceChanged)])

    assert [[(each.status, each.queued) for each in events] for events in seen] == [
        [("processingPrompt", 0)],
        [("processingPrompt", 3)],
        [("idle", 0)],
        [("idle", 0)],
        [],
    ]
    assert seen[2][0].info.last_used_time == 1_790_000_000_000
    assert seen[3][0].info.ttl == 5


async def test_an_instance_replaced_under_its_identifier_is_an_unload_and_a_load() -> None:
    async with InstanceServer(instance("a")).watched() as (_, server, watch):
        await news(watch)
        server.instances = [instance("a", "r2")]
        await look()
        events = await news(watch)

    assert kinds(events) == ["InstanceUnloaded a", "InstanceLoaded a"]
    assert [event.instance_reference for event in events] == ["r-a", "r2"]


async def test_two_instances_that_come_and_go_between_two_looks_cause_no_event() -> None:
    async with InstanceServer().watched() as (_, server, watch):
        for name in ("a", "b"):
            server.instances.append(instance(name))
            server.remove(f"r-{name}")
        await look()
        assert await news(watch) == []


async def test_equal_identifiers_on_two_devices_are_two_instances() -> None:
    here, there = instance("a", "r1"), instance("a", "r2", deviceIdentifier="gpu-box")
    async with InstanceServer(here, there).watched() as (client, server, watch):
        assert len(await news(watch)) == 2
        await client.llm.unload("a", device="gpu-box")
        (gone,) = await news(watch)
        assert gone.instance_reference == "r2"
        server.instances.append(there | {"instanceReference": "r3"})
        await look()
        await news(watch)

        # Without a device only the server knows which one it has unloaded.
        await client.llm.unload("a")
        (gone,) = await news(watch)

    assert isinstance(gone, InstanceUnloaded)
    assert gone.instance_reference == "r1"


@pytest.mark.parametrize("answer", ["error", "warning"])
async def test_a_server_without_processing_states_is_watched_without_them(answer: str) -> None:
    server = InstanceServer(instance("a"), tells_states=answer)
    async with server.client() as (client, _), client.watch_instances(interval=HOUR) as watch:
        (present,) = await news(watch)
        assert isinstance(present, InstancePresent)
        assert present.status is None
        async with client.llm.load_new_instance_stream("b") as load:
            await server.succeed(await server.next_load(), instance("b"))
            await load.wait_for_result()
        # The load itself causes a look. It must not report a change from an idle state to none.
        await look()
        assert kinds(await news(watch)) == ["InstanceLoaded b"]


async def test_a_server_without_references_is_watched_by_identifiers() -> None:
    # The key of the model of both is "a", too: a query for "a" finds "b" when "a" is gone.
    server = InstanceServer(*(instance(name, "", modelKey="a") for name in ("a", "b")))
    async with server.client() as (client, _), client.watch_instances(interval=HOUR) as watch:
        await news(watch)
        server.instances = server.instances[1:]
        await look()
        assert kinds(await news(watch)) == ["InstanceUnloaded a"]

        await client.llm.unload("b")
        (gone,) = await news(watch)
        server.instances = [instance("b", "")]
        await look()
        server.instances = []
        await look()
        again = (await news(watch))[-1]

    assert isinstance(gone, InstanceUnloaded)
    assert isinstance(again, InstanceUnloaded)
    assert (gone.reason, again.reason) == ("unloaded_by_this_client", "unknown")


async def test_an_instance_that_is_unlisted_but_there_is_left_to_the_next_look() -> None:
    async with InstanceServer(instance("a")).watched() as (client, server, watch):
        await news(watch)
        server.hold_lists()
        await let_pass(HOUR)
        await anyio.wait_all_tasks_blocked()
        # The held list has no "b", which is loaded while it is on its way.
        async with client.llm.load_new_instance_stream("b") as load:
            await server.succeed(await server.next_load(), instance("b"))
            await load.wait_for_result()
        server.release_lists()
        assert kinds(await news(watch)) == ["InstanceLoaded b"]


async def test_a_look_that_began_before_an_unload_does_not_bring_the_instance_back() -> None:
    async with InstanceServer(instance("a")).watched() as (client, server, watch):
        await news(watch)
        server.hold_lists()
        await let_pass(HOUR)
        await anyio.wait_all_tasks_blocked()
        await client.llm.unload("a")
        server.release_lists()
        await look()

        (gone,) = await news(watch)
    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "unloaded_by_this_client"


@pytest.mark.parametrize("told", ["unloaded", None])
async def test_an_unload_that_a_look_finds_before_it_is_confirmed_is_by_this_client(told: str | None) -> None:
    async with InstanceServer(instance("a")).watched() as (client, server, watch):
        await news(watch)
        server.hold_unloads(reason=told)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.llm.unload, "a")
            await look()
            (gone,) = await news(watch)
            server.release_unloads()
        await look()
        assert await news(watch) == []

    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "unloaded_by_this_client"


# -- loads and evictions of this client


async def test_a_load_of_this_client_is_told_packet_by_packet_without_a_look() -> None:
    async with InstanceServer().watched() as (client, server, watch):
        async with client.llm.load_new_instance_stream("qwen3-4b", "mine") as stream:
            load = await server.next_load()
            await server.packet(load, type="resolved", info=MODEL)
            (loading,) = await news(watch)
            await server.packet(load, type="progress", progress=0.5)
            (half,) = await news(watch)
            await server.succeed(load, instance("mine"))
            await stream.wait_for_result()
        (loaded,) = await news(watch)

    assert isinstance(loading, InstanceLoading)
    assert (loading.identifier, loading.instance_reference, loading.fraction) == ("mine", "", 0.0)
    assert isinstance(half, InstanceLoading)
    assert half.fraction == 0.5
    assert kinds([loaded]) == ["InstanceLoaded mine"]


async def test_the_first_progress_of_a_load_causes_a_look_at_what_has_gone_before() -> None:
    async with InstanceServer(instance("a")).watched() as (client, server, watch):
        await news(watch)
        server.remove("r-a", reason="ttl")
        async with client.llm.load_new_instance_stream("qwen3-4b", "a") as stream:
            load = await server.next_load()
            await server.packet(load, type="progress", progress=0.5)
            loading, gone = await news(watch)
            await server.succeed(load, instance("a", "r2"))
            await stream.wait_for_result()
        assert kinds(await news(watch)) == ["InstanceLoaded a"]

    assert isinstance(loading, InstanceLoading)
    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "ttl"


async def test_a_load_that_fails_is_told_once_with_its_error() -> None:
    async with InstanceServer().watched() as (client, server, watch):
        stream = await client.llm.load_new_instance_stream("qwen3-4b")
        load = await server.next_load()
        await server.packet(load, type="progress", progress=0.5)
        await server.fail(load, "Out of memory.")
        with pytest.raises(LMStudioError, match="Out of memory"):
            await stream.wait_for_result()
        loading, failed = await news(watch)

    assert isinstance(loading, InstanceLoading)
    assert isinstance(failed, InstanceLoadFailed)
    assert "Out of memory" in str(failed.error)


@pytest.mark.filterwarnings("ignore:.*dropped half-way:ResourceWarning")
@pytest.mark.parametrize("place", ["here", "in another thread"])
async def test_a_load_that_is_dropped_is_told_and_cancelled(place: str) -> None:
    async with InstanceServer(instance("old")).watched() as (client, server, watch):
        await news(watch)
        streams = [await client.llm.model_stream("qwen3-4b")]
        load = await server.next_load()
        await server.packet(load, type="unloadingOtherJITModel", info=instance("old"))
        await server.packet(load, type="loadProgress", progress=0.5)
        loading = await news(watch)
        if place == "here":
            streams.clear()
        else:
            thread = threading.Thread(target=streams.clear)
            thread.start()
            await anyio.to_thread.run_sync(thread.join)
        gc.collect()
        failed = await news(watch)
        assert server.cancelled == [load["channelId"]]

        # The cancelled load has evicted nothing.
        server.remove("r-old")
        await look()
        (gone,) = await news(watch)

    assert kinds(loading) == ["InstanceLoading qwen3-4b"]
    assert kinds(failed) == ["InstanceLoadFailed qwen3-4b"]
    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "unknown"


@pytest.mark.parametrize("told", ["unloaded", None])
async def test_a_load_that_is_given_up_at_its_end_is_unloaded_by_this_client(told: str | None) -> None:
    async with InstanceServer().watched() as (client, server, watch):
        server.hold_unloads(reason=told)
        async with anyio.create_task_group() as tasks:

            async def leave() -> None:
                async with client.llm.load_new_instance_stream("qwen3-4b", "a") as stream:
                    await server.succeed(await server.next_load(), instance("a"))
                    await until(lambda: stream.fraction == 1.0)

            tasks.start_soon(leave)
            await until(lambda: server.held("unloadModel") == 1)
            # The look of this watch finds that the instance is gone before the server confirms it.
            async with client.watch_instances():
                loaded, gone = await news(watch)
            server.release_unloads()
        await look()
        assert await news(watch) == []

    assert kinds([loaded]) == ["InstanceLoaded a"]
    assert isinstance(gone, InstanceUnloaded)
    assert gone.reason == "unloaded_by_this_client"


async def test_an_eviction_is_told_before_the_load_that_it_made_room_for() -> None:
    async with InstanceServer(instance("old")).watched() as (client, server, watch):
        await news(watch)
        async with client.llm.model_stream("new") as stream:
            load = await server.next_load()
            await server.packet(load, type="unloadingOtherJITModel", info=instance("old"))
            server.hold_lists()
            server.remove("r-old")
            await server.succeed(load, instance("new", modelKey="acme/new"))
            await stream.wait_for_result()
        gone, came = await news(watch)
        server.release_lists()
        assert await news(watch) == []

    assert isinstance(gone, InstanceUnloaded)
    assert (gone.identifier, gone.reason, gone.evicted_for) == ("old", "evicted", "acme/new")
    assert kinds([came]) == ["InstanceLoaded new"]


async def test_an_announced_victim_that_stays_is_no_victim_of_it_later() -> None:
    async with InstanceServer(instance("old")).watched() as (client, server, watch):
        await news(watch)
        stream = await client.llm.model_stream("new")
        load = await server.next_load()
        await server.packet(load, type="unloadingOtherJITModel", info=instance("old"))
        await server.fail(load, "Out of memory.")
        with pytest.raises(LMStudioError, match="Out of memory"):
            await stream.wait_for_result()
        assert await news(watch) == []

        server.remove("r-old")
        await look()
        (gone,) = await news(watch)

    assert isinstance(gone, InstanceUnloaded)
    assert (gone.reason, gone.evicted_for) == ("unknown", None)


async def test_a_reused_identifier_is_reported_free_before_its_next_instance() -> None:
    async with InstanceServer(instance("a")).watched() as (client, server, watch):
        await news(watch)
        server.hold_lists()
        server.remove("r-a")
        async with client.llm.load_new_instance_stream("qwen3-4b", "a") as stream:
            await server.succeed(await server.next_load(), instance("a", "r2"))
            await stream.wait_for_result()
        events = await news(watch)
        server.release_lists()

    assert kinds(events) == ["InstanceUnloaded a", "InstanceLoaded a"]

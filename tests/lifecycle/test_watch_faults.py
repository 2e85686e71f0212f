"""Watches of a server that is lost, restarted or silent, and watches that are slow, dropped or closed."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    InstanceChanged,
    InstanceUnloaded,
    LMStudioAuthenticationError,
    LMStudioBacklogError,
    LMStudioConnectionClosedError,
    LMStudioRuntimeError,
    LMStudioTimeoutError,
    LMStudioUnreachableError,
    LMStudioValueError,
    ServerBack,
    ServerLost,
)
from lmstudio_async._client_limits import ClientLimits
from tests.clock import let_pass
from tests.instance_server import HOUR, InstanceServer, instance, kinds, look, news
from tests.scripted_server import until

pytestmark = pytest.mark.usefixtures("no_task_is_left")


# -- losses


async def test_a_restarted_server_is_lost_and_back_with_what_differs() -> None:
    async with InstanceServer(instance("a"), instance("b")).watched() as (_, server, watch):
        await news(watch)
        server.is_up = False
        await server.drop()
        for _ in range(3):
            await look()
        (lost,) = await news(watch)
        server.is_up = True
        server.instances = [instance("a", "r3"), instance("c")]
        await look()
        back, *differences = await news(watch)
        await look()
        assert await news(watch) == []

    assert isinstance(lost, ServerLost)
    assert isinstance(lost.error, LMStudioUnreachableError)
    assert isinstance(back, ServerBack)
    assert kinds(differences) == [
        "InstanceUnloaded a",
        "InstanceUnloaded b",
        "InstanceLoaded a",
        "InstanceLoaded c",
    ]
    reasons = [event.reason for event in differences if isinstance(event, InstanceUnloaded)]
    assert reasons == ["server_gone", "server_gone"]


async def test_a_restart_is_known_also_after_a_load_by_this_client() -> None:
    async with InstanceServer(instance("a"), instance("b")).watched() as (client, server, watch):
        await news(watch)
        server.is_up = False
        await server.drop()
        await look()
        server.is_up = True
        server.instances = []
        async with client.llm.load_new_instance_stream("c") as stream:
            await server.succeed(await server.next_load(), instance("c"))
            await stream.wait_for_result()
        server.remove("r-c")
        await look()
        lost, *events = await news(watch)

    assert isinstance(lost, ServerLost)
    reasons = {event.identifier: event.reason for event in events if isinstance(event, InstanceUnloaded)}
    assert reasons == {"a": "server_gone", "b": "server_gone", "c": "unknown"}


async def test_a_restart_between_two_looks_is_told_by_what_differs() -> None:
    async with InstanceServer(instance("a")).watched() as (_, server, watch):
        await news(watch)
        await server.drop()
        server.instances = [instance("a", "r2")]
        await look()
        gone, came = await news(watch)

    assert isinstance(gone, InstanceUnloaded)
    # The connection alone may have been lost.
    assert gone.reason == "unknown"
    assert came.instance_reference == "r2"


async def test_a_lost_connection_repeats_no_load() -> None:
    async with InstanceServer(instance("a"), instance("b")).watched() as (_, server, watch):
        await news(watch)
        server.is_up = False
        await server.drop()
        await look()
        server.remove("r-b", reason="ttl")
        server.is_up = True
        await look()
        events = await news(watch)

    assert kinds(events) == ["ServerLost", "ServerBack", "InstanceUnloaded b"]
    assert isinstance(events[-1], InstanceUnloaded)
    assert events[-1].reason == "ttl"


async def test_a_watch_that_is_added_while_the_server_is_lost_raises() -> None:
    async with InstanceServer(instance("a")).watched() as (client, server, watch):
        server.is_up = False
        await server.drop()
        await look()
        with pytest.raises(LMStudioUnreachableError):
            async with client.watch_instances():
                pytest.fail("there is no server")

        server.is_up = True
        async with client.watch_instances(interval=HOUR) as other:
            assert kinds(await news(other)) == ["InstancePresent a"]
        assert kinds(await news(watch)) == ["InstancePresent a", "ServerLost", "ServerBack"]


async def test_a_refused_token_ends_a_watch_that_begins_and_not_one_that_runs() -> None:
    async with InstanceServer().watched() as (client, server, watch):
        server.authentication = {"success": False, "error": "Invalid passkey."}
        await server.drop()
        await look()
        with pytest.raises(LMStudioAuthenticationError):
            await anext(client.watch_instances())
        (lost,) = await news(watch)

    assert isinstance(lost, ServerLost)
    assert isinstance(lost.error, LMStudioAuthenticationError)


@pytest.mark.parametrize("settings", [{"timeout": 20}, {"_limits": ClientLimits(look_seconds=20)}])
async def test_a_server_that_stops_answering_is_lost(settings: dict[str, Any]) -> None:
    async with InstanceServer(instance("a")).watched(**settings) as (_, server, watch):
        await news(watch)
        server.hold_lists()
        await let_pass(HOUR)
        await let_pass(20.5)
        (lost,) = await news(watch)
        server.release_lists()
        await look()
        assert kinds(await news(watch)) == ["ServerBack"]

    assert isinstance(lost, ServerLost)
    assert isinstance(lost.error, LMStudioTimeoutError)


# -- watches


async def test_watches_share_one_look_and_without_watches_there_is_none() -> None:
    async with InstanceServer(instance("a")).client() as (client, server):
        watches = [client.watch_instances(interval=HOUR) for _ in range(50)]
        for watch in watches:
            assert kinds([await anext(watch)]) == ["InstancePresent a"]
        await anyio.wait_all_tasks_blocked()
        before = server.looks
        server.remove("r-a")
        await look()
        assert server.looks == before + 1
        for watch in watches:
            assert kinds(await news(watch)) == ["InstanceUnloaded a"]
            await watch.aclose()

        for _ in range(3):
            await look()
        assert server.looks == before + 1


async def test_the_task_that_looks_ends_with_the_last_watch() -> None:
    async with InstanceServer().client() as (client, _):
        await client.list_instances()
        before = len(anyio.get_running_tasks())
        async with client.watch_instances(interval=HOUR), client.watch_instances(interval=HOUR):
            assert len(anyio.get_running_tasks()) == before + 1
        await anyio.wait_all_tasks_blocked()
        assert len(anyio.get_running_tasks()) == before


async def test_a_watch_that_is_added_during_a_look_begins_with_what_was_there_before() -> None:
    async with InstanceServer().watched() as (client, server, _):
        server.hold_lists()
        await let_pass(HOUR)
        await anyio.wait_all_tasks_blocked()
        # The held list has no "a".
        server.instances.append(instance("a"))
        late = client.watch_instances(interval=HOUR)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(late.__aenter__)
            await anyio.wait_all_tasks_blocked()
            server.release_lists()
        assert kinds(await news(late)) == ["InstancePresent a"]
        await late.aclose()


async def test_the_shortest_interval_of_the_open_watches_counts() -> None:
    async with InstanceServer().client() as (client, server), client.watch_instances(interval=HOUR):
        async with client.watch_instances(interval=60):
            before = server.looks
            await look(60)
            assert server.looks == before + 1
        await look(60)
        before = server.looks
        await look(60)
        assert server.looks == before


async def test_a_slow_watch_gets_the_latest_change_and_each_load_and_unload() -> None:
    watched = InstanceServer(instance("a")).watched()
    async with watched as (client, server, slow), client.watch_instances() as fast:
        for queued in range(20):
            server.states["a"] = {"status": "generating", "queued": queued}
            await look()
            await news(fast)
        for number in range(5):
            server.instances.append(instance("b", f"b{number}"))
            await look()
            server.remove(f"b{number}")
            await look()
        server.states["a"] = {"status": "idle", "queued": 0}
        await look()
        events = await news(slow)

    assert kinds(events) == [
        "InstancePresent a",
        "InstanceChanged a",
        *["InstanceLoaded b", "InstanceUnloaded b"] * 5,
        "InstanceChanged a",
    ]
    assert [event.queued for event in events if isinstance(event, InstanceChanged)] == [19, 0]


async def test_a_watch_that_is_never_read_fails_at_the_limit_and_no_other_does() -> None:
    limits = ClientLimits(unread_bytes=4096 * 10)
    watched = InstanceServer().watched(_limits=limits)
    async with watched as (client, server, unread), client.watch_instances() as read:
        for number in range(12):
            server.instances.append(instance(str(number)))
            await look()
            assert len(await news(read)) == 1
        with pytest.raises(LMStudioBacklogError, match="more than 10 events"):
            await anext(unread)
        server.instances.append(instance("last"))
        await look()
        assert kinds(await news(read)) == ["InstanceLoaded last"]


async def test_a_watch_goes_on_after_a_timeout_while_it_waited() -> None:
    async with InstanceServer().client() as (client, server):
        watch = client.watch_instances(interval=HOUR)
        for _ in range(3):
            with anyio.move_on_after(0):
                await anext(watch)
        assert await news(watch) == []
        server.instances.append(instance("a"))
        await look()
        assert kinds(await news(watch)) == ["InstanceLoaded a"]
        await watch.aclose()


async def test_closing_a_watch_ends_its_loop_and_drops_what_is_unread() -> None:
    async with InstanceServer(instance("a")).watched() as (client, _, watch):
        await watch.aclose()
        assert [event async for event in watch] == []
        assert repr(watch) == "AsyncInstanceWatch('closed')"
        await watch.aclose()

        waiting = client.watch_instances(interval=HOUR)
        assert kinds([await anext(waiting)]) == ["InstancePresent a"]
        async with anyio.create_task_group() as tasks:

            async def close() -> None:
                await anyio.wait_all_tasks_blocked()
                await waiting.aclose()

            tasks.start_soon(close)
            assert [event async for event in waiting] == []


async def test_only_one_task_can_wait_for_a_watch() -> None:
    async with InstanceServer().watched() as (_, _, watch), anyio.create_task_group() as tasks:
        tasks.start_soon(anext, watch)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(LMStudioRuntimeError, match="watch of its own"):
            await anext(watch)
        tasks.cancel_scope.cancel()


async def test_each_event_comes_once_if_two_tasks_begin_a_watch() -> None:
    async with InstanceServer(instance("a")).client() as (client, _):
        watch = client.watch_instances(interval=HOUR)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.__aenter__)
            tasks.start_soon(watch.__aenter__)
        await client.llm.unload("a")
        assert kinds(await news(watch)) == ["InstancePresent a", "InstanceUnloaded a"]
        await watch.aclose()


async def test_closing_a_watch_that_begins_ends_it() -> None:
    async with InstanceServer(instance("a")).client() as (client, server):
        watch = client.watch_instances(interval=HOUR)
        server.hold_lists()
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                assert [event async for event in watch] == []

            tasks.start_soon(read)
            await until(lambda: server.held("listLoaded") == 2)
            await watch.aclose()
        server.release_lists()


async def test_closing_the_client_ends_its_watches_also_during_a_look() -> None:
    async with InstanceServer(instance("a")).client() as (client, server):
        watch, late = client.watch_instances(interval=HOUR), client.watch_instances(interval=HOUR)
        await anext(watch)
        server.hold_lists()
        await let_pass(HOUR)
        async with anyio.create_task_group() as tasks:

            async def begin_late() -> None:
                with pytest.raises(LMStudioConnectionClosedError):
                    await anext(late)

            tasks.start_soon(begin_late)
            await anyio.wait_all_tasks_blocked()
            await client.aclose()
        for _ in range(2):
            with pytest.raises(LMStudioConnectionClosedError):
                await anext(watch)
        with pytest.raises(LMStudioConnectionClosedError):
            client.watch_instances()


async def test_a_dropped_watch_ends_the_looks_also_from_another_thread() -> None:
    async with InstanceServer(instance("a")).client() as (client, server):
        for drop in ("here", "elsewhere"):
            watches = [client.watch_instances(interval=HOUR)]
            await anext(watches[0])
            if drop == "here":
                watches.clear()
            else:
                thread = threading.Thread(target=watches.clear)
                thread.start()
                await anyio.to_thread.run_sync(thread.join)
            gc.collect()
            await anyio.wait_all_tasks_blocked()
            before = server.looks
            await look()
            assert server.looks == before


async def test_a_watch_in_another_event_loop_is_refused(anyio_backend_name: str) -> None:
    async with InstanceServer().client() as (client, _), client.watch_instances() as begun:
        refused: list[str] = []

        async def elsewhere() -> None:
            for watch in (client.watch_instances(), begun):
                with pytest.raises(LMStudioRuntimeError, match="another one"):
                    await anext(watch)
                refused.append(repr(watch))

        await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere, backend=anyio_backend_name))
        assert len(refused) == 2
        # The poller is not harmed.
        async with client.watch_instances():
            pass


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), "1", None, True])
async def test_an_interval_that_is_no_positive_number_is_refused(interval: Any) -> None:
    async with InstanceServer().client() as (client, _):
        with pytest.raises(LMStudioValueError, match="interval must be a positive number"):
            client.watch_instances(interval=interval)


@pytest.mark.parametrize("interval", [1e-9, 1e12])
async def test_extreme_intervals_work(interval: float) -> None:
    server = InstanceServer(instance("a"))
    async with server.client() as (client, _), client.watch_instances(interval=interval) as watch:
        await anext(watch)
        if interval < 1:
            await until(lambda: server.looks > 20)
        await client.llm.unload("a")
        assert kinds([await anext(watch)]) == ["InstanceUnloaded a"]


async def test_a_watch_opens_its_client() -> None:
    client = AsyncClient(InstanceServer(instance("a")))  # type: ignore[arg-type]
    watch = client.watch_instances(interval=HOUR)
    assert repr(watch) == "AsyncInstanceWatch('not begun')"
    assert kinds([await anext(watch)]) == ["InstancePresent a"]
    assert repr(watch) == "AsyncInstanceWatch('under way')"
    await client.aclose()

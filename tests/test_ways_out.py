"""Loads and predictions that are cancelled, left or dropped half-way, with a server that takes its time."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    LMStudioCancelledError,
    LMStudioConnectionClosedError,
    LMStudioServerError,
    LMStudioUnreachableError,
)
from lmstudio_async._client_limits import DEFAULT_LIMITS, ClientLimits
from tests.scripted_server import INSTANCE, ScriptedServer, loaded_llm, until

Both = tuple[AsyncClient, ScriptedServer]


# -- loads


async def test_cancel_waits_for_the_confirmation_of_the_server(both: Both) -> None:
    client, server = both
    load = client.llm.load_new_instance_stream("qwen3-4b")
    await load
    channel = await server.next_message()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load.cancel)
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.fail(channel, "Load was cancelled")

    with pytest.raises(LMStudioCancelledError):
        load.result()


async def test_the_iteration_over_a_load_ends_when_another_task_cancels_it(both: Both) -> None:
    client, server = both
    load = client.llm.load_new_instance_stream("qwen3-4b")
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            async for _ in load:
                pass

        tasks.start_soon(watch)
        channel = await server.next_message()
        tasks.start_soon(load.cancel)
        await server.next_message()
        await server.fail(channel, "Load was cancelled")


@asynccontextmanager
async def cancelled_while_connecting(limits: ClientLimits = DEFAULT_LIMITS) -> AsyncIterator[ScriptedServer]:
    """Cancel a load that another task iterates over while the client connects, and only then authenticate the client."""
    with anyio.fail_after(10):
        async with ScriptedServer(authentication="never").client(_limits=limits) as (client, server):
            load = client.llm.load_new_instance_stream("qwen3-4b")
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    async for _ in load:
                        pass

                tasks.start_soon(watch)
                await until(lambda: server.connections == 1)
                tasks.start_soon(load.cancel)
                await anyio.wait_all_tasks_blocked()
                await server.say(success=True)
                yield server
            with pytest.raises(LMStudioCancelledError, match="cancelled by this program"):
                await load.wait_for_result()


async def test_a_load_that_is_cancelled_while_connecting_is_cancelled_on_the_server_once_it_begins() -> None:
    async with cancelled_while_connecting() as server:
        channel = await server.next_message()
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.fail(channel, "Load was cancelled")


async def test_a_load_whose_connection_is_lost_while_two_tasks_stop_it_ends() -> None:
    async with cancelled_while_connecting(ClientLimits(lookup_seconds=0.1)) as server:
        await server.next_message()
        await server.drop()


async def test_cancelling_a_load_that_cannot_begin_is_no_error() -> None:
    limits = ClientLimits(connect_seconds=0.05)
    with anyio.fail_after(10):
        async with ScriptedServer(authentication="never").client(_limits=limits) as (client, server):
            load = client.llm.load_new_instance_stream("qwen3-4b")
            async with anyio.create_task_group() as tasks:

                async def begin() -> None:
                    with pytest.raises(LMStudioUnreachableError):
                        await load

                tasks.start_soon(begin)
                await until(lambda: server.connections == 1)
                await load.cancel()


async def test_a_load_that_succeeds_while_it_is_cancelled_is_unloaded_again(both: Both) -> None:
    client, server = both
    load = client.llm.load_new_instance_stream("qwen3-4b")
    await load
    channel = await server.next_message()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load.cancel)
        await server.next_message()
        await server.packet(channel, type="success", info=INSTANCE)
        await server.close(channel)
        unload = await server.next_message()
        assert unload["endpoint"] == "unloadModel"
        assert unload["parameter"] == {"identifier": "qwen3-4b"}
        await server.answer(unload)

    with pytest.raises(LMStudioCancelledError):
        load.result()


async def test_cancelling_model_stream_does_not_unload_the_shared_instance(both: Both) -> None:
    client, server = both
    load = client.llm.model_stream("qwen3-4b")
    await load
    channel = await server.next_message()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load.cancel)
        await server.next_message()
        await server.packet(channel, type="loadSuccess", info=INSTANCE)
        await server.close(channel)
    await client.aclose()

    assert await server.nothing_more()


async def test_cancel_does_not_wait_for_ever_for_the_confirmation_of_the_server() -> None:
    async with ScriptedServer().client(_limits=ClientLimits(stop_seconds=0.05)) as (client, _):
        load = client.llm.load_new_instance_stream("qwen3-4b")
        await load

        await load.cancel()

    with pytest.raises(LMStudioCancelledError, match="did not confirm"):
        load.result()


async def test_a_dropped_load_is_cancelled_and_warned_of(both: Both) -> None:
    client, server = both
    with pytest.warns(ResourceWarning, match="dropped half-way"):  # noqa: PT031
        await client.llm.load_new_instance_stream("qwen3-4b")
        gc.collect()
    await server.next_message()

    assert (await server.next_message())["message"] == {"type": "cancel"}


async def test_breaking_out_of_the_loop_cancels_the_load(both: Both) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:

        async def load() -> None:
            with pytest.warns(ResourceWarning):  # noqa: PT031
                async for _ in client.llm.load_new_instance_stream("qwen3-4b"):
                    break
                gc.collect()

        tasks.start_soon(load)
        channel = await server.next_message()
        await server.packet(channel, type="progress", progress=0.5)
        assert (await server.next_message())["message"] == {"type": "cancel"}


async def test_closing_the_client_cancels_its_loads_and_ends_their_calls(both: Both) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:

        async def load() -> None:
            with pytest.raises(LMStudioConnectionClosedError):
                await client.llm.load_new_instance("qwen3-4b")

        tasks.start_soon(load)
        await server.next_message()
        await client.aclose()

    assert (await server.next_message())["message"] == {"type": "cancel"}


async def test_an_exception_of_a_callback_cancels_the_load_and_is_raised(both: Both) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:

        async def full(_: float) -> None:
            raise OverflowError("no room")

        async def load() -> None:
            with pytest.raises(OverflowError, match="no room"):
                await client.llm.load_new_instance("qwen3-4b", on_progress=full)

        tasks.start_soon(load)
        channel = await server.next_message()
        await server.packet(channel, type="progress", progress=0.5)
        await server.next_message()
        await server.fail(channel, "Load was cancelled")


# -- predictions


async def test_a_cancelled_prediction_keeps_its_text(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    async with llm.respond_stream("Hello") as stream:
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment={"content": "Hi", "tokensCount": 1})
        assert (await anext(stream)).content == "Hi"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.cancel)
            await server.next_message()
            await server.packet(channel, type="success", stats={"stopReason": "userStopped"})
        result = await stream.wait_for_result()

    assert str(result) == "Hi"
    assert result.stats.stop_reason == "userStopped"


async def test_a_prediction_that_is_left_has_no_result(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    async with anyio.create_task_group() as tasks:

        async def leave() -> None:
            async with llm.respond_stream("Hello") as stream:
                await anext(stream)
            with pytest.raises(LMStudioCancelledError, match=r"use cancel\(\)"):
                stream.result()

        tasks.start_soon(leave)
        channel = await server.next_message()
        await server.packet(channel, type="fragment", fragment={"content": "Hi"})
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.packet(channel, type="success", stats={"stopReason": "userStopped"})


async def test_a_failed_prediction_raises_its_error_in_the_iteration(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    stream = await llm.respond_stream("Hello")
    await server.fail(await server.next_message(), "The engine broke")

    with pytest.raises(LMStudioServerError, match="Chat response error: The engine broke"):
        async for _ in stream:
            pass


async def test_next_item_after_a_timeout_around_the_last_one_is_an_error(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    with anyio.fail_after(20):
        stream = await llm.respond_stream("Hello")
        channel = await server.next_message()
        async with anyio.create_task_group() as tasks:

            async def confirm() -> None:
                assert (await server.next_message())["message"] == {"type": "cancel"}
                await server.packet(channel, type="fragment", fragment={"content": "Hi"})
                await server.packet(channel, type="success", stats={"stopReason": "userStopped"})

            tasks.start_soon(confirm)
            with anyio.move_on_after(0.01) as scope:
                await anext(stream)
        assert scope.cancelled_caught
        # An item that came meanwhile is not lost.
        assert (await anext(stream)).content == "Hi"
        with pytest.raises(LMStudioCancelledError, match=r"asyncio\.wait"):
            await anext(stream)

    assert (await stream.wait_for_result()).content == "Hi"


async def test_loop_after_cancel_ends_quietly(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    with anyio.fail_after(20):
        stream = await llm.respond_stream("Hello")
        channel = await server.next_message()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.cancel)
            await server.next_message()
            await server.packet(channel, type="success", stats={"stopReason": "userStopped"})

        assert [fragment async for fragment in stream] == []

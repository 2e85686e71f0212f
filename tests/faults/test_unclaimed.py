"""Loads that succeed before their consumer sees it: the instance has no owner, so it is unloaded again."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncLLM,
    AsyncLoadStream,
    LMStudioCancelledError,
    LMStudioConnectionClosedError,
    LMStudioUnreachableError,
)
from lmstudio_async._client_limits import ClientLimits
from tests.scripted_server import INSTANCE, ScriptedServer, loaded_llm, until

Both = tuple[AsyncClient, ScriptedServer]

UNLOAD = ("unloadModel", {"identifier": "qwen3-4b"})


async def expect_unload(server: ScriptedServer) -> None:
    """Expect the request to unload the instance, and answer it."""
    unload = await server.next_message()
    assert (unload["endpoint"], unload["parameter"]) == UNLOAD
    await server.answer(unload)


async def loading(client: AsyncClient, server: ScriptedServer) -> tuple[AsyncLoadStream[AsyncLLM], Any]:
    """Start a load; return its stream and its channel."""
    stream = await client.llm.load_new_instance_stream("qwen3-4b")
    return stream, await server.next_message()


async def unseen(client: AsyncClient, server: ScriptedServer) -> AsyncLoadStream[AsyncLLM]:
    """Return the stream of a load that has succeeded, of which its consumer has read nothing."""
    stream, channel = await loading(client, server)
    await server.packet(channel, type="progress", progress=0.5)
    await server.packet(channel, type="success", info=INSTANCE)
    await server.close(channel)
    await until(lambda: stream._feed.done and not stream._feed.is_open)
    return stream


async def leave(stream: AsyncLoadStream[AsyncLLM], way: str) -> None:
    """Leave a load in one of the possible ways."""
    match way:
        case "leave":
            async with stream:
                pass
        case "raise":
            with pytest.raises(ZeroDivisionError):
                async with stream:
                    raise ZeroDivisionError
        case "aclose":
            await stream.aclose()
        case "cancel":
            await stream.cancel()


async def nothing_is_unloaded(client: AsyncClient, server: ScriptedServer) -> bool:
    """Return whether the server receives no unload request, only the request of a later call."""
    await loaded_llm(client, server)
    await client.aclose()
    return await server.nothing_more()


# -- exits before the end was seen


async def test_breaking_out_before_the_last_item_unloads_the_instance(both: Both) -> None:
    client, server = both
    stream = await unseen(client, server)
    async for progress in stream:
        assert progress.phase == "loading"
        break
    with pytest.warns(ResourceWarning, match="dropped half-way"):  # noqa: PT031 - the collection must be inside
        del stream
        gc.collect()

    await expect_unload(server)


async def test_dropping_an_unread_load_that_has_succeeded_unloads_the_instance(both: Both) -> None:
    client, server = both
    stream = await unseen(client, server)
    with pytest.warns(ResourceWarning, match="dropped half-way"):  # noqa: PT031
        del stream
        gc.collect()

    await expect_unload(server)


@pytest.mark.parametrize("way", ["leave", "raise", "aclose", "cancel"])
async def test_leaving_an_unread_load_that_has_succeeded_unloads_the_instance(both: Both, way: str) -> None:
    client, server = both
    stream = await unseen(client, server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(expect_unload, server)
        await leave(stream, way)

    with pytest.raises(LMStudioCancelledError):
        await stream.wait_for_result()
    with pytest.raises(LMStudioCancelledError):
        stream.result()


async def test_callback_raising_at_the_end_unloads_the_instance(both: Both) -> None:
    client, server = both

    def refuse(fraction: float) -> None:
        assert fraction < 1

    async with anyio.create_task_group() as tasks:

        async def load() -> None:
            with pytest.raises(AssertionError):
                await client.llm.load_new_instance("qwen3-4b", on_progress=refuse)

        tasks.start_soon(load)
        channel = await server.next_message()
        await server.packet(channel, type="success", info=INSTANCE)
        await server.close(channel)
        await expect_unload(server)


async def test_next_item_of_a_load_that_another_task_has_cancelled_raises(both: Both) -> None:
    client, server = both
    stream = await unseen(client, server)
    assert (await anext(stream)).phase == "loading"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(expect_unload, server)
        tasks.start_soon(stream.cancel)

    with pytest.raises(LMStudioCancelledError):
        await anext(stream)


async def test_load_cancelled_while_its_request_is_sent_is_unloaded_when_it_succeeds(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = both
    await loaded_llm(client, server)
    scope = anyio.CancelScope()
    connection = client.llm._session._connection
    assert connection is not None
    send = connection.send

    async def send_and_stall(*frames: str) -> None:
        await send(*frames)
        if any("channelCreate" in frame for frame in frames):
            scope.cancel()
            await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(connection, "send", send_and_stall)
    with scope:
        await client.llm.load_new_instance("qwen3-4b")
    assert scope.cancelled_caught
    channel = await server.next_message()
    assert (await server.next_message())["message"] == {"type": "cancel"}
    await server.packet(channel, type="success", info=INSTANCE)
    await server.close(channel)

    await expect_unload(server)


# -- exits while the server is unreachable


@asynccontextmanager
async def away(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Make all connection attempts fail during the block."""

    @asynccontextmanager
    async def refuse(_: str) -> AsyncIterator[Any]:
        raise LMStudioUnreachableError("the server is away")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(server, "connect", refuse)
        yield


async def unseen_and_lost(client: AsyncClient, server: ScriptedServer) -> AsyncLoadStream[AsyncLLM]:
    """Return the stream of an unread load that has succeeded, after its connection was lost."""
    stream = await unseen(client, server)
    connection = client.llm._session._connection
    assert connection is not None
    await server.drop()
    await connection.ended.wait()
    return stream


@pytest.mark.parametrize("way", ["leave", "raise", "aclose", "cancel"])
async def test_load_left_while_the_server_is_unreachable_does_not_warn_when_dropped(
    both: Both, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = both
    stream = await unseen_and_lost(client, server)
    async with away(server, monkeypatch):
        await leave(stream, way)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del stream
        gc.collect()

    assert warned == []
    await expect_unload(server)


async def test_closing_unloads_an_instance_whose_load_was_left_while_unreachable(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = both
    stream = await unseen_and_lost(client, server)
    async with away(server, monkeypatch):
        await stream.aclose()
    await loaded_llm(client, server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.aclose)
        await expect_unload(server)


# -- exits after the end was seen


@pytest.mark.parametrize("seen_by", ["items", "result"])
async def test_instance_stays_after_its_load_was_read_to_the_end(both: Both, seen_by: str) -> None:
    client, server = both
    stream = await unseen(client, server)
    async with stream:
        if seen_by == "items":
            assert [progress.phase async for progress in stream] == ["loading", "loaded"]
        else:
            stream.result()
    del stream
    gc.collect()

    assert await nothing_is_unloaded(client, server)


async def test_shared_instance_stays_after_its_load_was_left_unread(both: Both) -> None:
    client, server = both
    async with client.llm.model_stream("qwen3-4b") as stream:
        channel = await server.next_message()
        await server.packet(channel, type="loadSuccess", info=INSTANCE)
        await server.close(channel)
        await until(lambda: stream._feed.done)

    assert await nothing_is_unloaded(client, server)


# -- closing the client


async def test_closing_unloads_an_instance_that_is_loaded_despite_the_cancel(both: Both) -> None:
    client, server = both
    stream, channel = await loading(client, server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.aclose)
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.packet(channel, type="success", info=INSTANCE)
        await server.close(channel)
        await expect_unload(server)

    assert await server.nothing_more()
    with pytest.raises(LMStudioConnectionClosedError):
        stream.result()


async def test_closing_unloads_the_instance_of_an_unread_load_that_has_succeeded(both: Both) -> None:
    client, server = both
    stream = await unseen(client, server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.aclose)
        await expect_unload(server)

    with pytest.raises(LMStudioConnectionClosedError):
        await stream.wait_for_result()


async def test_closing_waits_for_the_end_of_a_load_at_most_for_its_limit() -> None:
    async with ScriptedServer().client(_limits=ClientLimits(clean_up_seconds=0.05)) as (client, server):
        stream, _ = await loading(client, server)

        await client.aclose()

    with pytest.raises(LMStudioConnectionClosedError):
        stream.result()


async def test_closing_does_not_wait_for_the_end_of_an_answer() -> None:
    async with ScriptedServer().client(_limits=ClientLimits(clean_up_seconds=3600)) as (client, server):
        llm = await loaded_llm(client, server)
        stream = await llm.respond_stream("Hello")
        await server.next_message()

        await client.aclose()

    assert (await server.next_message())["message"] == {"type": "cancel"}
    with pytest.raises(LMStudioConnectionClosedError):
        stream.result()


async def test_dropped_client_cancels_its_load_and_unloads_the_instance() -> None:
    server = ScriptedServer()
    with anyio.fail_after(20):
        client = await AsyncClient.open(server)  # type: ignore[arg-type]
        stream, channel = await loading(client, server)
        # Drop the load before the client, because a recorded warning keeps a reference to its source.
        with pytest.warns(ResourceWarning, match="Model load: dropped half-way"):  # noqa: PT031
            del stream
            gc.collect()
        with pytest.warns(ResourceWarning, match=rf"AsyncClient\('scripted'\), made at {__file__}:"):  # noqa: PT031
            del client
            assert (await server.next_message())["message"] == {"type": "cancel"}
            await server.packet(channel, type="success", info=INSTANCE)
            await server.close(channel)
            unload = await server.next_message()
            assert (unload["endpoint"], unload["parameter"]) == UNLOAD
            # The connection does not wait for this response if it sent the request before the collection.
            assert await server.nothing_more()

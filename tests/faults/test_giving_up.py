"""Messages of the server about a load after the client has given up on it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from lmstudio_async import AsyncClient, LMStudioCancelledError, LMStudioError, LMStudioTimeoutError
from lmstudio_async._client_limits import ClientLimits
from lmstudio_async._session import ClientChannel
from tests.scripted_server import INSTANCE, ScriptedServer

CANCEL = {"type": "cancel"}


@pytest.fixture
async def short_timeout() -> AsyncIterator[tuple[AsyncClient, ScriptedServer]]:
    """A client with a short timeout, and its server."""
    async with ScriptedServer().client(timeout=0.1) as both:
        yield both


async def given_up(client: AsyncClient, server: ScriptedServer) -> dict[str, Any]:
    """Let a load time out and be cancelled, because the server is silent; return its channel."""
    with pytest.raises(LMStudioTimeoutError):
        await client.llm.load_new_instance("qwen3-4b")
    channel = await server.next_message()
    assert (await server.next_message())["message"] == CANCEL
    return channel


async def test_load_raises_a_timeout_although_the_server_confirms_the_cancel_at_once(
    short_timeout: tuple[AsyncClient, ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = short_timeout
    cancel = ClientChannel.cancel

    async def cancel_and_confirm(channel: ClientChannel) -> None:
        await cancel(channel)
        await server.fail(await server.next_message(), "Model load was cancelled.")
        await anyio.wait_all_tasks_blocked()

    monkeypatch.setattr(ClientChannel, "cancel", cancel_and_confirm)
    with anyio.fail_after(10), pytest.raises(LMStudioTimeoutError, match="The operation was cancelled"):
        await client.llm.load_new_instance("qwen3-4b")


async def test_instance_that_is_loaded_after_the_timeout_is_unloaded(
    short_timeout: tuple[AsyncClient, ScriptedServer],
) -> None:
    client, server = short_timeout
    with anyio.fail_after(10):
        channel = await given_up(client, server)
        await server.packet(channel, type="success", info=INSTANCE)
        unload = await server.next_message()
        assert (unload["endpoint"], unload["parameter"]) == ("unloadModel", {"identifier": "qwen3-4b"})
        await server.answer(unload)


async def test_instance_that_is_loaded_after_an_unconfirmed_cancel_is_unloaded() -> None:
    with anyio.fail_after(10):
        async with ScriptedServer().client(_limits=ClientLimits(stop_seconds=0.1)) as (client, server):
            async with client.llm.load_new_instance_stream("qwen3-4b") as loading:
                channel = await server.next_message()
            with pytest.raises(LMStudioCancelledError, match="did not confirm"):
                await loading.wait_for_result()
            assert (await server.next_message())["message"] == CANCEL
            await server.packet(channel, type="success", info=INSTANCE)
            unload = await server.next_message()
            assert unload["endpoint"] == "unloadModel"
            await server.answer(unload)


async def test_instance_that_is_loaded_after_its_stream_was_dropped_is_unloaded() -> None:
    with anyio.fail_after(10):
        async with ScriptedServer().client() as (client, server):
            loading = await client.llm.load_new_instance_stream("qwen3-4b")
            channel = await server.next_message()
            with pytest.warns(ResourceWarning, match="dropped half-way"):  # noqa: PT031 - the collection must be inside
                del loading
                gc.collect()
            assert (await server.next_message())["message"] == CANCEL
            await server.packet(channel, type="success", info=INSTANCE)
            unload = await server.next_message()
            assert unload["endpoint"] == "unloadModel"
            await server.answer(unload)


async def test_shared_instance_that_is_loaded_after_the_timeout_stays(
    short_timeout: tuple[AsyncClient, ScriptedServer],
) -> None:
    client, server = short_timeout
    with anyio.fail_after(10):
        with pytest.raises(LMStudioError):
            await client.llm.model("qwen3-4b")
        # Remove the timeout, because the next request gets a response, but perhaps not within 0.1 seconds.
        client.llm._session.timeout = None
        channel = await server.next_message()
        assert (await server.next_message())["message"] == CANCEL
        await server.packet(channel, type="loadSuccess", info=INSTANCE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.llm.list_loaded)
            look = await server.next_message()
            assert look["endpoint"] == "listLoaded"
            await server.answer(look, [INSTANCE])

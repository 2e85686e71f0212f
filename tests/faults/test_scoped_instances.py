"""Blocks with a handle on a server that is slow, refuses, or loses the connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncLLM,
    LMStudioConnectionClosedError,
    LMStudioServerError,
    LMStudioTimeoutError,
    LMStudioUnreachableError,
)
from lmstudio_async._client_limits import DEFAULT_LIMITS, ClientLimits
from tests.clock import let_pass
from tests.faults.scoped_blocks import (
    Both,
    confirm_unload,
    leaving,
    load,
    refuse,
    refuse_as_gone,
    refuse_unload,
    server_hears_nothing,
    stay_until,
)
from tests.scripted_server import INSTANCE, MODEL, ScriptedServer, loaded_llm, until


async def enter_and_leave(llm: AsyncLLM) -> None:
    async with llm:
        pass


async def test_the_end_of_a_block_reconnects_after_a_loss(both: Both) -> None:
    _, server = both
    async with leaving(both) as raised:
        await server.next_message()
        await server.drop()
        await until(lambda: server.connections == 2)
        await confirm_unload(server)
    assert raised == []


async def test_an_unload_whose_connection_was_lost_is_sent_again_if_the_instance_is_there(
    both: Both,
) -> None:
    _, server = both
    async with leaving(both) as raised:
        await server.answer(await server.next_message(), INSTANCE)
        assert (await server.next_message())["endpoint"] == "unloadModel"
        await server.drop()
        await until(lambda: server.connections == 2)
        await confirm_unload(server)
    assert raised == []


async def test_an_unload_whose_connection_was_lost_is_not_sent_again_if_the_instance_is_gone(
    both: Both,
) -> None:
    client, server = both
    async with leaving(both) as raised:
        await server.answer(await server.next_message(), INSTANCE)
        assert (await server.next_message())["endpoint"] == "unloadModel"
        await server.drop()
        await until(lambda: server.connections == 2)
        await refuse_as_gone(server, await server.next_message())
    assert raised == []
    assert await server_hears_nothing(client, server)


async def test_the_end_of_a_block_logs_that_the_server_cannot_be_reached(
    both: Both, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, server = both

    @asynccontextmanager
    async def gone(_: str) -> AsyncIterator[Any]:
        raise LMStudioUnreachableError("no server answers")
        yield

    async with leaving(both) as raised:
        await server.next_message()
        monkeypatch.setattr(server, "connect", gone)
        await server.drop()
    assert raised == []
    [record] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "qwen3-4b could not be unloaded at the end of its block" in record.getMessage()


async def test_the_end_of_a_block_raises_if_the_unload_is_not_confirmed_in_time(both: Both) -> None:
    _, server = both
    async with leaving(both) as raised:
        await server.answer(await server.next_message(), INSTANCE)
        await server.next_message()
        await let_pass(DEFAULT_LIMITS.undo_seconds)
    assert [type(each) for each in raised] == [LMStudioTimeoutError]
    assert "did not confirm the unload of qwen3-4b within 10 seconds" in str(raised[0])


async def test_an_unload_that_is_not_confirmed_does_not_replace_the_exception_of_the_block(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    _, server = both
    error = ZeroDivisionError()
    async with leaving(both, error=error) as raised:
        await server.next_message()
        await let_pass(DEFAULT_LIMITS.undo_seconds)
    assert raised == [error]
    assert "did not confirm the unload" in caplog.text


async def test_the_end_of_a_block_raises_if_the_server_refuses_the_unload(both: Both) -> None:
    _, server = both
    async with leaving(both) as raised:
        await refuse_unload(server)
    assert [type(each) for each in raised] == [LMStudioServerError]
    assert "The engine is stuck" in str(raised[0])


async def test_a_refused_unload_does_not_replace_the_exception_of_the_block_and_is_logged(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    _, server = both
    error = ZeroDivisionError()
    async with leaving(both, error=error) as raised:
        await refuse_unload(server)
    assert raised == [error]
    assert "The engine is stuck" in caplog.text


async def test_a_refused_unload_does_not_replace_a_cancellation_and_is_logged(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    _, server = both
    scope = anyio.CancelScope()
    async with leaving(both, scope=scope) as raised:
        look = await server.next_message()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        await server.answer(look, INSTANCE)
        await refuse(server, await server.next_message())
    assert raised == []
    assert "qwen3-4b could not be unloaded at the end of its block" in caplog.text
    assert "The engine is stuck" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_refused_unload_is_logged_if_asyncio_has_cancelled_the_task_of_the_block(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        task = asyncio.create_task(enter_and_leave(await load(tasks, client, server)))
        look = await server.next_message()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.answer(look, INSTANCE)
        await refuse(server, await server.next_message())
        await until(lambda: "The engine is stuck" in caplog.text)


async def test_a_cancellation_at_the_end_of_a_block_waits_for_the_unload(both: Both) -> None:
    _, server = both
    scope = anyio.CancelScope()
    async with leaving(both, scope=scope) as raised:
        look = await server.next_message()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        await server.answer(look, INSTANCE)
        unload = await server.next_message()
        assert unload["endpoint"] == "unloadModel"
        await server.answer(unload)
    assert raised == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelling_an_asyncio_task_at_the_end_of_its_block_does_not_stop_the_unload(
    both: Both,
) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        task = asyncio.create_task(enter_and_leave(await load(tasks, client, server)))
        look = await server.next_message()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.answer(look, INSTANCE)
        unload = await server.next_message()
        assert unload["endpoint"] == "unloadModel"
        await server.answer(unload)


async def test_closing_the_client_does_not_wait_for_ever_for_the_unload() -> None:
    limits = ClientLimits(undo_seconds=3600)
    async with (
        ScriptedServer().client(_limits=limits) as (client, server),
        anyio.create_task_group() as tasks,
    ):
        llm = await load(tasks, client, server)
        leave = anyio.Event()
        tasks.start_soon(stay_until, llm, leave)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(client.aclose)
        assert (await server.next_message())["endpoint"] == "getModelInfo"
        await let_pass(limits.clean_up_seconds)
        assert await server.nothing_more()
        leave.set()


async def test_closing_the_client_waits_for_the_unload_of_a_block_that_has_ended(both: Both) -> None:
    client, server = both
    async with leaving(both) as raised, anyio.create_task_group() as tasks:
        look = await server.next_message()
        tasks.start_soon(client.aclose)
        await anyio.wait_all_tasks_blocked()
        await server.answer(look, INSTANCE)
        unload = await server.next_message()
        assert unload["endpoint"] == "unloadModel"
        await server.answer(unload)
    assert raised == []


async def test_a_client_that_is_closed_during_the_unload_makes_the_block_end_without_an_error(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = both
    async with leaving(both) as raised, anyio.create_task_group() as tasks:
        await server.next_message()
        tasks.start_soon(client.aclose)
        await let_pass(DEFAULT_LIMITS.clean_up_seconds)
    assert raised == []
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_a_load_that_is_found_again_after_a_loss_is_unloaded_at_the_end(both: Both) -> None:
    client, server = both

    async def work() -> None:
        async with await client.llm.load_new_instance("qwen3-4b"):
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        channel = await server.next_message()
        await server.packet(channel, type="resolved", info=MODEL)
        await server.packet(channel, type="progress", progress=0.5)
        await server.drop()
        await until(lambda: server.connections == 2)
        look = await server.next_message()
        assert look["endpoint"] == "listLoaded"
        await server.answer(look, [INSTANCE])
        await confirm_unload(server)


async def test_a_get_or_load_that_is_found_again_after_a_loss_stays_loaded(both: Both) -> None:
    """Another program may have loaded it meanwhile."""
    client, server = both

    async def work() -> None:
        async with await client.llm.model("qwen3-4b"):
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        channel = await server.next_message()
        await server.packet(channel, type="startLoading", identifier="qwen3-4b", info=MODEL)
        await server.drop()
        await until(lambda: server.connections == 2)
        look = await server.next_message()
        assert look["endpoint"] == "getModelInfo"
        await server.answer(look, INSTANCE)
    assert await server_hears_nothing(client, server)


async def test_a_block_cannot_begin_after_the_client_is_closed(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    await client.aclose()

    with pytest.raises(LMStudioConnectionClosedError):
        async with llm:
            pytest.fail("the block began")

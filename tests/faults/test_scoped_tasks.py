"""Blocks with a handle in several tasks, and in several event loops."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
import pytest

from lmstudio_async import AsyncLLM, LMStudioInstanceUnloadedError, LMStudioRuntimeError
from tests.faults.scoped_blocks import (
    Both,
    confirm_unload,
    load,
    refuse_as_gone,
    server_hears_nothing,
    stay_until,
    succeed,
)
from tests.scripted_server import INSTANCE, ScriptedServer, loaded_llm, until


async def wait_for_both(server: ScriptedServer, heard: list[str]) -> dict[str, Any]:
    """Send a progress of the load that two tasks share until both have heard of it; return the channel."""
    channel = await server.next_message()
    fraction = 0.0
    while len(set(heard)) < 2:
        fraction += 0.001
        await server.packet(channel, type="loadProgress", progress=fraction)
        await anyio.lowlevel.checkpoint()
    return channel


async def test_a_task_may_leave_its_block_before_the_others_of_the_load_begin_theirs(both: Both) -> None:
    client, server = both
    heard: list[str] = []
    left: list[str] = []
    go_on = anyio.Event()

    async def leave_at_once() -> None:
        async with await client.llm.model("qwen3-4b", on_progress=lambda _: heard.append("first")):
            pass
        left.append("first")

    async def stay() -> None:
        async with await client.llm.model("qwen3-4b", on_progress=lambda _: heard.append("second")):
            await go_on.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave_at_once)
        tasks.start_soon(stay)
        await succeed(server, await wait_for_both(server, heard), "loadSuccess")
        await until(lambda: left == ["first"])
        # No request came before the second block ended.
        tasks.start_soon(client.llm.list_loaded)
        look = await server.next_message()
        assert look["endpoint"] == "listLoaded"
        await server.answer(look, [INSTANCE])
        go_on.set()
        await confirm_unload(server)


async def test_a_load_is_unloaded_if_only_one_of_its_tasks_has_a_block(both: Both) -> None:
    client, server = both
    heard: list[str] = []

    async def leave_at_once() -> None:
        async with await client.llm.model("qwen3-4b", on_progress=lambda _: heard.append("first")):
            pass

    async def use() -> None:
        await client.llm.model("qwen3-4b", on_progress=lambda _: heard.append("second"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave_at_once)
        tasks.start_soon(use)
        await succeed(server, await wait_for_both(server, heard), "loadSuccess")
        await confirm_unload(server)


async def test_a_block_that_begins_during_the_unload_reports_that_the_instance_is_gone(both: Both) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        found = await loaded_llm(client, server)
        mine = await load(tasks, client, server)
        leave = anyio.Event()
        tasks.start_soon(stay_until, mine, leave)
        await anyio.wait_all_tasks_blocked()
        leave.set()
        await server.answer(await server.next_message(), INSTANCE)
        unload = await server.next_message()

        async def enter() -> None:
            with pytest.raises(LMStudioInstanceUnloadedError):
                async with found:
                    pytest.fail("the block began")

        tasks.start_soon(enter)
        await anyio.wait_all_tasks_blocked()
        # It asks only once the unload is over.
        assert await server_hears_nothing(client, server)
        await server.answer(unload)
        await refuse_as_gone(server, await server.next_message())
    assert await server_hears_nothing(client, server)


# -- several event loops


async def enter(llm: AsyncLLM) -> None:
    async with llm:
        pytest.fail("the block began")


async def test_a_block_cannot_begin_in_another_event_loop(both: Both) -> None:
    client, server = both

    async with anyio.create_task_group() as tasks:
        llm = await load(tasks, client, server)
        with pytest.raises(LMStudioRuntimeError, match="this is another one"):
            await anyio.to_thread.run_sync(anyio.run, enter, llm)
        # It is not open: a block in this event loop is the only one.
        tasks.start_soon(stay_until, llm, set_event())
        await confirm_unload(server)


async def test_a_block_that_ends_in_another_event_loop_raises_and_ends_with_the_client(both: Both) -> None:
    client, server = both

    async with anyio.create_task_group() as tasks:
        llm = await load(tasks, client, server)
        await llm.__aenter__()
        with pytest.raises(LMStudioRuntimeError, match="this is another one"):
            await anyio.to_thread.run_sync(anyio.run, llm.__aexit__, None, None, None)
        tasks.start_soon(client.aclose)
        await confirm_unload(server)


def set_event() -> anyio.Event:
    event = anyio.Event()
    event.set()
    return event

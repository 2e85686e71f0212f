"""The limit of unread items, for a consumer that does not read its stream."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from lmstudio_async import AsyncClient, LMStudioBacklogError
from lmstudio_async._client_limits import ClientLimits
from tests.scripted_server import MODEL, ScriptedServer, loaded_llm, until

Both = tuple[AsyncClient, ScriptedServer]


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    """A client that keeps only a few unread items, and its scripted server."""
    async with ScriptedServer().client(_limits=ClientLimits(unread_bytes=10_000)) as both:
        yield both


async def test_unread_answer_fails_at_the_limit_and_is_cancelled(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    with anyio.fail_after(20):
        stream = await llm.respond_stream("Hello")
        channel = await server.next_message()
        for number in range(50):
            await server.packet(channel, type="fragment", fragment={"content": f"{number} "})
        assert (await server.next_message())["message"] == {"type": "cancel"}
        with pytest.raises(LMStudioBacklogError, match=r"wait_for_result") as caught:
            async for _ in stream:
                pytest.fail("no item is left")
        await server.packet(channel, type="success", stats={"stopReason": "userStopped"})

    assert caught.value.content is not None
    assert caught.value.content.startswith("0 1 2 3 ")


async def test_answer_that_is_only_awaited_keeps_no_items(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    results: list[str] = []
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:

            async def respond() -> None:
                results.append((await llm.respond("Hello")).content)

            tasks.start_soon(respond)
            channel = await server.next_message()
            for _ in range(50):
                await server.packet(channel, type="fragment", fragment={"content": "word "})
                await anyio.wait_all_tasks_blocked()
            await server.packet(channel, type="success", stats={"stopReason": "eosFound"})

    assert results == ["word " * 50]


async def test_load_with_unread_phases_fails_at_the_limit(both: Both) -> None:
    client, server = both
    with anyio.fail_after(20):
        stream = await client.llm.load_new_instance_stream("qwen3-4b")
        channel = await server.next_message()
        for _ in range(50):
            await server.packet(channel, type="resolved", info=MODEL)
        assert (await server.next_message())["message"] == {"type": "cancel"}
        with pytest.raises(LMStudioBacklogError):
            await stream.wait_for_result()
        await server.fail(channel, "Load was cancelled")


async def test_unread_progress_is_conflated_and_never_reaches_the_limit(both: Both) -> None:
    client, server = both
    with anyio.fail_after(20):
        stream = await client.llm.load_new_instance_stream("qwen3-4b")
        channel = await server.next_message()
        for step in range(1, 1000):
            await server.packet(channel, type="progress", progress=step / 1000)
        await until(lambda: stream.fraction == 0.999)
        assert (await anext(stream)).fraction == 0.999
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.cancel)
            await server.next_message()
            await server.fail(channel, "Load was cancelled")

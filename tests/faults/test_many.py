"""Many concurrent requests of one client: none is lost, and none delays another one."""

from __future__ import annotations

import anyio

from lmstudio_async import AsyncClient, LMStudioConnectionBrokenError
from tests.faults.faulty_server import DROP, FaultyServer
from tests.faults.sleeping_consumer import SleepingConsumer
from tests.scripted_server import ScriptedServer, loaded_llm


async def test_a_thousand_concurrent_calls_share_a_connection() -> None:
    server = FaultyServer("none", [])
    names: list[str] = []
    with anyio.fail_after(60):
        async with AsyncClient(server) as client, anyio.create_task_group() as tasks:  # type: ignore[arg-type]

            async def ask() -> None:
                names.append((await client.llm.get_model_info("qwen3-4b")).identifier)

            for _ in range(1000):
                tasks.start_soon(ask)

    assert names == ["qwen3-4b"] * 1000
    assert server.connections == 1


async def test_a_thousand_concurrent_calls_are_repeated_after_a_loss() -> None:
    server = FaultyServer("getModelInfo", [DROP])
    answers = 0
    with anyio.fail_after(60):
        async with AsyncClient(server) as client, anyio.create_task_group() as tasks:  # type: ignore[arg-type]

            async def ask() -> None:
                nonlocal answers
                await client.llm.get_model_info("qwen3-4b")
                answers += 1

            for _ in range(1000):
                tasks.start_soon(ask)

    assert answers == 1000
    assert server.connections == 2


async def test_two_hundred_concurrent_answers_share_a_connection() -> None:
    server = FaultyServer("none", [])
    texts: list[str] = []
    with anyio.fail_after(60):
        async with AsyncClient(server) as client:  # type: ignore[arg-type]
            (llm,) = await client.llm.list_loaded()
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    texts.append("".join([piece.content async for piece in llm.respond_stream("Hello")]))

                for _ in range(200):
                    tasks.start_soon(ask)

    assert texts == ["Hi"] * 200
    assert server.connections == 1


async def test_each_of_two_hundred_concurrent_answers_that_is_lost_raises() -> None:
    server = FaultyServer("predict", [DROP])
    lost = answered = 0
    with anyio.fail_after(60):
        async with AsyncClient(server) as client:  # type: ignore[arg-type]
            (llm,) = await client.llm.list_loaded()
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    nonlocal lost, answered
                    try:
                        await llm.respond("Hello")
                        answered += 1
                    except LMStudioConnectionBrokenError:
                        lost += 1

                for _ in range(200):
                    tasks.start_soon(ask)

    assert lost > 0
    assert lost + answered == 200


async def test_a_consumer_that_sleeps_does_not_delay_other_calls(
    both: tuple[AsyncClient, ScriptedServer],
) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    consumer = SleepingConsumer()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.read, llm)
            channel = await server.next_message()
            await server.packet(channel, type="fragment", fragment={"content": "Hi"})
            await consumer.asleep.wait()
            # Far more fragments than any buffer between server and client holds.
            for _ in range(5000):
                await server.packet(channel, type="fragment", fragment={"content": "Hi"})

            async def answer() -> None:
                await server.answer(await server.next_message(), [])

            tasks.start_soon(answer)
            assert await client.llm.list_loaded() == []
            assert consumer.fragments == 1
            await server.packet(channel, type="success", stats={"stopReason": "eosFound"})
            consumer.awake.set()

    assert consumer.fragments == 5001

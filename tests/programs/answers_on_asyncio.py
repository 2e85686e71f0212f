"""Ways to leave an answer half-way that asyncio has."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from lmstudio_async import AsyncClient, AsyncLLM, LMStudioConnectionClosedError
from tests.programs.answers import FoundItError, Place


async def read(llm: AsyncLLM, begun: asyncio.Event) -> None:
    async for _ in llm.respond_stream("Go"):
        begun.set()


async def cancel_the_task(llm: AsyncLLM, place: Place) -> None:
    begun = asyncio.Event()
    reader = asyncio.create_task(read(llm, begun))
    await begun.wait()
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader


async def cancel_the_task_and_never_look_at_it_again(llm: AsyncLLM, place: Place) -> None:
    begun = asyncio.Event()
    reader = asyncio.create_task(read(llm, begun))
    await begun.wait()
    reader.cancel()


async def leave_by_a_timeout(llm: AsyncLLM, place: Place) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            async for _ in llm.respond_stream("Go"):
                limit.reschedule(asyncio.get_running_loop().time())


async def wait_for_an_answer_with_a_limit(llm: AsyncLLM, place: Place) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(llm.respond("Go"), 0.05)


async def fail_beside_it_in_a_task_group(llm: AsyncLLM, place: Place) -> None:
    begun = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read(llm, begun))
            await begun.wait()
            raise FoundItError
    except* FoundItError:
        pass


async def break_out_of_the_loop_in_a_callback_of_the_event_loop(llm: AsyncLLM, place: Place) -> None:
    held = [await llm.respond_stream("Go")]
    asyncio.get_running_loop().call_soon(held.clear)
    await asyncio.sleep(0)


async def close_the_client_from_another_task(llm: AsyncLLM, place: Place) -> None:
    client = await AsyncClient.open(place)
    begun = asyncio.Event()
    reader = asyncio.create_task(read(await client.llm.model("talker"), begun))
    await begun.wait()
    await asyncio.create_task(client.aclose())
    with suppress(LMStudioConnectionClosedError):
        await reader

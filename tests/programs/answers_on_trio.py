"""Ways to leave an answer half-way that trio has."""

from __future__ import annotations

import trio

from lmstudio_async import AsyncClient, AsyncLLM, LMStudioConnectionClosedError
from tests.programs.answers import FoundItError, Place


async def read(llm: AsyncLLM, begun: trio.Event) -> None:
    async for _ in llm.respond_stream("Go"):
        begun.set()


async def cancel_the_nursery(llm: AsyncLLM, place: Place) -> None:
    begun = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, llm, begun)
        await begun.wait()
        nursery.cancel_scope.cancel()


async def leave_by_a_timeout(llm: AsyncLLM, place: Place) -> None:
    with trio.CancelScope() as limit:
        async for _ in llm.respond_stream("Go"):
            limit.deadline = trio.current_time()


async def fail_beside_it_in_a_nursery(llm: AsyncLLM, place: Place) -> None:
    begun = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, llm, begun)
            await begun.wait()
            raise FoundItError
    except* FoundItError:
        pass


async def close_the_client_from_another_task(llm: AsyncLLM, place: Place) -> None:
    client = await AsyncClient.open(place)
    begun = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, await client.llm.model("talker"), begun)
            await begun.wait()
            nursery.start_soon(client.aclose)
    except* LMStudioConnectionClosedError:
        pass

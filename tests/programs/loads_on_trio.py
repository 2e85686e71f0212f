"""Ways to leave a load half-way that trio has."""

from __future__ import annotations

import trio

from lmstudio_async import AsyncClient, LMStudioConnectionClosedError
from tests.programs.answers import Place


async def load(client: AsyncClient, begun: trio.Event) -> None:
    def look(fraction: float) -> None:
        if fraction:
            begun.set()

    await client.llm.load_new_instance("big", on_progress=look)


async def cancel_the_nursery(client: AsyncClient, place: Place) -> None:
    begun = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load, client, begun)
        await begun.wait()
        nursery.cancel_scope.cancel()


async def leave_by_a_timeout(client: AsyncClient, place: Place) -> None:
    def leave(fraction: float) -> None:
        if fraction:
            limit.deadline = trio.current_time()

    with trio.CancelScope() as limit:
        await client.llm.load_new_instance("big", on_progress=leave)


async def close_the_client_from_another_task(client: AsyncClient, place: Place) -> None:
    mine = await AsyncClient.open(place)
    begun = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load, mine, begun)
            await begun.wait()
            nursery.start_soon(mine.aclose)
    except* LMStudioConnectionClosedError:
        pass

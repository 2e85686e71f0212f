"""Ways to leave a load half-way that asyncio has."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from lmstudio_async import AsyncClient, LMStudioConnectionClosedError
from tests.programs.answers import Place


async def load(client: AsyncClient, begun: asyncio.Event) -> None:
    def look(fraction: float) -> None:
        if fraction:
            begun.set()

    await client.llm.load_new_instance("big", on_progress=look)


async def cancel_the_task(client: AsyncClient, place: Place) -> None:
    begun = asyncio.Event()
    loading = asyncio.create_task(load(client, begun))
    await begun.wait()
    loading.cancel()
    with suppress(asyncio.CancelledError):
        await loading


async def leave_by_a_timeout(client: AsyncClient, place: Place) -> None:
    def leave(fraction: float) -> None:
        if fraction:
            limit.reschedule(asyncio.get_running_loop().time())

    with suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            await client.llm.load_new_instance("big", on_progress=leave)


async def leave_a_shared_load_by_a_timeout(client: AsyncClient, place: Place) -> None:
    def leave(fraction: float) -> None:
        if fraction:
            limit.reschedule(asyncio.get_running_loop().time())

    with suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            await client.llm.model("big", on_progress=leave)


async def close_the_client_from_another_task(client: AsyncClient, place: Place) -> None:
    mine = await AsyncClient.open(place)
    begun = asyncio.Event()
    loading = asyncio.create_task(load(mine, begun))
    await begun.wait()
    await asyncio.create_task(mine.aclose())
    with suppress(LMStudioConnectionClosedError):
        await loading

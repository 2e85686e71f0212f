"""Ways to leave a load half-way, as users write them. The load of "big" never comes to its end."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from lmstudio_async import AsyncClient, AsyncLLM, AsyncLoadStream
from tests.programs.answers import FoundItError, Place


async def half_way(client: AsyncClient) -> AsyncLoadStream[AsyncLLM]:
    """Start a load, and return it after its first progress."""
    loading = client.llm.load_new_instance_stream("big")
    async for progress in loading:
        if progress.fraction:
            break
    return loading


async def fractions(client: AsyncClient) -> AsyncIterator[float]:
    async for progress in client.llm.load_new_instance_stream("big"):
        if progress.fraction:
            yield progress.fraction


async def break_out_of_the_loop(client: AsyncClient, place: Place) -> None:
    async for progress in client.llm.load_new_instance_stream("big"):
        if progress.fraction:
            break


async def break_out_of_the_loop_of_get_or_load(client: AsyncClient, place: Place) -> None:
    async for progress in client.llm.model_stream("big"):
        if progress.fraction:
            break


async def break_out_of_the_loop_in_a_block(client: AsyncClient, place: Place) -> None:
    async with client.llm.load_new_instance_stream("big") as loading:
        async for progress in loading:
            if progress.fraction:
                break


async def raise_in_the_loop(client: AsyncClient, place: Place) -> None:
    with suppress(FoundItError):
        async for progress in client.llm.load_new_instance_stream("big"):
            if progress.fraction:
                raise FoundItError


async def raise_in_a_callback(client: AsyncClient, place: Place) -> None:
    def stop(fraction: float) -> None:
        if fraction:
            raise FoundItError

    with suppress(FoundItError):
        await client.llm.load_new_instance("big", on_progress=stop)


async def raise_in_a_callback_of_a_shared_load(client: AsyncClient, place: Place) -> None:
    def stop(fraction: float) -> None:
        if fraction:
            raise FoundItError

    with suppress(FoundItError):
        await client.llm.model("big", on_progress=stop)


async def close_a_generator_around_it(client: AsyncClient, place: Place) -> None:
    async with aclosing(fractions(client)) as items:  # type: ignore[type-var]
        async for _ in items:
            break


async def leave_a_generator_around_it_to_the_event_loop(client: AsyncClient, place: Place) -> None:
    async for _ in fractions(client):
        break


async def drop_it(client: AsyncClient, place: Place) -> None:
    await half_way(client)


async def drop_it_in_another_thread(client: AsyncClient, place: Place) -> None:
    held = [await half_way(client)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()


async def leave_it_in_a_cycle_to_the_garbage_collector(client: AsyncClient, place: Place) -> None:
    cycle: list[Any] = [await half_way(client)]
    cycle.append(cycle)
    del cycle
    gc.collect()


async def leave_the_client(client: AsyncClient, place: Place) -> None:
    async with AsyncClient(place) as mine:
        loading = await half_way(mine)
    assert repr(loading) == "AsyncLoadStream('failed')"

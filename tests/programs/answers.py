"""Ways to leave an answer half-way, as users write them: each is a scene of a program, on asyncio and on trio."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from lmstudio_async import AsyncClient, AsyncLLM, EmbeddedServer, LMStudioConnectionClosedError

Place = str | EmbeddedServer


class FoundItError(Exception):
    """The exception by which a program leaves its loops."""


async def words(llm: AsyncLLM) -> AsyncIterator[str]:
    async for fragment in llm.respond_stream("Go"):
        yield fragment.content


async def break_out_of_the_loop(llm: AsyncLLM, place: Place) -> None:
    async for _ in llm.respond_stream("Go"):
        break


async def break_out_of_a_completion(llm: AsyncLLM, place: Place) -> None:
    async for _ in llm.complete_stream("Go"):
        break


async def break_out_of_the_loop_in_a_block(llm: AsyncLLM, place: Place) -> None:
    async with llm.respond_stream("Go") as stream:
        async for _ in stream:
            break


async def raise_in_the_loop(llm: AsyncLLM, place: Place) -> None:
    with suppress(FoundItError):
        async for _ in llm.respond_stream("Go"):
            raise FoundItError


async def raise_in_the_block(llm: AsyncLLM, place: Place) -> None:
    with suppress(FoundItError):
        async with llm.respond_stream("Go") as stream:
            async for _ in stream:
                raise FoundItError


async def raise_in_a_callback(llm: AsyncLLM, place: Place) -> None:
    def stop(_: object) -> None:
        raise FoundItError

    with suppress(FoundItError):
        await llm.respond("Go", on_prediction_fragment=stop)


async def close_a_generator_around_it(llm: AsyncLLM, place: Place) -> None:
    async with aclosing(words(llm)) as items:  # type: ignore[type-var]
        async for _ in items:
            break


async def leave_a_generator_around_it_to_the_event_loop(llm: AsyncLLM, place: Place) -> None:
    async for _ in words(llm):
        break


async def drop_a_stream_that_was_started(llm: AsyncLLM, place: Place) -> None:
    await llm.respond_stream("Go")


async def drop_a_stream_in_another_thread(llm: AsyncLLM, place: Place) -> None:
    held = [await llm.respond_stream("Go")]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()


async def leave_a_stream_in_a_cycle_to_the_garbage_collector(llm: AsyncLLM, place: Place) -> None:
    cycle: list[Any] = [await llm.respond_stream("Go")]
    cycle.append(cycle)
    del cycle
    gc.collect()


async def leave_the_client_by_break(llm: AsyncLLM, place: Place) -> None:
    async with AsyncClient(place) as client:
        mine = await client.llm.model("talker")
        async for _ in mine.respond_stream("Go"):
            break


async def close_the_client_under_an_answer(llm: AsyncLLM, place: Place) -> None:
    async with AsyncClient(place) as client:
        mine = await client.llm.model("talker")
        with suppress(LMStudioConnectionClosedError):
            async for _ in mine.respond_stream("Go"):
                await client.aclose()

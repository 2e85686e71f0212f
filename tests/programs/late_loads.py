"""Loads that are cancelled, and succeed all the same, because the cancel reaches the server too late."""

from __future__ import annotations

from contextlib import suppress

from lmstudio_async import AsyncClient, LMStudioTimeoutError
from tests.programs.answers import FoundItError, Place

KEY = "qwen3-4b"


async def give_up_by_the_timeout_of_the_client(client: AsyncClient, place: Place) -> None:
    async with AsyncClient(place, timeout=0.1) as hasty:
        with suppress(LMStudioTimeoutError):
            await hasty.llm.load_new_instance(KEY)
        # Keep the client open until the instance has come up.
        while await client.llm.list_loaded():
            pass


async def drop_it(client: AsyncClient, place: Place) -> None:
    await client.llm.load_new_instance_stream(KEY)


async def break_out_of_the_loop(client: AsyncClient, place: Place) -> None:
    async for _ in client.llm.load_new_instance_stream(KEY):
        break


async def raise_in_the_block(client: AsyncClient, place: Place) -> None:
    with suppress(FoundItError):
        async with client.llm.load_new_instance_stream(KEY):
            raise FoundItError

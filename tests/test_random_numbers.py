"""The numbers of the `random` module, which programs seed, and which property tests watch."""

from __future__ import annotations

import random

import anyio

from lmstudio_async import AsyncClient
from tests.scripted_server import ScriptedServer


async def test_a_retry_leaves_the_random_numbers_of_the_program_alone(
    both: tuple[AsyncClient, ScriptedServer],
) -> None:
    client, server = both
    before = random.getstate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.list_loaded)
        await server.next_message()
        await server.drop()
        await server.answer(await server.next_message(), [])

    assert random.getstate() == before

"""A handle belongs to one instance, and never affects another instance with the same identifier."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from lmstudio_async import AsyncClient, AsyncLLM, LMStudioInstanceUnloadedError
from lmstudio_async._client_limits import ClientLimits
from tests.scripted_server import INSTANCE, ScriptedServer, list_nothing, loaded_llm

Both = tuple[AsyncClient, ScriptedServer]

ANOTHER = INSTANCE | {"instanceReference": "r2"}


async def asked(
    server: ScriptedServer, call: Callable[[], Coroutine[Any, Any, Any]], *answers: Any
) -> list[Any]:
    """Make a call and answer its requests to the server; return the requests."""
    heard: list[Any] = []
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            for answer in answers:
                heard.append(await server.next_message())
                if isinstance(answer, dict) and "title" in answer:
                    await server.say(type="rpcError", callId=heard[-1]["callId"], error=answer)
                else:
                    await server.answer(heard[-1], answer)
    return heard


def unloading(llm: AsyncLLM) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return a coroutine function that unloads, and expects the error that the instance is gone."""

    async def unload() -> None:
        with pytest.raises(LMStudioInstanceUnloadedError):
            await llm.unload()

    return unload


async def test_a_handle_looks_up_its_instance_before_it_unloads_an_identifier(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)

    look, unload = await asked(server, llm.unload, INSTANCE, None)

    assert look["parameter"]["specifier"] == {"type": "instanceReference", "instanceReference": "r1"}
    assert unload["parameter"] == {"identifier": "qwen3-4b"}


async def test_a_handle_unloads_its_instance_on_the_device_that_runs_it(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)

    _, unload = await asked(server, llm.unload, INSTANCE | {"deviceIdentifier": "desk"}, None)

    assert unload["parameter"] == {"identifier": "qwen3-4b", "deviceIdentifier": "desk"}


@pytest.mark.parametrize(
    "answer", [ANOTHER, {"title": "x", "displayData": {"code": "generic.specificModelUnloaded"}}]
)
async def test_a_handle_unloads_no_other_instance_with_its_identifier(both: Both, answer: Any) -> None:
    client, server = both
    llm = await loaded_llm(client, server)

    await asked(server, unloading(llm), answer)
    await client.aclose()

    assert await server.nothing_more()


async def test_unload_raises_if_another_program_unloads_the_instance_first(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    gone = {"title": "x", "displayData": {"code": "generic.noModelMatchingQuery", "query": {}}}

    await asked(server, unloading(llm), INSTANCE, gone)


async def test_session_remembers_a_limited_number_of_instance_references() -> None:
    async with ScriptedServer().client(_limits=ClientLimits(references_kept=3)) as (client, server):
        for number in (1, 2, 3, 1, 4):
            await asked(server, client.llm.list_loaded, [INSTANCE | {"instanceReference": f"r{number}"}])
        await list_nothing(client, server)
        remembered = client.llm._session

    # r1 was seen again, so it is among the latest references; r2 was not, so it was dropped.
    assert [remembered.journal.has_seen(f"r{number}") for number in (1, 2, 3, 4)] == [True, False, True, True]

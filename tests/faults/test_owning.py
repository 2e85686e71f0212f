"""Whose instance it is: a handle's own and no other, whatever the server has under its name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from lmstudio_async import AsyncClient, AsyncLLM, LMStudioInstanceUnloadedError
from lmstudio_async import _session as session_module
from tests.scripted_server import INSTANCE, ScriptedServer, list_nothing, loaded_llm

Both = tuple[AsyncClient, ScriptedServer]

ANOTHER = INSTANCE | {"instanceReference": "r2"}


async def asked(
    server: ScriptedServer, call: Callable[[], Coroutine[Any, Any, Any]], *answers: Any
) -> list[Any]:
    """Make a call, answer what the server is asked meanwhile, and give that."""
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
    """It says that the instance is gone."""

    async def unload() -> None:
        with pytest.raises(LMStudioInstanceUnloadedError):
            await llm.unload()

    return unload


async def test_a_handle_asks_for_its_instance_before_it_unloads_a_name(both: Both) -> None:
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
async def test_a_handle_unloads_no_other_instance_of_its_name(both: Both, answer: Any) -> None:
    client, server = both
    llm = await loaded_llm(client, server)

    await asked(server, unloading(llm), answer)
    await client.aclose()

    assert await server.nothing_more()


async def test_an_instance_that_another_program_unloads_at_the_same_time_is_gone(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    gone = {"title": "x", "displayData": {"code": "generic.noModelMatchingQuery", "query": {}}}

    await asked(server, unloading(llm), INSTANCE, gone)


async def test_what_a_client_remembers_of_instances_does_not_grow_for_ever(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "REFERENCES_KEPT", 3)
    client, server = both
    for number in (1, 2, 3, 1, 4):
        await asked(server, client.llm.list_loaded, [INSTANCE | {"instanceReference": f"r{number}"}])
    await list_nothing(client, server)
    remembered = client.llm._session

    # The one that was seen again is among the latest; the one that was not has had to go.
    assert [remembered.has_seen(f"r{number}") for number in (1, 2, 3, 4)] == [True, False, True, True]

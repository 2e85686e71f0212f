"""Loads and answers in progress when the connection is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    LMStudioCancelledError,
    LMStudioConnectionBrokenError,
    LMStudioUnreachableError,
)
from lmstudio_async._client_limits import ClientLimits
from tests.scripted_server import INSTANCE, MODEL, ScriptedServer, loaded_llm, until

Both = tuple[AsyncClient, ScriptedServer]

SECOND = INSTANCE | {"identifier": "qwen3-4b:2", "instanceReference": "r2"}


async def begin(server: ScriptedServer) -> dict[str, Any]:
    """Let the server begin to load; return the channel."""
    channel = await server.next_message()
    await server.packet(channel, type="resolved", info=MODEL)
    await server.packet(channel, type="progress", progress=0.5)
    return channel


@asynccontextmanager
async def looking(server: ScriptedServer, *loaded: dict[str, Any]) -> AsyncIterator[None]:
    """Let the server lose the connection during a load, and then list the loaded instances."""

    async def serve() -> None:
        await begin(server)
        await server.drop()
        await until(lambda: server.connections == 2)
        look = await server.next_message()
        assert look["endpoint"] == "listLoaded"
        await server.answer(look, list(loaded))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            yield


async def test_lost_load_with_an_identifier_finds_its_instance_by_it(both: Both) -> None:
    client, server = both
    async with looking(server, INSTANCE, SECOND):
        llm = await client.llm.load_new_instance("qwen3-4b", "qwen3-4b:2")

    assert llm.info.instance_reference == "r2"


async def test_lost_load_without_an_identifier_finds_the_only_new_instance(both: Both) -> None:
    client, server = both
    first = await loaded_llm(client, server)
    used = SECOND | {"identifier": "used", "instanceReference": "r3", "lastUsedTime": 1_700_000_000_000}
    of_another_ttl = SECOND | {"identifier": "other", "instanceReference": "r4", "ttlMs": None}
    of_another_model = SECOND | {"identifier": "phi", "instanceReference": "r5", "modelKey": "phi-4"}
    async with looking(server, INSTANCE, used, of_another_ttl, SECOND, of_another_model):
        second = await client.llm.load_new_instance("qwen3-4b")

    assert second.identifier == "qwen3-4b:2"
    assert second != first


async def test_lost_load_does_not_take_an_instance_that_the_client_already_knows(both: Both) -> None:
    client, server = both
    await loaded_llm(client, server)
    async with looking(server, INSTANCE):
        with pytest.raises(LMStudioConnectionBrokenError, match="at 50%.*\nNo such instance is loaded"):
            await client.llm.load_new_instance("qwen3-4b")


async def test_lost_load_raises_and_names_both_of_two_possible_instances(both: Both) -> None:
    client, server = both
    async with looking(server, INSTANCE, SECOND):
        with pytest.raises(LMStudioConnectionBrokenError, match="It may be 'qwen3-4b', 'qwen3-4b:2'"):
            await client.llm.load_new_instance("qwen3-4b")


async def test_load_stream_yields_the_phase_loaded_after_a_loss(both: Both) -> None:
    client, server = both
    async with looking(server, INSTANCE):
        phases = [each.phase async for each in client.llm.load_new_instance_stream("qwen3-4b")]

    assert phases[-1] == "loaded"


async def test_model_returns_any_instance_that_is_loaded_after_a_loss(both: Both) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:

        async def get() -> None:
            assert (await client.llm.model("qwen3-4b")).identifier == "qwen3-4b"

        tasks.start_soon(get)
        await server.next_message()
        await server.drop()
        await until(lambda: server.connections == 2)
        look = await server.next_message()
        assert look["parameter"]["specifier"]["query"] == {"domain": "llm", "identifier": "qwen3-4b"}
        await server.answer(look, INSTANCE)


async def test_load_cancelled_after_a_loss_is_unloaded_if_it_succeeded(both: Both) -> None:
    client, server = both
    load = client.llm.load_new_instance_stream("qwen3-4b")
    await load
    await begin(server)
    await server.drop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load.cancel)
        await until(lambda: server.connections == 2)
        await server.answer(await server.next_message(), [SECOND])
        unload = await server.next_message()
        assert unload["parameter"] == {"identifier": "qwen3-4b:2"}
        await server.answer(unload)

    with pytest.raises(LMStudioCancelledError):
        load.result()


async def test_load_whose_task_is_cancelled_during_the_lookup_is_unloaded(both: Both) -> None:
    client, server = both
    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:

        async def load() -> None:
            with scope:
                await client.llm.load_new_instance("qwen3-4b")

        tasks.start_soon(load)
        await begin(server)
        await server.drop()
        await until(lambda: server.connections == 2)
        await server.next_message()
        scope.cancel()
        await server.answer(await server.next_message(), [SECOND])
        unload = await server.next_message()
        assert unload["endpoint"] == "unloadModel"
        await server.answer(unload)


async def test_lost_load_raises_if_the_server_does_not_list_its_instances_in_time() -> None:
    limits = ClientLimits(lookup_seconds=0.3)
    async with (
        ScriptedServer().client(_limits=limits) as (client, server),
        anyio.create_task_group() as tasks,
    ):

        async def load() -> None:
            with pytest.raises(LMStudioConnectionBrokenError, match="instance was loaded: no answer"):
                await client.llm.load_new_instance("qwen3-4b")

        tasks.start_soon(load)
        await begin(server)
        await server.drop()


async def test_lost_load_raises_if_the_server_stays_unreachable(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = both

    @asynccontextmanager
    async def gone(_: str) -> AsyncIterator[Any]:
        raise LMStudioUnreachableError("no server answers")
        yield

    async with anyio.create_task_group() as tasks:

        async def load() -> None:
            with pytest.raises(LMStudioConnectionBrokenError, match="instance was loaded: no server answers"):
                await client.llm.load_new_instance("qwen3-4b")

        tasks.start_soon(load)
        await begin(server)
        monkeypatch.setattr(server, "connect", gone)
        await server.drop()


async def test_error_of_a_lost_answer_holds_the_content_so_far(both: Both) -> None:
    client, server = both
    llm = await loaded_llm(client, server)
    lost: dict[str, str] = {}
    async with anyio.create_task_group() as tasks:

        async def ask(question: str) -> None:
            with pytest.raises(LMStudioConnectionBrokenError) as info:
                await llm.respond(question)
            lost[question] = info.value.content

        for question in ("one", "two"):
            tasks.start_soon(ask, question)
            await server.packet(
                await server.next_message(), type="fragment", fragment={"content": f"{question}!"}
            )
        await server.drop()

    assert lost == {"one": "one!", "two": "two!"}

"""Errors of handles whose instance is gone: why it is gone, and what to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncLLM,
    EmbeddedServer,
    LMStudioInstanceUnloadedError,
    _instance_records,
)
from lmstudio_async._client_limits import DEFAULT_LIMITS
from tests.lifecycle.conftest import NewClient, in_process
from tests.processes import needs_proc, wait_gone, workers
from tests.scripted_server import INSTANCE, MODEL, ScriptedServer, loaded_llm

LLAMA = "llama-3.2-1b-instruct"
QWEN = "qwen3-4b"
NOMIC = "text-embedding-nomic-embed-text-v1.5"

#: LM Studio's error for the reference of an instance that is gone.
UNLOADED = {
    "title": "Model is unloaded.",
    "rootTitle": "Model is unloaded.",
    "displayData": {"code": "generic.specificModelUnloaded"},
}


async def error_of(ask: Callable[[], Awaitable[object]]) -> LMStudioInstanceUnloadedError:
    with pytest.raises(LMStudioInstanceUnloadedError) as caught:
        await ask()
    return caught.value


def tells_what_to_do(error: LMStudioInstanceUnloadedError) -> bool:
    ways = (
        "ensure_instance(model_key)",
        "load_new_instance(model_key)",
        "model(model_key) before each request",
    )
    return all(way in str(error) for way in ways)


# -- the embedded server, which tells why


async def test_error_tells_that_this_client_unloaded_the_instance(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA, "mine")
    await llm.unload()

    for ask in (lambda: llm.respond("Why?"), lambda: llm.tokenize("Why?"), llm.get_info, llm.unload):
        error = await error_of(ask)
        assert "This client has unloaded the instance." in str(error)
        assert tells_what_to_do(error)
        assert error.server_error["cause"] == 'A client unloaded "mine".'


async def test_error_tells_that_this_client_unloaded_the_instance_by_its_identifier(
    client: AsyncClient,
) -> None:
    llm = await client.llm.load_new_instance(LLAMA, "mine")
    await client.llm.unload("mine")

    assert "This client has unloaded the instance." in str(await error_of(lambda: llm.respond("Why?")))


async def test_error_tells_that_another_client_unloaded_the_instance(new_client: NewClient) -> None:
    async with new_client() as client, new_client() as other:
        llm = await client.llm.load_new_instance(LLAMA, "mine")
        await other.llm.unload("mine")

        for ask in (lambda: llm.respond("Why?"), lambda: llm.tokenize("Why?"), llm.unload):
            error = await error_of(ask)
            assert 'A client unloaded "mine".' in str(error)
            assert "This client" not in str(error)
            assert tells_what_to_do(error)


async def test_error_tells_for_which_model_the_instance_was_evicted(client: AsyncClient) -> None:
    llm = await client.llm.model(LLAMA)
    await client.embedding.model(NOMIC)

    error = await error_of(lambda: llm.respond("Why?"))

    assert f'"{LLAMA}" was evicted to make room for "{NOMIC}".' in str(error)
    assert "the server evicts no instance that these have loaded" in str(error)
    assert tells_what_to_do(error)
    assert error.display_data["departure"] == {"reason": "evicted", "evictedFor": NOMIC}


@needs_proc
@in_process
async def test_error_tells_the_ttl_that_has_passed(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA, ttl=0.1)
    for worker in workers():
        await wait_gone(worker)

    error = await error_of(lambda: llm.respond("Still there?"))

    assert "idle for its TTL of 0.1 seconds" in str(error)
    assert "load it with a longer ttl" in str(error)
    assert tells_what_to_do(error)


@needs_proc
async def test_error_tells_that_the_engine_crashed(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA, "mine")
    (worker,) = workers()
    os.kill(worker, signal.SIGKILL)
    await wait_gone(worker)
    while await client.llm.list_loaded():
        pass

    error = await error_of(lambda: llm.respond("Still there?"))

    assert 'The engine of the model "mine" crashed' in str(error)
    assert "SIGKILL" in str(error)
    assert "If the engine crashes again" in str(error)


async def test_error_tells_that_the_server_was_stopped_after_it_was_started_again(models: Path) -> None:
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        llm = await client.llm.load_new_instance(LLAMA)
        await server.aclose()
        await server.start()

        error = await error_of(lambda: llm.respond("Still there?"))

    assert f'"{LLAMA}" was unloaded, because the server was stopped.' in str(error)
    assert tells_what_to_do(error)


async def test_message_of_the_error_has_each_reason_once(client: AsyncClient) -> None:
    llm = await client.llm.load_new_instance(LLAMA, "mine")
    await client.llm.unload("mine")

    message = str(await error_of(lambda: llm.tokenize("Why?")))

    assert message.splitlines()[0] == "Tokenization error: Model is unloaded."
    assert "A client unloaded" not in message
    assert len(message.splitlines()) == 3


# -- a server that tells no reason, as LM Studio


class Clock:
    """The clock by which a client measures how long it has not used an instance."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_instance_records, "time", clock)
    return clock


async def refused(
    server: ScriptedServer, ask: Callable[[], Awaitable[object]], error: object = UNLOADED
) -> LMStudioInstanceUnloadedError:
    """Answer a request with an error; return what is raised."""
    errors: list[LMStudioInstanceUnloadedError] = []

    async def request() -> None:
        errors.append(await error_of(ask))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        message = await server.next_message()
        if "callId" in message:
            await server.say(type="rpcError", callId=message["callId"], error=error)
        else:
            await server.say(type="channelError", channelId=message["channelId"], error=error)
    return errors[0]


async def listed_llm(client: AsyncClient, server: ScriptedServer, **members: Any) -> AsyncLLM:
    """Return a handle of an instance that the server lists."""
    handles: list[AsyncLLM] = []

    async def list_loaded() -> None:
        handles.extend(await client.llm.list_loaded())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(list_loaded)
        await server.answer(await server.next_message(), [INSTANCE | members])
    return handles[0]


async def test_error_without_a_known_reason_names_all_that_may_be() -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await loaded_llm(client, server)

        for ask in (lambda: llm.respond("Why?"), lambda: llm.tokenize("Why?"), llm.get_info):
            error = await refused(server, ask)
            assert "unloaded by a program, idle for its TTL, or evicted by another model" in str(error)
            assert tells_what_to_do(error)


async def test_client_knows_for_which_of_its_loads_the_server_evicted_the_instance() -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await loaded_llm(client, server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.llm.model, "big")
            channel = await server.next_message()
            await server.packet(channel, type="unloadingOtherJITModel", info=INSTANCE)
            big = MODEL | {"modelKey": "big"}
            await server.packet(channel, type="startLoading", identifier="big", info=big)
            loaded = INSTANCE | {"modelKey": "big", "identifier": "big", "instanceReference": "r2"}
            await server.packet(channel, type="loadSuccess", info=loaded)
            await server.close(channel)

        for ask in (lambda: llm.respond("Why?"), lambda: llm.tokenize("Why?")):
            error = await refused(server, ask)
            assert 'The server has evicted the instance to make room for "big".' in str(error)
            assert tells_what_to_do(error)
            assert error.server_error == UNLOADED


async def test_client_knows_that_it_has_unloaded_the_instance() -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await loaded_llm(client, server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.unload)
            await server.answer(await server.next_message(), INSTANCE)
            await server.answer(await server.next_message())

        error = await refused(server, lambda: llm.respond("Why?"))
        assert "This client has unloaded the instance." in str(error)
        assert tells_what_to_do(error)


async def test_client_knows_why_an_instance_is_gone_whose_identifier_another_one_has() -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await loaded_llm(client, server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.llm.unload, llm.identifier)
            await server.answer(await server.next_message())
        errors: list[LMStudioInstanceUnloadedError] = []

        async def unload() -> None:
            errors.append(await error_of(llm.unload))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(unload)
            await server.answer(await server.next_message(), INSTANCE | {"instanceReference": "r2"})

        assert "This client has unloaded the instance." in str(errors[0])


async def test_client_concludes_that_an_instance_is_gone_that_it_did_not_use_for_its_ttl(
    clock: Clock,
) -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await listed_llm(client, server, ttlMs=1500)
        clock.now += 1.4
        assert "probably" not in str(await refused(server, lambda: llm.respond("Why?")))
        clock.now += 1.4

        error = await refused(server, lambda: llm.respond("Why?"))
        assert "not used the instance for 2.8 seconds, longer than its TTL of 1.5 seconds" in str(error)
        assert "so that the server has probably unloaded it" in str(error)
        assert tells_what_to_do(error)


async def test_use_of_an_instance_begins_its_ttl_anew(clock: Clock) -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await listed_llm(client, server, ttlMs=3_600_000)
        clock.now += 3000
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.tokenize, "Hello")
            await server.answer(await server.next_message(), {"tokens": [1]})
        clock.now += 3000
        assert "probably" not in str(await refused(server, lambda: llm.tokenize("Why?")))

        clock.now += 1000
        error = await refused(server, lambda: llm.tokenize("Why?"))
        assert "not used the instance for 4000 seconds, longer than its TTL of 3600 seconds" in str(error)


async def test_a_question_about_an_instance_is_no_use_of_it(clock: Clock) -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await listed_llm(client, server, ttlMs=60_000)
        clock.now += 50
        questions = [(llm.get_info, INSTANCE), (llm.get_processing_state, {"status": "idle", "queued": 0})]
        for ask, result in questions:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await server.answer(await server.next_message(), result)
        clock.now += 50

        error = await refused(server, lambda: llm.respond("Why?"))
        assert "not used the instance for 100 seconds" in str(error)


async def test_a_call_that_is_given_up_is_a_use_of_the_instance(clock: Clock) -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await listed_llm(client, server, ttlMs=3_600_000)
        clock.now += 3000
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(llm.tokenize, "Hello")
            await server.next_message()
            tasks.cancel_scope.cancel()
        clock.now += 3000

        assert "probably" not in str(await refused(server, lambda: llm.tokenize("Why?")))


async def test_a_failed_request_for_several_texts_is_no_use_of_the_instance(clock: Clock) -> None:
    async with ScriptedServer().client() as (client, server):
        llm = await listed_llm(client, server, ttlMs=60_000)
        clock.now += 100
        assert "probably" in str(await refused(server, lambda: llm.tokenize(["One", "Two", "Three"])))
        for _ in range(2):
            await server.next_message()

        assert "probably" in str(await refused(server, lambda: llm.tokenize("Why?")))


async def test_a_new_handle_of_an_instance_is_no_use_of_it(clock: Clock) -> None:
    async with ScriptedServer().client() as (client, server):
        await listed_llm(client, server, ttlMs=60_000)
        clock.now += 50
        llm = await listed_llm(client, server, ttlMs=60_000)
        clock.now += 50

        error = await refused(server, lambda: llm.respond("Why?"))
        assert "not used the instance for 100 seconds" in str(error)


async def test_client_remembers_a_limited_number_of_ttls(clock: Clock) -> None:
    limits = DEFAULT_LIMITS._replace(references_kept=2)
    async with ScriptedServer().client(_limits=limits) as (client, server):
        llms = [
            await listed_llm(client, server, ttlMs=1, instanceReference=reference)
            for reference in ("r1", "r2", "r3")
        ]
        clock.now += 50
        errors = [await refused(server, lambda llm=llm: llm.respond("Why?")) for llm in llms]  # type: ignore[misc]

    assert ["probably" in str(error) for error in errors] == [False, True, True]


async def test_an_instance_without_a_ttl_is_not_taken_for_expired(clock: Clock) -> None:
    async with ScriptedServer().client() as (client, server):
        for ttl_ms in (None, -1, 0, "60", True, 10**400):
            llm = await listed_llm(client, server, ttlMs=ttl_ms, instanceReference=f"r-{ttl_ms!s:.5}")
            clock.now += 100_000
            error = await refused(server, lambda llm=llm: llm.respond("Why?"))  # type: ignore[misc]
            assert "probably" not in str(error), ttl_ms


@pytest.mark.parametrize(
    ("departure", "told"),
    [
        ({"reason": "unloaded"}, "Another client has unloaded the instance."),
        ({"reason": "ttl", "ttlSeconds": 60}, "The instance was idle for its TTL of 60 seconds"),
        ({"reason": "ttl"}, "The instance was idle for its TTL, and"),
        ({"reason": "ttl", "ttlSeconds": 10**400}, "The instance was idle for its TTL, and"),
        ({"reason": "evicted", "evictedFor": "b\x1b[2J"}, r'to make room for "b\x1b[2J"'),
        ({"reason": "evicted", "evictedFor": 5}, "to make room for another model"),
        ({"reason": "crashed"}, "The engine of the instance has crashed."),
        ({"reason": "serverStopped"}, "The server was stopped or restarted"),
        ({"reason": "eaten by a grue"}, "unloaded by a program, idle for its TTL, or evicted"),
        ({"reason": ["unloaded"]}, "unloaded by a program, idle for its TTL, or evicted"),
        ({}, "unloaded by a program, idle for its TTL, or evicted"),
        ("gone", "unloaded by a program, idle for its TTL, or evicted"),
    ],
)
async def test_a_reason_without_a_sentence_of_the_server_is_explained(departure: object, told: str) -> None:
    error = UNLOADED | {"displayData": {"code": "generic.specificModelUnloaded", "departure": departure}}
    async with ScriptedServer().client() as (client, server):
        llm = await loaded_llm(client, server)
        raised = await refused(server, lambda: llm.respond("Why?"), error)
    assert told in str(raised)
    assert tells_what_to_do(raised)


async def test_the_servers_sentence_is_shown_in_place_of_the_clients_own() -> None:
    error = UNLOADED | {
        "cause": "Somebody pulled the plug.",
        "displayData": {
            "code": "generic.specificModelUnloaded",
            "departure": {"reason": "crashed"},
        },
    }
    async with ScriptedServer().client() as (client, server):
        llm = await loaded_llm(client, server)
        message = str(await refused(server, lambda: llm.respond("Why?"), error))
    assert "Somebody pulled the plug." in message
    assert "The engine of the instance has crashed." not in message
    assert "If the engine crashes again" in message

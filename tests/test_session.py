"""Connections, calls and operations, with a scripted server that also misbehaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncLLM,
    LlmInstanceInfo,
    LMStudioAuthenticationError,
    LMStudioCancelledError,
    LMStudioChannelClosedError,
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioError,
    LMStudioProtocolError,
    LMStudioRuntimeError,
    LMStudioTimeoutError,
    LMStudioUnreachableError,
)
from lmstudio_async._client_limits import ClientLimits
from tests.clock import let_pass
from tests.scripted_server import INSTANCE, MODEL, ScriptedServer, list_nothing, losing, until

Both = tuple[AsyncClient, ScriptedServer]


# -- connecting


async def test_nothing_is_connected_before_first_use(both: Both) -> None:
    client, server = both
    _ = client.llm, client.embedding, client.system

    assert server.connections == 0


async def test_concurrent_first_uses_share_one_connection(both: Both) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(client.llm.list_loaded)
        for _ in range(5):
            await server.answer(await server.next_message(), [])

    assert server.connections == 1


async def test_a_refused_authentication_raises_the_reason_of_the_server() -> None:
    refusal = {"success": False, "error": "Invalid passkey"}
    async with ScriptedServer(authentication=refusal).client() as (client, _):
        with pytest.raises(LMStudioAuthenticationError, match="Invalid passkey"):
            await client.llm.list_loaded()


@pytest.mark.parametrize("answer", [[], 5, {"success": "yes"}, {"hello": "world"}])
async def test_an_odd_reply_to_the_authentication_raises_protocol_error(answer: Any) -> None:
    async with ScriptedServer(authentication=answer).client() as (client, _):
        with pytest.raises(LMStudioProtocolError, match="authentication"):
            await client.llm.list_loaded()


async def test_a_missing_reply_to_the_authentication_ends_at_the_deadline() -> None:
    limits = ClientLimits(connect_seconds=0.05)
    async with ScriptedServer(authentication="never").client(_limits=limits) as (client, _):
        with pytest.raises(LMStudioUnreachableError, match=r"0\.05 seconds"):
            await client.llm.list_loaded()


async def test_a_connection_that_failed_is_tried_again_at_the_next_use() -> None:
    server = ScriptedServer(authentication={"success": False})
    async with server.client() as (client, _):
        for attempt in (1, 2):
            with pytest.raises(LMStudioAuthenticationError):
                await client.llm.list_loaded()
            assert server.connections == attempt


# -- losing the connection


async def test_an_idempotent_call_is_retried_after_a_lost_connection(both: Both) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.list_loaded)
        await server.next_message()
        await server.drop()
        await until(lambda: server.connections == 2)
        await server.answer(await server.next_message(), [])


async def test_an_unload_is_not_retried_after_a_lost_connection(both: Both) -> None:
    client, server = both
    async with losing(server):
        with pytest.raises(LMStudioConnectionBrokenError):
            await client.llm.unload("qwen3-4b")

    assert server.connections == 1


async def test_a_load_under_way_fails_when_its_connection_is_lost(both: Both) -> None:
    client, server = both
    async with losing(server), anyio.create_task_group() as tasks:

        async def load() -> None:
            with pytest.raises(LMStudioConnectionBrokenError, match="No such instance is loaded"):
                await client.llm.load_new_instance("qwen3-4b")

        tasks.start_soon(load)
        await until(lambda: server.connections == 2)
        look = await server.next_message()
        assert look["endpoint"] == "listLoaded"
        await server.answer(look, [])


async def test_the_next_use_after_a_loss_makes_a_new_connection(both: Both) -> None:
    client, server = both
    await list_nothing(client, server)
    await server.drop()
    await list_nothing(client, server)

    assert server.connections == 2


# -- timeouts


async def test_a_call_without_an_answer_ends_at_the_timeout() -> None:
    async with ScriptedServer().client(timeout=0.05) as (client, _):
        with pytest.raises(LMStudioTimeoutError, match=r"'listLoaded' within 0\.05 seconds"):
            await client.llm.list_loaded()


async def test_a_silent_load_ends_at_the_timeout_and_is_cancelled_on_the_server() -> None:
    async with ScriptedServer().client(timeout=60) as (client, server), anyio.create_task_group() as tasks:
        error: list[Exception] = []

        async def load() -> None:
            with pytest.raises(
                LMStudioTimeoutError, match="no news from scripted for 60 seconds, at 50%"
            ) as info:
                await client.llm.load_new_instance("qwen3-4b")
            error.append(info.value)

        tasks.start_soon(load)
        channel = await server.next_message()
        await server.packet(channel, type="progress", progress=0.5)
        await let_pass(60)
        assert (await server.next_message())["message"] == {"type": "cancel"}


async def test_a_load_that_reports_progress_outlives_the_timeout() -> None:
    async with ScriptedServer().client(timeout=60) as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.load_new_instance, "qwen3-4b")
        channel = await server.next_message()
        # Progress that a consumer never sees counts too: this load takes longer than the timeout.
        for _ in range(3):
            await let_pass(30)
            await server.packet(channel, type="progress", progress=0.0)
        await let_pass(30)
        await server.packet(channel, type="success", info=INSTANCE)


# -- a program that stands still: in a debugger, in a blocking call, or suspended

HOUR = 3600


async def test_a_call_returns_its_result_after_the_program_stood_still() -> None:
    async with ScriptedServer().client(timeout=60) as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.list_loaded)
        call = await server.next_message()
        await let_pass(HOUR)
        await server.answer(call, [])


async def test_a_load_returns_its_instance_after_the_program_stood_still() -> None:
    async with ScriptedServer().client(timeout=60) as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.load_new_instance, "qwen3-4b")
        channel = await server.next_message()
        await let_pass(HOUR)
        await server.packet(channel, type="progress", progress=0.5)
        await let_pass(HOUR)
        await server.packet(channel, type="success", info=INSTANCE)


@pytest.mark.parametrize("silence", [60, HOUR], ids=["goes on", "stands still again"])
async def test_a_call_still_times_out_after_the_program_stood_still(silence: float) -> None:
    async with ScriptedServer().client(timeout=60) as (client, server), anyio.create_task_group() as tasks:

        async def call() -> None:
            with pytest.raises(LMStudioTimeoutError, match=r"'listLoaded' within 60 seconds"):
                await client.llm.list_loaded()

        tasks.start_soon(call)
        await server.next_message()
        await let_pass(HOUR)
        await let_pass(silence)


# -- odd packets


async def test_a_load_reports_its_progress_and_its_end(both: Both) -> None:
    client, server = both
    seen: list[float] = []
    async with anyio.create_task_group() as tasks:

        async def load() -> None:
            llm = await client.llm.load_new_instance("qwen3-4b", on_progress=seen.append)
            assert llm.info.context_length == 4096

        tasks.start_soon(load)
        channel = await server.next_message()
        await server.packet(channel, type="resolved", info=MODEL)
        # A fraction that goes back is no progress, and must not end the iteration.
        for fraction in (0.5, 0.25, 1.0):
            await server.packet(channel, type="progress", progress=fraction)
            await until(lambda: bool(seen))
        await server.packet(channel, type="success", info=INSTANCE)
        await server.close(channel)

    assert seen[-1] == 1.0
    assert seen == sorted(set(seen))


async def test_a_load_closed_without_a_result_is_an_error(both: Both) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:

        async def load() -> None:
            with pytest.raises(LMStudioChannelClosedError):
                await client.llm.load_new_instance("qwen3-4b")

        tasks.start_soon(load)
        await server.close(await server.next_message())


async def test_a_malformed_packet_is_dropped(both: Both) -> None:
    client, server = both
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.load_new_instance, "qwen3-4b")
        channel = await server.next_message()
        for packet in ({"type": "progress", "progress": "half"}, {"type": "progress"}, {"type": "news"}, {}):
            await server.packet(channel, **packet)
        await server.packet(channel, type="success", info=INSTANCE)


async def test_a_second_request_to_an_unknown_endpoint_fails_at_once(both: Both) -> None:
    client, server = both

    async def ask(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(LMStudioProtocolError, match="unknown endpoint"):
            await call()

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "rpcCall": lambda: client.call("llm", "fooBar"),
        "channelCreate": lambda: client.llm.load_new_instance("qwen3-4b"),
    }
    with anyio.fail_after(10):
        for kind, call in calls.items():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, call)
                name = (await server.next_message())["endpoint"]
                text = f"Received {kind} for unknown endpoint, endpoint = {name}"
                await server.say(type="communicationWarning", warning=text)
            # A server sends five warnings on a connection, and none for the faults after that.
            await ask(call)


# -- wrong use


async def test_a_second_consumer_raises_runtime_error(both: Both) -> None:
    client, server = both
    load = client.llm.load_new_instance_stream("qwen3-4b")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load.wait_for_result)
        channel = await server.next_message()
        with pytest.raises(LMStudioRuntimeError, match="another task"):
            await load.wait_for_result()
        await server.packet(channel, type="success", info=INSTANCE)


async def test_result_before_the_end_raises_an_error_that_names_wait_for_result(both: Both) -> None:
    client, server = both
    async with client.llm.load_new_instance_stream("qwen3-4b") as load:
        with pytest.raises(LMStudioRuntimeError, match="wait_for_result"):
            load.result()
        await server.packet(await server.next_message(), type="success", info=INSTANCE)
        assert await load.wait_for_result() is load.result() is await load.wait_for_result()


async def test_a_closed_operation_cannot_be_started(both: Both) -> None:
    client, _ = both
    load = client.llm.load_new_instance_stream("qwen3-4b")
    await load.aclose()

    with pytest.raises(LMStudioCancelledError):
        await load.wait_for_result()


# -- listing


async def listed(both: Both, answer: Any) -> list[AsyncLLM]:
    """Return the handles that `list_loaded` makes of an answer."""
    client, server = both
    found: list[AsyncLLM] = []
    errors: list[LMStudioError] = []

    async def ask() -> None:
        try:
            found.extend(await client.llm.list_loaded())
        except LMStudioError as error:
            errors.append(error)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await server.answer(await server.next_message(), answer)
    for error in errors:
        raise error
    return found


async def test_a_listed_handle_has_all_fields_that_the_server_sent(both: Both) -> None:
    (llm,) = await listed(both, [INSTANCE | {"brandNew": [1]}])

    assert llm.identifier == INSTANCE["identifier"]
    assert isinstance(llm.info, LlmInstanceInfo)
    assert llm.info.model_key == MODEL["modelKey"]
    assert llm.info.extra == {"brandNew": [1]}
    assert llm.info is llm.info


async def test_an_odd_model_does_not_break_a_list(both: Both) -> None:
    odd = [
        {"type": 5},
        {},
        {"type": "llm", "identifier": 5, "contextLength": "long"},
        {"type": "fromTheFuture"},
    ]
    llm, other = await listed(both, [INSTANCE, *odd])

    assert llm.identifier == INSTANCE["identifier"]
    assert (other.identifier, other.info.context_length) == ("", 0)
    assert other.info.extra == {"identifier": 5, "contextLength": "long"}


@pytest.mark.parametrize("answer", [None, 5, {}, [INSTANCE, 5], [None], [[]]])
async def test_a_result_that_is_no_list_of_objects_is_an_error(both: Both, answer: Any) -> None:
    with pytest.raises(LMStudioProtocolError, match="cannot be read: expected a list of objects"):
        await listed(both, answer)


# -- closing


async def test_a_closed_client_raises_connection_closed_error(both: Both) -> None:
    client, _ = both
    await client.aclose()
    await client.aclose()

    with pytest.raises(LMStudioConnectionClosedError):
        await client.llm.list_loaded()


async def test_client_opens_itself_at_first_use() -> None:
    server = ScriptedServer()
    client = AsyncClient(server)  # type: ignore[arg-type]
    try:
        with pytest.raises(LMStudioRuntimeError, match=r"AsyncClient\.open"):
            _ = client.api_host
        await list_nothing(client, server)
        assert client.api_host == "scripted"
    finally:
        await client.aclose()


async def test_a_client_can_be_closed_by_another_task_than_the_one_that_entered_it() -> None:
    async with ScriptedServer().client() as (client, server):
        await list_nothing(client, server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.aclose)


async def test_an_exception_in_the_block_is_raised_unchanged() -> None:
    with pytest.raises(ZeroDivisionError):
        async with ScriptedServer().client() as (client, server):
            await list_nothing(client, server)
            raise ZeroDivisionError


@pytest.mark.parametrize("request_", ["loadModel", "getModelInfo"])
async def test_a_task_that_is_cancelled_with_its_connection_is_cancelled(request_: str) -> None:
    requests: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
        "loadModel": lambda client: client.llm.load_new_instance("qwen3-4b"),
        "getModelInfo": lambda client: client.llm.get_model_info("qwen3-4b"),
    }
    scope = anyio.CancelScope()

    async def ask(client: AsyncClient) -> None:
        with scope:
            await requests[request_](client)

    async with ScriptedServer().client() as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        await server.next_message()
        # A timeout around the whole client may cancel the connection's task first.
        client._session("llm")._connection.fail(LMStudioConnectionClosedError("The client was closed."))  # type: ignore[union-attr]
        scope.cancel()

    assert scope.cancelled_caught


async def test_leaving_the_client_by_a_timeout_closes_it() -> None:
    server = ScriptedServer()
    scope = anyio.CancelScope()

    async def load() -> None:
        with scope:
            async with server.client() as (client, _):
                await client.llm.load_new_instance("qwen3-4b")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load)
        await server.next_message()
        scope.deadline = anyio.current_time()

    assert scope.cancelled_caught
    assert (await server.next_message())["message"] == {"type": "cancel"}
    with pytest.raises(LMStudioConnectionBrokenError):
        while True:
            # Both the load and the connection may have sent a cancel.
            assert (await server.next_message())["message"] == {"type": "cancel"}

"""`ensure_instance` while servers and other callers interfere between two of its steps; scripted message by message."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    LMStudioConnectionBrokenError,
    LMStudioError,
    LMStudioInstanceUnloadedError,
    LMStudioTimeoutError,
)
from lmstudio_async._transport import ClientTransport, FrameTransport, memory_pair
from tests.clock import let_pass
from tests.scripted_server import INSTANCE, MODEL, ScriptedServer, until

QWEN = "qwen3-4b"


class ScriptedLlms(ScriptedServer):
    """A scripted server of LLMs, which has no embedding models."""

    @asynccontextmanager
    async def connect(self, namespace: str) -> AsyncIterator[ClientTransport]:
        if namespace == "llm":
            async with super().connect(namespace) as transport:
                yield transport
            return
        theirs, ours = memory_pair()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._list_nothing, ours)
            try:
                yield theirs
            finally:
                tasks.cancel_scope.cancel()
                await theirs.aclose()

    async def _list_nothing(self, transport: FrameTransport) -> None:
        await transport.send(json.dumps({"success": True}))
        while True:
            for frame in await transport.receive():
                if (message := json.loads(frame)).get("endpoint") == "listLoaded":
                    answer = {"type": "rpcResult", "callId": message["callId"], "result": []}
                    await transport.send(json.dumps(answer))

    async def expect(self, endpoint: str) -> dict[str, Any]:
        """Return the next message, which must be of this endpoint."""
        message = await self.next_message()
        assert message.get("endpoint") == endpoint, message
        return message

    async def say_gone(self, call: dict[str, Any]) -> None:
        """Answer that the instance is unloaded."""
        gone = {"title": "Model is unloaded.", "displayData": {"code": "generic.specificModelUnloaded"}}
        await self.say(type="rpcError", callId=call["callId"], error=gone)

    async def refuse_name(self) -> None:
        """Have nothing loaded, and refuse to load because the name is in use."""
        await self.answer(await self.expect("listLoaded"), [])
        await self.fail(await self.expect("loadModel"), 'A model with the identifier "mine" already exists.')
        await self.answer(await self.expect("listLoaded"), [])

    async def load(self, **info: Any) -> dict[str, Any]:
        """Have nothing loaded, and load."""
        await self.answer(await self.expect("listLoaded"), [])
        channel = await self.expect("loadModel")
        await self.packet(channel, type="success", info=MINE | info)
        await self.close(channel)
        return channel


MINE = INSTANCE | {"identifier": "mine", "ttlMs": 3_600_000}
CONFIG = {"fields": [{"key": "llm.load.contextLength", "value": 4096}]}
SMALL = {"fields": [{"key": "llm.load.contextLength", "value": 512}]}
USAGE = {"memory": {"totalVramBytes": 0, "totalBytes": 0}, "passesGuardrails": True}
IDLE = {"status": "idle", "queued": 0}


class Ensuring:
    """A task that ensures an instance on a scripted server, with its progress and its outcome."""

    def __init__(self, client: AsyncClient, **arguments: Any) -> None:
        self.fractions: list[float] = []
        self.handle: Any = None
        self.error: Any = None
        self._client = client
        self._arguments = {"on_progress": self.fractions.append} | arguments

    async def run(self) -> None:
        try:
            self.handle = await self._client.llm.ensure_instance(QWEN, "mine", **self._arguments)
        except LMStudioError as error:
            self.error = error


@asynccontextmanager
async def ensuring(
    *, patience: float | None = None, **arguments: Any
) -> AsyncIterator[tuple[Ensuring, ScriptedLlms]]:
    """Ensure an instance named ``mine`` while the block scripts the server, and wait for it.

    :param patience: timeout of the client.
    """
    server = ScriptedLlms()
    # Longer than all times that a test lets pass.
    with anyio.fail_after(600):
        async with server.client(timeout=patience) as (client, _):
            task = Ensuring(client, **arguments)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(task.run)
                yield task, server


async def join(server: ScriptedLlms) -> dict[str, Any]:
    """Return the channel that joins a load. Its config must make the server refuse to load for it."""
    channel = await server.expect("getOrLoad")
    creation = channel["creationParameter"]
    assert creation["identifier"] == "mine"
    (layer,) = creation["loadConfigStack"]["layers"]
    assert layer["config"]["fields"] == [{"key": "llm.load.contextLength", "value": "join a load, or fail"}]
    return channel


async def test_a_load_that_fails_for_another_caller_is_followed_by_a_load_of_its_own() -> None:
    async with ensuring() as (task, server):
        await server.refuse_name()
        channel = await join(server)
        await server.packet(channel, type="startLoading", identifier="mine", info=MODEL)
        await server.packet(channel, type="loadProgress", progress=0.5)
        await until(lambda: task.fractions[-1:] == [0.5])
        await server.fail(channel, "Out of memory")
        await server.load()

    assert task.handle.identifier == "mine"
    assert task.fractions == [0.0, 0.5, 1.0]


async def test_the_error_of_a_load_of_its_own_is_raised() -> None:
    async with ensuring() as (task, server):
        await server.refuse_name()
        await server.fail(await join(server), "Out of memory")
        await server.answer(await server.expect("listLoaded"), [])
        await server.fail(await server.expect("loadModel"), "Out of memory")

    assert "Out of memory" in str(task.error)


async def test_another_instance_of_the_model_is_not_taken_for_the_wanted_one() -> None:
    async with ensuring() as (task, server):
        await server.refuse_name()
        channel = await join(server)
        await server.packet(channel, type="alreadyLoaded", info=MINE | {"identifier": "other"})
        await server.close(channel)
        await server.load()

    assert task.handle.identifier == "mine"


async def test_the_load_of_another_instance_of_the_model_is_left_at_once() -> None:
    async with ensuring() as (task, server):
        await server.refuse_name()
        channel = await join(server)
        await server.packet(channel, type="startLoading", identifier="other", info=MODEL)
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.fail(channel, "Cancelled")
        await server.load()

    assert task.handle.identifier == "mine"


async def test_an_instance_that_the_server_loaded_just_in_time_for_the_join_is_unloaded() -> None:
    async with ensuring() as (task, server):
        await server.refuse_name()
        channel = await join(server)
        accident = MINE | {
            "ttlMs": channel["creationParameter"]["loadTtlMs"],
            "instanceReference": "accident",
        }
        await server.packet(channel, type="startLoading", identifier="mine", info=MODEL)
        await server.packet(channel, type="loadSuccess", info=accident)
        await server.close(channel)
        await server.answer(await server.expect("getInstanceProcessingState"), IDLE)
        await server.answer(await server.expect("getModelInfo"), accident)
        unload = await server.expect("unloadModel")
        assert unload["parameter"]["identifier"] == "mine"
        await server.answer(unload)
        await server.load(instanceReference="own")

    assert task.handle.info.instance_reference == "own"


async def test_a_server_that_does_not_answer_the_join_is_asked_again() -> None:
    async with ensuring() as (task, server):
        await server.refuse_name()
        channel = await join(server)
        await let_pass(11)
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.fail(channel, "Cancelled")
        await server.answer(await server.expect("listLoaded"), [MINE])

    assert task.handle.identifier == "mine"


async def test_a_name_that_nothing_visible_uses_ends_the_call_by_the_timeout() -> None:
    async with ensuring(patience=30) as (task, server):
        for _ in range(3):
            await server.refuse_name()
            await server.fail(await join(server), "No such model")
            await let_pass(20)

    assert isinstance(task.error, LMStudioTimeoutError)
    assert "'mine' is in use" in str(task.error)


async def test_a_load_that_others_try_again_and_again_is_waited_for_beyond_the_timeout() -> None:
    async with ensuring(patience=30) as (task, server):
        for percent in range(1, 6):
            await server.refuse_name()
            channel = await join(server)
            await server.packet(channel, type="startLoading", identifier="mine", info=MODEL)
            await server.packet(channel, type="loadProgress", progress=percent / 100)
            await until(lambda: task.fractions[-1:] == [percent / 100])  # noqa: B023
            await server.fail(channel, "Out of memory")
            await let_pass(20)
        await server.load()

    assert task.handle.identifier == "mine"


async def test_an_instance_that_is_unloaded_before_its_check_is_loaded_anew() -> None:
    async with ensuring(config={"context_length": 4096}) as (task, server):
        await server.answer(await server.expect("listLoaded"), [MINE])
        await server.say_gone(await server.expect("getLoadConfig"))
        await server.load(instanceReference="r2")
        await server.answer(await server.expect("getLoadConfig"), CONFIG)

    assert task.handle.info.instance_reference == "r2"


async def test_an_instance_that_is_unloaded_before_each_check_ends_the_call() -> None:
    """Its TTL may be too short, and an endless loop of loads would be of no use."""
    async with ensuring(config={"context_length": 4096}) as (task, server):
        for _ in range(5):
            await server.load()
            await server.say_gone(await server.expect("getLoadConfig"))
            await let_pass(1)

    assert isinstance(task.error, LMStudioInstanceUnloadedError)


@pytest.mark.parametrize(
    "busy", [{"status": "generating", "queued": 0}, {"status": "idle", "queued": 1}], ids=str
)
async def test_replace_looks_again_until_the_instance_is_idle(busy: dict[str, Any]) -> None:
    async with ensuring(config={"context_length": 4096}, on_mismatch="replace") as (task, server):
        await server.answer(await server.expect("listLoaded"), [MINE])
        await server.answer(await server.expect("getLoadConfig"), SMALL)
        await server.answer(await server.expect("estimateModelUsage"), USAGE)
        for _ in range(10):
            await server.answer(await server.expect("getInstanceProcessingState"), busy)
            await let_pass(1)
        await server.answer(await server.expect("getInstanceProcessingState"), IDLE)
        await server.answer(await server.expect("getModelInfo"), MINE)
        await server.answer(await server.expect("unloadModel"))
        await server.load(instanceReference="r2")
        await server.answer(await server.expect("getLoadConfig"), CONFIG)

    assert task.handle.info.instance_reference == "r2"


async def test_an_instance_on_another_device_is_a_mismatch() -> None:
    async with ensuring(device="laptop") as (task, server):
        await server.answer(await server.expect("listLoaded"), [MINE])

    assert task.error.mismatches == {"device": ("laptop", None)}
    assert "device should be 'laptop', and is the server's own machine" in str(task.error)


async def test_replace_loads_if_the_instance_goes_while_it_is_busy() -> None:
    async with ensuring(config={"context_length": 4096}, on_mismatch="replace") as (task, server):
        await server.answer(await server.expect("listLoaded"), [MINE])
        await server.answer(await server.expect("getLoadConfig"), SMALL)
        await server.answer(await server.expect("estimateModelUsage"), USAGE)
        await server.say_gone(await server.expect("getInstanceProcessingState"))
        await server.load(instanceReference="r2")
        await server.answer(await server.expect("getLoadConfig"), CONFIG)

    assert task.handle.info.instance_reference == "r2"


async def test_replace_unloads_nothing_if_another_caller_has_replaced_the_instance() -> None:
    wanted = {"context_length": 4096}
    async with ensuring(config=wanted, on_mismatch="replace") as (task, server):
        await server.answer(await server.expect("listLoaded"), [MINE])
        await server.answer(await server.expect("getLoadConfig"), SMALL)
        await server.answer(await server.expect("estimateModelUsage"), USAGE)
        await server.answer(await server.expect("getInstanceProcessingState"), IDLE)
        await server.answer(await server.expect("getModelInfo"), MINE | {"instanceReference": "r2"})
        await server.answer(await server.expect("listLoaded"), [MINE | {"instanceReference": "r2"}])
        await server.answer(await server.expect("getLoadConfig"), CONFIG)

    assert task.handle.info.instance_reference == "r2"


async def test_replace_works_on_a_server_without_estimates_and_states() -> None:
    async with ensuring(config={"context_length": 4096}, on_mismatch="replace") as (task, server):
        await server.answer(await server.expect("listLoaded"), [MINE])
        await server.answer(await server.expect("getLoadConfig"), SMALL)
        for endpoint in ("estimateModelUsage", "getInstanceProcessingState"):
            await server.expect(endpoint)
            warning = f"Received rpcCall for unknown endpoint, endpoint = {endpoint}"
            await server.say(type="communicationWarning", warning=warning)
        await server.answer(await server.expect("getModelInfo"), MINE)
        await server.answer(await server.expect("unloadModel"))
        await server.load(instanceReference="r2")
        await server.answer(await server.expect("getLoadConfig"), CONFIG)

    assert task.handle.info.instance_reference == "r2"


async def test_a_server_that_reports_no_context_length_in_the_config_has_it_in_the_info() -> None:
    async with ensuring(config={"context_length": 4096}) as (task, server):
        await server.answer(await server.expect("listLoaded"), [MINE])
        await server.answer(await server.expect("getLoadConfig"), {"fields": []})

    assert task.handle.identifier == "mine"


async def test_a_connection_that_is_lost_during_the_load_is_followed_by_another_look() -> None:
    async with ensuring() as (task, server):
        await server.answer(await server.expect("listLoaded"), [])
        channel = await server.expect("loadModel")
        await server.packet(channel, type="resolved", info=MODEL)
        await until(lambda: bool(task.fractions))
        await server.drop()
        # The look of the load itself finds nothing; then the steps begin anew.
        await server.answer(await server.expect("listLoaded"), [])
        await server.load()

    assert task.handle.identifier == "mine"


async def test_a_second_loss_ends_the_call() -> None:
    async with ensuring() as (task, server):
        for _ in range(2):
            await server.answer(await server.expect("listLoaded"), [])
            await server.expect("loadModel")
            await server.drop()
            await server.answer(await server.expect("listLoaded"), [])

    assert isinstance(task.error, LMStudioConnectionBrokenError)


async def test_a_silent_server_ends_the_call_by_the_timeout() -> None:
    async with ensuring(patience=0.1) as (task, server):
        await server.expect("listLoaded")

    assert isinstance(task.error, LMStudioTimeoutError)


async def test_cancelling_when_the_load_has_just_ended_keeps_the_instance() -> None:
    """Other callers may have found it already."""
    server = ScriptedLlms()
    with anyio.fail_after(20):
        async with server.client() as (client, _), anyio.create_task_group() as tasks:
            stream = client.llm.ensure_instance_stream(QWEN, "mine")
            tasks.start_soon(stream.start)
            await server.answer(await server.expect("listLoaded"), [])
            channel = await server.expect("loadModel")
            tasks.start_soon(stream.cancel)
            assert (await server.next_message())["message"] == {"type": "cancel"}
            await server.packet(channel, type="success", info=MINE)
            await server.close(channel)
        assert await server.nothing_more()


async def test_equal_calls_of_one_client_share_a_request_and_others_do_not() -> None:
    server = ScriptedLlms()
    with anyio.fail_after(20):
        async with server.client() as (client, _), anyio.create_task_group() as tasks:
            for config in (None, None, {"context_length": 512}):
                task = Ensuring(client, config=config)
                tasks.start_soon(task.run)
            looks = [await server.expect("listLoaded") for _ in range(2)]
            for look in looks:
                await server.answer(look, [MINE])
            await server.answer(await server.expect("getLoadConfig"), SMALL)
        assert await server.nothing_more()

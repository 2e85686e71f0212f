"""`model` in several tasks: calls for the same model at the same time share one load, and none of them owns it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import lmstudio_sync
from lmstudio_async import (
    AsyncClient,
    LMStudioChannelClosedError,
    LMStudioConnectionClosedError,
    LMStudioError,
    LMStudioModelNotFoundError,
    LMStudioTimeoutError,
)
from tests.scripted_server import INSTANCE, MODEL, ScriptedServer, until

Both = tuple[AsyncClient, ScriptedServer]

LOADED = {"type": "loadSuccess", "info": INSTANCE}


class Waiter:
    """A task that gets a model, with the progress that it receives and with its outcome."""

    def __init__(self, client: AsyncClient, **arguments: Any) -> None:
        self.scope = anyio.CancelScope()
        self.fractions: list[float] = []
        self.handle: Any = None
        self.error: Exception | None = None
        self.ended = anyio.Event()
        self._client = client
        self._arguments = {"on_progress": self.fractions.append} | arguments

    async def run(self) -> None:
        try:
            with self.scope:
                self.handle = await self._client.llm.model("qwen3-4b", **self._arguments)
        except (LMStudioError, ZeroDivisionError) as error:
            self.error = error
        finally:
            self.ended.set()


@asynccontextmanager
async def loading(both: Both, *waiters: Waiter) -> AsyncIterator[dict[str, Any]]:
    """Start the waiters, and yield the channel of their load when it is half-way."""
    _, server = both
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for waiter in waiters:
                tasks.start_soon(waiter.run)
            channel = await server.next_message()
            assert channel["endpoint"] == "getOrLoad"
            await server.packet(channel, type="startLoading", identifier="qwen3-4b", info=MODEL)
            await server.packet(channel, type="loadProgress", progress=0.5)
            await until(lambda: all(waiter.fractions[-1:] == [0.5] for waiter in waiters))
            yield channel


async def finish(server: ScriptedServer, channel: dict[str, Any]) -> None:
    await server.packet(channel, **LOADED)
    await server.close(channel)


async def heard_after(both: Both) -> list[dict[str, Any]]:
    """Close the client, and return the messages that the server still receives."""
    client, server = both
    await client.aclose()
    heard = []
    with pytest.raises(Exception, match="lost"):
        while True:
            heard.append(await server.next_message())
    return heard


async def test_many_calls_for_one_model_share_one_load(both: Both) -> None:
    client, server = both
    waiters = [Waiter(client) for _ in range(20)]
    async with loading(both, *waiters) as channel:
        await finish(server, channel)

    assert {waiter.handle for waiter in waiters} == {waiters[0].handle}
    assert waiters[0].handle.info.instance_reference == "r1"
    assert [waiter.fractions for waiter in waiters] == [[0.0, 0.5, 1.0]] * 20
    assert await heard_after(both) == []


async def test_a_late_call_first_receives_the_current_progress(both: Both) -> None:
    client, server = both
    early, late = Waiter(client), Waiter(client)
    async with loading(both, early) as channel, anyio.create_task_group() as tasks:
        tasks.start_soon(late.run)
        await until(lambda: bool(late.fractions))
        await finish(server, channel)

    assert late.fractions == [0.5, 1.0]
    assert late.handle == early.handle


async def test_a_slow_callback_delays_no_other_call_and_then_receives_the_latest_progress(both: Both) -> None:
    client, server = both
    slow: list[float] = []
    awake = anyio.Event()

    async def sleep(fraction: float) -> None:
        slow.append(fraction)
        await awake.wait()

    sleeper, other = Waiter(client, on_progress=sleep), Waiter(client)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleeper.run)
            tasks.start_soon(other.run)
            channel = await server.next_message()
            await server.packet(channel, type="startLoading", identifier="qwen3-4b", info=MODEL)
            for fraction in (0.2, 0.4, 0.6):
                await server.packet(channel, type="loadProgress", progress=fraction)
                await until(lambda: other.fractions[-1:] == [fraction])  # noqa: B023
            await finish(server, channel)
            await other.ended.wait()
            awake.set()

    assert slow == [0.0, 1.0]
    assert sleeper.handle == other.handle


async def test_cancelled_calls_leave_the_load_to_the_others(both: Both) -> None:
    client, server = both
    waiters = [Waiter(client) for _ in range(3)]
    async with loading(both, *waiters) as channel:
        for waiter in waiters[:2]:
            waiter.scope.cancel()
            await waiter.ended.wait()
        await finish(server, channel)

    assert [waiter.handle is None for waiter in waiters] == [True, True, False]
    assert await heard_after(both) == []


async def test_cancelling_the_last_call_cancels_the_load_and_waits_for_its_end(
    both: Both,
) -> None:
    client, server = both
    waiters = [Waiter(client) for _ in range(3)]
    async with loading(both, *waiters) as channel:
        for waiter in waiters:
            waiter.scope.cancel()
        assert (await server.next_message())["message"] == {"type": "cancel"}
        assert [waiter.ended.is_set() for waiter in waiters].count(False) == 1
        await server.fail(channel, "Cancelled")

    assert await heard_after(both) == []


async def test_a_call_while_the_load_is_being_cancelled_starts_another_load(both: Both) -> None:
    client, server = both
    first, second = Waiter(client), Waiter(client)
    async with loading(both, first) as channel, anyio.create_task_group() as tasks:
        first.scope.cancel()
        assert (await server.next_message())["message"] == {"type": "cancel"}
        tasks.start_soon(second.run)
        again = await server.next_message()
        assert again["endpoint"] == "getOrLoad"
        await server.fail(channel, "Cancelled")
        await finish(server, again)

    assert second.handle.identifier == "qwen3-4b"


async def test_a_callback_that_raises_ends_its_own_call_only(both: Both) -> None:
    client, server = both

    def refuse(fraction: float) -> None:
        if fraction == 0.5:
            raise ZeroDivisionError

    one, other = Waiter(client, on_progress=refuse), Waiter(client)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.run)
            tasks.start_soon(other.run)
            channel = await server.next_message()
            await server.packet(channel, type="startLoading", identifier="qwen3-4b", info=MODEL)
            await until(lambda: bool(other.fractions))
            await server.packet(channel, type="loadProgress", progress=0.5)
            await one.ended.wait()
            await finish(server, channel)

    assert isinstance(one.error, ZeroDivisionError)
    assert other.handle.identifier == "qwen3-4b"
    assert await heard_after(both) == []


async def test_a_failed_load_raises_an_error_of_its_own_in_each_call(both: Both) -> None:
    client, server = both
    waiters = [Waiter(client) for _ in range(3)]
    data = {"code": "generic.pathNotFound", "path": "qwen3-4b", "availablePathsSample": ["phi-4"]}
    async with loading(both, *waiters) as channel:
        await server.say(
            type="channelError",
            channelId=channel["channelId"],
            error={"title": "not found", "displayData": data},
        )

    errors = [waiter.error for waiter in waiters]
    for error in errors:
        assert isinstance(error, LMStudioModelNotFoundError)
        assert error.candidates == ["phi-4"]
    assert len({id(error) for error in errors}) == 3


async def test_the_next_call_after_a_failed_load_starts_another_load(both: Both) -> None:
    client, server = both
    first, second = Waiter(client), Waiter(client)
    async with loading(both, first) as channel:
        await server.close(channel)
    async with loading(both, second) as channel:
        await finish(server, channel)

    assert isinstance(first.error, LMStudioChannelClosedError)
    assert second.handle.identifier == "qwen3-4b"


async def test_the_timeout_of_a_shared_load_ends_every_call() -> None:
    async with ScriptedServer().client(timeout=0.1) as (client, server), anyio.create_task_group() as tasks:
        waiters = [Waiter(client) for _ in range(3)]
        for waiter in waiters:
            tasks.start_soon(waiter.run)
        await server.next_message()
        assert (await server.next_message())["message"] == {"type": "cancel"}
        for waiter in waiters:
            await waiter.ended.wait()

    assert [type(waiter.error) for waiter in waiters] == [LMStudioTimeoutError] * 3


async def test_closing_the_client_ends_every_call_of_a_shared_load(both: Both) -> None:
    client, _ = both
    waiters = [Waiter(client) for _ in range(3)]
    async with loading(both, *waiters):
        await client.aclose()

    assert [type(waiter.error) for waiter in waiters] == [LMStudioConnectionClosedError] * 3


async def test_a_call_that_outlives_the_owner_of_the_client_raises_closed_error(both: Both) -> None:
    server = ScriptedServer()
    owner = anyio.CancelScope()
    entered: list[AsyncClient] = []

    async def own() -> None:
        with owner:
            async with server.client() as (client, _):
                entered.append(client)
                await anyio.sleep_forever()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(own)
            await until(lambda: bool(entered))
            waiter = Waiter(entered[0])
            tasks.start_soon(waiter.run)
            await server.next_message()
            owner.cancel()

    assert isinstance(waiter.error, LMStudioConnectionClosedError)


@pytest.mark.parametrize(
    "other",
    [{"ttl": 60}, {"config": {"context_length": 512}}, {"device": "desk"}],
    ids=lambda each: next(iter(each)),
)
async def test_a_call_with_other_arguments_starts_another_load(both: Both, other: dict[str, Any]) -> None:
    client, server = both
    waiters = [Waiter(client), Waiter(client, **other)]
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for waiter in waiters:
                tasks.start_soon(waiter.run)
            for channel in [await server.next_message() for _ in waiters]:
                assert channel["endpoint"] == "getOrLoad"
                await finish(server, channel)


async def test_a_call_for_another_kind_of_model_starts_another_load(both: Both) -> None:
    client, server = both
    llm = Waiter(client)
    async with loading(both, llm), anyio.create_task_group() as tasks:
        tasks.start_soon(client.embedding.model, "qwen3-4b")
        await until(lambda: server.connections == 2)
        await finish(server, await server.next_message())
        await client.aclose()

    assert isinstance(llm.error, LMStudioConnectionClosedError)


async def test_new_instances_and_streams_are_not_shared(both: Both) -> None:
    client, server = both
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(client.llm.load_new_instance, "qwen3-4b")
                tasks.start_soon(client.llm.model_stream("qwen3-4b").wait_for_result)
            for _ in range(4):
                channel = await server.next_message()
                kind = "success" if channel["endpoint"] == "loadModel" else "loadSuccess"
                await server.packet(channel, type=kind, info=INSTANCE)


async def test_a_shared_load_that_outlives_its_connection_succeeds_for_every_call(both: Both) -> None:
    client, server = both
    waiters = [Waiter(client) for _ in range(3)]
    async with loading(both, *waiters):
        await server.drop()
        await until(lambda: server.connections == 2)
        look = await server.next_message()
        assert look["endpoint"] == "getModelInfo"
        await server.answer(look, INSTANCE)

    assert [waiter.handle.identifier for waiter in waiters] == ["qwen3-4b"] * 3
    assert await heard_after(both) == []


# -- threads


class Threads:
    """Threads of one blocking client that get the same model, from a server in the client's event loop."""

    def __init__(self, backend: Any, then: Callable[[], None]) -> None:
        self.server = ScriptedServer()
        self.client = lmstudio_sync.Client(self.server, backend=backend)  # type: ignore[arg-type]
        self.handles: list[lmstudio_sync.LLM] = []
        self.errors: list[Exception] = []
        self.half_way = threading.Barrier(4)
        self.own = True
        self._then = then
        self._threads = [threading.Thread(target=self._get) for _ in range(3)]

    def _get(self) -> None:
        thread = threading.current_thread()

        def tell(fraction: float) -> None:
            self.own = self.own and threading.current_thread() is thread
            if fraction == 0.5:
                self.half_way.wait(20)
                self._then()

        try:
            self.handles.append(self.client.llm.model("qwen3-4b", on_progress=tell))
        except (LMStudioError, ZeroDivisionError) as error:
            self.errors.append(error)

    def start(self) -> dict[str, Any]:
        """Start the threads, and return the channel of their load when it is half-way."""
        for thread in self._threads:
            thread.start()
        channel: dict[str, Any] = self.call(self.server.next_message)
        self.call(self.server.packet, channel, type="loadProgress", progress=0.5)
        self.half_way.wait(20)
        return channel

    def call(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **packet: Any) -> Any:
        return self.client._bridge.call(function(*args, **packet))

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_threads_of_one_blocking_client_share_a_load(backend: Any) -> None:
    threads = Threads(backend, then=lambda: None)
    with threads.client:
        threads.call(finish, threads.server, threads.start())
        threads.join()

    assert threads.own
    assert len(threads.handles) == 3
    assert len(set(threads.handles)) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_last_thread_that_leaves_cancels_the_load(backend: Any) -> None:
    def leave() -> None:
        raise ZeroDivisionError

    threads = Threads(backend, then=leave)
    with threads.client:
        channel = threads.start()
        assert threads.call(threads.server.next_message)["message"] == {"type": "cancel"}
        threads.call(threads.server.fail, channel, "Cancelled")
        threads.join()

    assert [type(error) for error in threads.errors] == [ZeroDivisionError] * 3

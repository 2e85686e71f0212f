"""Every way to abandon a load leaves nothing behind: no instance, no identifier in use, no process, no memory.

Each way starts a load, and abandons it at its first progress, where the fixture ``held_loads`` keeps it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    AsyncLLM,
    AsyncLoadStream,
    LMStudioCancelledError,
    LMStudioConnectionClosedError,
)
from tests.lifecycle.conftest import NewClient, in_process
from tests.processes import HeldLoads, hold_loads, memory_mb, needs_proc, wait_gone, workers

Leave: TypeAlias = Callable[[], None]
"""Callback for the moment before a load is abandoned; it records the worker of the load."""
WayOut: TypeAlias = Callable[[AsyncClient, Leave], Awaitable[None]]

pytestmark = needs_proc


def big(client: AsyncClient) -> AsyncLoadStream[AsyncLLM]:
    return client.llm.load_new_instance_stream("big", "mine")


async def moving(loading: AsyncLoadStream[AsyncLLM]) -> None:
    """Wait until the load has begun to read the weights."""
    async for progress in loading:
        if progress.fraction:
            return


async def cancel(client: AsyncClient, leave: Leave) -> None:
    async with big(client) as loading:
        await moving(loading)
        leave()
        await loading.cancel()
        assert await client.llm.list_loaded() == []
        with pytest.raises(LMStudioCancelledError):
            await loading.wait_for_result()


async def leave_the_block(client: AsyncClient, leave: Leave) -> None:
    async with big(client) as loading:
        await moving(loading)
        leave()
    with pytest.raises(LMStudioCancelledError):
        loading.result()


async def leave_the_block_by_an_exception(client: AsyncClient, leave: Leave) -> None:
    with pytest.raises(ZeroDivisionError):
        async with big(client) as loading:
            await moving(loading)
            leave()
            raise ZeroDivisionError


async def break_the_loop(client: AsyncClient, leave: Leave) -> None:
    with pytest.warns(ResourceWarning, match="dropped half-way"):  # noqa: PT031
        async for progress in big(client):
            if progress.fraction:
                leave()
                break
        gc.collect()


async def raise_in_the_callback(client: AsyncClient, leave: Leave) -> None:
    async def refuse(fraction: float) -> None:
        if fraction:
            leave()
            raise OverflowError("no room")

    with pytest.raises(OverflowError, match="no room"):
        await client.llm.load_new_instance("big", "mine", on_progress=refuse)


async def time_out(client: AsyncClient, leave: Leave) -> None:
    with anyio.move_on_after(30) as scope:

        def hurry(fraction: float) -> None:
            if fraction:
                leave()
                scope.deadline = anyio.current_time()

        await client.llm.load_new_instance("big", "mine", on_progress=hurry)
    assert scope.cancelled_caught


async def cancel_the_task(client: AsyncClient, leave: Leave) -> None:
    async with anyio.create_task_group() as tasks:
        is_moving = anyio.Event()

        async def load() -> None:
            await client.llm.load_new_instance(
                "big", "mine", on_progress=lambda fraction: is_moving.set() if fraction else None
            )

        tasks.start_soon(load)
        await is_moving.wait()
        leave()
        tasks.cancel_scope.cancel()


async def close_the_client(client: AsyncClient, leave: Leave) -> None:
    async with anyio.create_task_group() as tasks:
        is_moving = anyio.Event()

        async def load() -> None:
            with pytest.raises(LMStudioConnectionClosedError):
                await client.llm.load_new_instance(
                    "big", "mine", on_progress=lambda fraction: is_moving.set() if fraction else None
                )

        tasks.start_soon(load)
        await is_moving.wait()
        leave()
        await client.aclose()


WAYS: list[WayOut] = [
    cancel,
    leave_the_block,
    leave_the_block_by_an_exception,
    break_the_loop,
    raise_in_the_callback,
    time_out,
    cancel_the_task,
    close_the_client,
]


async def take(way_out: WayOut, new_client: NewClient) -> int:
    """Abandon a load in this way, and wait until its worker has ended."""
    loading: set[int] = set()
    with anyio.fail_after(30):
        async with new_client() as client:
            await way_out(client, lambda: loading.update(workers()))
            (worker,) = loading
            await wait_gone(worker)
    return worker


@pytest.mark.parametrize("way_out", WAYS, ids=lambda way: way.__name__)
async def test_an_abandoned_load_leaves_no_instance_identifier_or_worker(
    way_out: WayOut, new_client: NewClient, held_loads: HeldLoads
) -> None:
    worker = await take(way_out, new_client)

    held_loads.hold_no_more()
    async with new_client() as client:
        assert await client.list_loaded_models() == []
        again = await client.llm.load_new_instance("qwen3-4b", "mine")
        assert again.identifier == "mine"
        assert worker not in workers()
        assert len(workers()) == 1


async def test_leaving_the_block_waits_until_the_worker_is_gone(
    client: AsyncClient, held_loads: HeldLoads
) -> None:
    async with big(client) as loading:
        await moving(loading)
        assert len(workers()) == 1

    assert workers() == set()


async def test_an_abandoned_load_releases_its_memory(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_loads(monkeypatch, lambda worker: memory_mb(worker) > 100)
    has = 0.0
    # Without mmap the weights are read into the worker's own memory.
    async with client.llm.load_new_instance_stream("big", config={"try_mmap": False}) as loading:
        async for progress in loading:
            if progress.fraction:
                (worker,) = workers()
                has = memory_mb(worker)
                if has > 100:
                    break
    assert has > 100
    with pytest.raises(LMStudioCancelledError):
        loading.result()

    with pytest.raises(FileNotFoundError):
        memory_mb(worker)


@in_process
async def test_the_memory_of_the_server_does_not_grow_with_abandoned_loads(
    new_client: NewClient, held_loads: HeldLoads
) -> None:
    for way_out in WAYS[:4]:
        await take(way_out, new_client)
    gc.collect()
    before = memory_mb()
    for way_out in itertools.islice(itertools.cycle(WAYS), 10):
        await take(way_out, new_client)
    gc.collect()

    assert memory_mb() - before < 8


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("how", ["task.cancel()", "asyncio.timeout()"])
async def test_cancellation_by_asyncio_abandons_a_load(
    how: str, new_client: NewClient, held_loads: HeldLoads
) -> None:
    async def leave_it(client: AsyncClient, leave: Leave) -> None:
        is_moving = asyncio.Event()
        load = client.llm.load_new_instance(
            "big", "mine", on_progress=lambda fraction: is_moving.set() if fraction else None
        )
        if how == "task.cancel()":
            task = asyncio.create_task(load)
            await is_moving.wait()
            leave()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return

        async def expire(deadline: asyncio.Timeout) -> None:
            await is_moving.wait()
            leave()
            deadline.reschedule(asyncio.get_running_loop().time())

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as deadline, asyncio.TaskGroup() as tasks:
                tasks.create_task(expire(deadline))
                await load

    await take(leave_it, new_client)

    async with new_client() as client:
        assert await client.list_loaded_models() == []


async def test_a_shared_load_goes_on_after_one_of_two_callers_left(
    client: AsyncClient, new_client: NewClient, held_loads: HeldLoads
) -> None:
    async with new_client() as other, anyio.create_task_group() as tasks:
        handles: list[AsyncLLM] = []
        is_moving = anyio.Event()

        async def stay() -> None:
            handles.append(await client.llm.model("big", on_progress=lambda _: is_moving.set()))

        tasks.start_soon(stay)
        await is_moving.wait()
        async with other.llm.model_stream("big") as loading:
            await moving(loading)
        held_loads.let_go()

    assert handles == await client.llm.list_loaded()

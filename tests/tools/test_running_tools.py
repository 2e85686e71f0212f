"""Tools during `act`: their threads, their context, their number at once, and their end."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.from_thread
import pytest

from lmstudio_async import (
    AsyncLLM,
    LMStudioConnectionClosedError,
    ToolFunctionDef,
)
from tests.scripted_server import ScriptedServer, until
from tests.tools.conversation import acting, answer, answer_and_close, call, results_of


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# -- running


async def test_plain_tools_run_in_worker_threads(llm: AsyncLLM, server: ScriptedServer) -> None:
    threads: list[int] = []

    def plain() -> None:
        """Do something."""
        threads.append(threading.get_ident())

    async def within() -> None:
        """Do something."""
        threads.append(threading.get_ident())

    async with acting(llm, [plain, within]):
        await answer_and_close(server, call("plain"), call("within"))
        await answer_and_close(server, "Done")

    assert threads[0] != threading.get_ident() == threads[1]


who: ContextVar[str] = ContextVar("who", default="nobody")


async def test_tools_see_the_context_of_the_caller(llm: AsyncLLM, server: ScriptedServer) -> None:
    def plain() -> str:
        """Tell who it is."""
        return who.get()

    async def within() -> str:
        """Tell who it is."""
        return who.get()

    token = who.set("somebody")
    try:
        async with acting(llm, [plain, within]):
            await answer_and_close(server, call("plain"), call("within"))
            second = await answer_and_close(server, "Done")
    finally:
        who.reset(token)

    assert results_of(second) == ['"somebody"', '"somebody"']


async def test_a_tool_that_awaits_a_cancelled_task_has_failed(
    llm: AsyncLLM, server: ScriptedServer, anyio_backend: str
) -> None:
    if anyio_backend != "asyncio":
        pytest.skip("only asyncio has tasks that any other task may cancel")

    async def wait() -> None:
        """Wait for something."""
        other = asyncio.ensure_future(asyncio.sleep(60))
        other.cancel()
        await other

    async with acting(llm, [wait]) as outcome:
        await answer_and_close(server, call("wait"))
        second = await answer_and_close(server, "Sorry.")

    assert "CancelledError" in results_of(second)[0]
    assert outcome.result.rounds == 2


async def test_an_awaitable_that_a_plain_tool_returns_is_awaited(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    async def later() -> str:
        return "now"

    tool = ToolFunctionDef("later", "Later", {}, lambda: later())  # noqa: PLW0108 - a plain function
    async with acting(llm, [tool]):
        await answer_and_close(server, call("later"))
        second = await answer_and_close(server, "Done")

    assert results_of(second) == ['"now"']


async def test_a_tool_begins_before_the_prediction_ends(llm: AsyncLLM, server: ScriptedServer) -> None:
    began = anyio.Event()

    async def tool() -> None:
        """Begin."""
        began.set()

    async with acting(llm, [tool]):
        channel = await answer(server, call("tool"))
        await began.wait()
        await server.packet(channel, type="success", stats={})
        await server.close(channel)
        await answer_and_close(server, "Done")


class Counter:
    """A tool whose calls run until their events are set, with counts of the calls."""

    def __init__(self) -> None:
        self.running: list[int] = []
        self.most = 0
        self.order: list[int] = []
        self.ends: dict[int, anyio.Event] = {}

    async def work(self, number: int) -> int:
        """Work."""
        self.ends[number] = anyio.Event()
        self.order.append(number)
        self.running.append(number)
        self.most = max(self.most, len(self.running))
        try:
            await self.ends[number].wait()
        finally:
            self.running.remove(number)
        return number


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_no_more_tools_run_at_once_than_the_limit_allows(
    llm: AsyncLLM, server: ScriptedServer, limit: int
) -> None:
    counter = Counter()
    async with acting(llm, [counter.work], max_parallel_tool_calls=limit):
        await answer_and_close(server, *(call("work", n, number=n) for n in range(6)))
        for done in range(6):
            await until(lambda done=done: len(counter.running) == min(limit, 6 - done))  # type: ignore[misc]
            # The call that began last ends first.
            last = counter.running[-1]
            counter.ends[last].set()
            await until(lambda last=last: last not in counter.running)  # type: ignore[misc]
        second = await answer_and_close(server, "Done")

    assert counter.most == limit
    assert counter.order == [0, 1, 2, 3, 4, 5]
    assert results_of(second) == ["0", "1", "2", "3", "4", "5"]


async def test_one_tool_runs_at_a_time_by_default(llm: AsyncLLM, server: ScriptedServer) -> None:
    counter = Counter()
    async with acting(llm, [counter.work]):
        await answer_and_close(server, *(call("work", n, number=n) for n in range(3)))
        for n in range(3):
            await until(lambda n=n: counter.running == [n])  # type: ignore[misc]
            counter.ends[n].set()
            await until(lambda n=n: n not in counter.running)  # type: ignore[misc]
        await answer_and_close(server, "Done")

    assert counter.most == 1


async def test_without_a_limit_all_tools_of_a_round_run_at_once(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    counter = Counter()
    async with acting(llm, [counter.work], max_parallel_tool_calls=None):
        await answer_and_close(server, *(call("work", n, number=n) for n in range(50)))
        await until(lambda: len(counter.running) == 50)
        for n in reversed(range(50)):
            counter.ends[n].set()
        second = await answer_and_close(server, "Done")

    assert results_of(second) == [str(n) for n in range(50)]


async def test_without_a_limit_plain_tools_of_a_round_run_at_once(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    barrier = threading.Barrier(50)

    def meet() -> None:
        """Wait until all threads are there."""
        barrier.wait(20)

    async with acting(llm, [meet], max_parallel_tool_calls=None):
        await answer_and_close(server, *(call("meet", n) for n in range(50)))
        second = await answer_and_close(server, "Done")

    assert results_of(second) == ["null"] * 50


# -- cancelling and closing


async def test_cancellation_cancels_the_tools_that_run(llm: AsyncLLM, server: ScriptedServer) -> None:
    counter = Counter()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: llm.act("go", [counter.work], max_parallel_tool_calls=2))
            await answer_and_close(server, *(call("work", n, number=n) for n in range(3)))
            await until(lambda: len(counter.running) == 2)
            tasks.cancel_scope.cancel()

    assert counter.running == []
    assert counter.order == [0, 1]


async def test_cancellation_does_not_wait_for_a_plain_tool(llm: AsyncLLM, server: ScriptedServer) -> None:
    began, release = anyio.Event(), threading.Event()

    def block() -> None:
        """Block."""
        anyio.from_thread.run_sync(began.set)
        release.wait(60)

    try:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(llm.act, "go", [block])
                await answer_and_close(server, call("block"))
                await began.wait()
                tasks.cancel_scope.cancel()
    finally:
        release.set()


async def test_cancellation_cancels_the_prediction_on_the_server(
    llm: AsyncLLM, server: ScriptedServer
) -> None:
    fragments = 0

    def count(*_: Any) -> None:
        nonlocal fragments
        fragments += 1

    cancelled: list[Any] = []

    async def serve() -> None:
        channel = await answer(server, "on and on")
        await until(lambda: fragments == 1)
        scope.cancel()
        cancelled.append((await server.next_message())["message"])
        await server.close(channel)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(serve)
                await llm.act("go", [add], on_prediction_fragment=count)

    assert scope.cancelled_caught
    assert cancelled == [{"type": "cancel"}]


async def test_closing_the_client_ends_an_act_with_one_error(llm: AsyncLLM, server: ScriptedServer) -> None:
    async with acting(llm, [add]) as outcome:
        await answer(server, "on and on")
        llm._session.close_soon()
        await llm._session.wait_closed()

    assert isinstance(outcome.error, LMStudioConnectionClosedError)


async def test_system_exit_in_a_tool_is_raised(llm: AsyncLLM, server: ScriptedServer) -> None:
    async def leave() -> None:
        """Leave."""
        raise SystemExit(3)

    async def serve() -> None:
        channel = await answer(server, call("leave"))
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.close(channel)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            with pytest.raises(SystemExit):
                await llm.act("go", [leave])

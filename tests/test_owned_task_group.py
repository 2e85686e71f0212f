"""`OwnedTaskGroup`, the task that holds a client's task group: its start, and each way in which it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
from threading import Thread

import anyio
import pytest

from lmstudio_async import LMStudioConnectionClosedError, LMStudioRuntimeError
from lmstudio_async._owned_task_group import OwnedTaskGroup


def group() -> OwnedTaskGroup:
    return OwnedTaskGroup("client", "Owner('here')", "program.py:1")


async def fail() -> None:
    raise ZeroDivisionError


async def live(ended: anyio.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        ended.set()


async def test_group_is_opened_and_closed_by_different_tasks() -> None:
    one, other = group(), group()
    cleaned_up: list[str] = []

    async def live(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                cleaned_up.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.open)
        tasks.start_soon(other.open)
    one.start_soon(live, "one")
    other.start_soon(live, "other")
    await anyio.wait_all_tasks_blocked()
    async with anyio.create_task_group() as tasks:
        # Close the first group first, because the order does not matter.
        tasks.start_soon(one.aclose)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(other.aclose)

    assert cleaned_up == ["one", "other"]
    await one.aclose()
    with pytest.raises(LMStudioConnectionClosedError, match="Make a new one"):
        one.start_soon(fail)


async def test_failed_task_is_logged_and_raised_by_check_and_aclose(caplog: pytest.LogCaptureFixture) -> None:
    tasks = group()
    await tasks.open()
    ended = anyio.Event()
    tasks.start_soon(live, ended)
    with caplog.at_level(logging.ERROR, logger="lmstudio_async"):
        tasks.start_soon(fail)
        # A task that fails cancels the others.
        await ended.wait()
        await anyio.wait_all_tasks_blocked()

    assert "Owner('here'): a background task failed" in caplog.text
    with pytest.raises(LMStudioRuntimeError, match="ZeroDivisionError.*Make a new one") as caught:
        tasks.check()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        await tasks.aclose()
    await tasks.aclose()


async def test_work_from_another_thread_starts_in_the_group() -> None:
    tasks = group()
    await tasks.open()
    done = anyio.Event()

    async def work() -> None:
        done.set()

    thread = Thread(target=tasks.run_soon, args=(work,))
    thread.start()
    with anyio.fail_after(20):
        await done.wait()
    thread.join()
    await tasks.aclose()


async def test_forgotten_group_ends_its_tasks() -> None:
    tasks = group()
    await tasks.open()
    ended = anyio.Event()
    tasks.start_soon(live, ended)
    await anyio.wait_all_tasks_blocked()
    with pytest.warns(ResourceWarning, match=r"Owner\('here'\), made at program\.py:1, was not closed"):  # noqa: PT031
        del tasks
        gc.collect()
    with anyio.fail_after(20):
        await ended.wait()


async def test_cancelled_open_leaves_no_open_group() -> None:
    tasks = group()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await tasks.open()

    assert scope.cancelled_caught
    with pytest.raises(LMStudioConnectionClosedError):
        tasks.check()


def test_group_of_an_event_loop_that_has_ended_is_closed_from_the_next_one() -> None:
    async def leave_it_open() -> OwnedTaskGroup:
        tasks = group()
        await tasks.open()
        return tasks

    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(leave_it_open())

    # The loop is not closed yet, and could go on: `aclose` asks the group to end, and raises an error here.
    with pytest.raises(LMStudioRuntimeError, match="event loop"):
        asyncio.run(tasks.aclose())
    with pytest.raises(LMStudioRuntimeError, match="Make a client in each"):
        asyncio.run(_check(tasks))
    loop.run_until_complete(tasks.aclose())
    loop.close()
    asyncio.run(tasks.aclose())


async def _check(tasks: OwnedTaskGroup) -> None:
    tasks.check()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_interrupt_in_a_task_is_raised_in_the_main_task() -> None:
    tasks = group()
    await tasks.open()

    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tasks.start_soon(interrupted)
        await anyio.sleep_forever()
    await tasks.aclose()

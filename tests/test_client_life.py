"""The life of a client: any task may open and close it, in any order."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    EmbeddedServer,
    LMStudioConnectionClosedError,
    LMStudioRuntimeError,
    LMStudioValueError,
)
from tests.scripted_server import until

T = TypeVar("T")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(tmp_path, threads=1) as server:
        yield server


async def in_another_task(work: Callable[[], Awaitable[T]]) -> T:
    """Await the work in a task of its own, which ends with this call."""
    results: list[T] = []

    async def run() -> None:
        results.append(await work())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
    return results[0]


def is_closed(client: AsyncClient) -> bool:
    try:
        _ = client.llm
    except LMStudioConnectionClosedError:
        return True
    return False


# -- any task, any order


async def test_a_client_is_opened_by_one_task_and_closed_by_another(
    server: EmbeddedServer, no_task_is_left: None
) -> None:
    client = await in_another_task(lambda: AsyncClient.open(server))
    assert await client.llm.list_loaded() == []
    await in_another_task(client.aclose)

    with pytest.raises(LMStudioConnectionClosedError, match="Make a new one"):
        await client.llm.list_loaded()


async def test_a_client_is_entered_by_one_task_and_left_by_another(
    server: EmbeddedServer, no_task_is_left: None
) -> None:
    client = AsyncClient(server)
    await in_another_task(client.__aenter__)
    assert await client.llm.list_loaded() == []
    await in_another_task(lambda: client.__aexit__(None, None, None))

    assert is_closed(client)


async def test_a_server_is_entered_by_one_task_and_left_by_another(
    tmp_path: Path, no_task_is_left: None
) -> None:
    server = EmbeddedServer(tmp_path, threads=1)
    await in_another_task(server.__aenter__)
    async with AsyncClient(server) as client:
        assert await client.llm.list_loaded() == []
        await in_another_task(lambda: server.__aexit__(None, None, None))

    assert not server.is_running


async def test_a_server_is_started_by_one_task_and_closed_by_another(
    tmp_path: Path, no_task_is_left: None
) -> None:
    server = await in_another_task(EmbeddedServer(tmp_path, threads=1).start)
    async with AsyncClient(server) as client:
        assert await client.llm.list_loaded() == []
        await in_another_task(server.aclose)
        await server.aclose()

    assert not server.is_running


async def test_the_server_that_was_started_first_is_closed_first(
    tmp_path: Path, no_task_is_left: None
) -> None:
    first = await EmbeddedServer(tmp_path, threads=1).start()
    second = await EmbeddedServer(tmp_path, threads=1).start()
    await first.aclose()
    async with AsyncClient(second) as client:
        assert await client.llm.list_loaded() == []
        await second.aclose()

    assert not second.is_running


async def test_a_server_that_was_closed_is_started_again(tmp_path: Path, no_task_is_left: None) -> None:
    server = EmbeddedServer(tmp_path, threads=1)
    for _ in range(2):
        await server.start()
        async with AsyncClient(server) as client:
            assert await client.llm.list_loaded() == []
        await server.aclose()


async def test_the_client_that_was_opened_first_is_closed_first(
    server: EmbeddedServer, no_task_is_left: None
) -> None:
    first = await AsyncClient.open(server)
    second = await AsyncClient.open(server)
    await first.aclose()
    third = await AsyncClient.open(server)
    await second.aclose()
    assert await third.llm.list_loaded() == []
    await third.aclose()


async def test_a_client_may_be_opened_and_closed_in_different_cancel_scopes(
    server: EmbeddedServer, no_task_is_left: None
) -> None:
    with anyio.CancelScope() as first:
        client = await AsyncClient.open(server)
    first.cancel()
    with anyio.CancelScope() as second:
        assert await client.llm.list_loaded() == []
        await client.aclose()
        second.cancel()
        await anyio.sleep_forever()

    assert second.cancelled_caught
    assert not first.cancelled_caught


async def test_an_exit_stack_with_a_client_is_closed_by_another_task(
    server: EmbeddedServer, no_task_is_left: None
) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(server))
        stack_of_the_manager = stack.pop_all()
    assert await client.llm.list_loaded() == []
    await in_another_task(stack_of_the_manager.aclose)

    assert is_closed(client)


@pytest.mark.filterwarnings("ignore:Async generator .* before it had been exhausted:ResourceWarning")
async def test_an_async_generator_that_holds_a_client_is_finalized_by_the_event_loop(
    server: EmbeddedServer, no_task_is_left: None
) -> None:
    clients: list[AsyncClient] = []

    async def numbers() -> AsyncIterator[int]:
        async with AsyncClient(server) as client:
            clients.append(client)
            for number in range(3):
                yield len(await client.llm.list_loaded()) + number

    async for number in numbers():
        assert number == 0
        break
    gc.collect()

    with anyio.fail_after(10):
        await until(lambda: is_closed(clients[0]))


async def test_a_client_of_a_cancelled_task_is_closed(server: EmbeddedServer, no_task_is_left: None) -> None:
    clients: list[AsyncClient] = []

    async def use_it() -> None:
        async with AsyncClient(server) as client:
            assert await client.llm.list_loaded() == []
            clients.append(client)
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use_it)
        await until(lambda: bool(clients))
        tasks.cancel_scope.cancel()

    assert is_closed(clients[0])


async def test_a_client_survives_the_cancelled_task_that_opened_it(
    server: EmbeddedServer, no_task_is_left: None
) -> None:
    client = AsyncClient(server)

    async def open_it() -> None:
        await client.llm.list_loaded()
        tasks.cancel_scope.cancel()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_it)

    assert await client.llm.list_loaded() == []
    await client.aclose()


# -- opened at first use


async def test_a_client_opens_itself_once_however_many_tasks_use_it_first(
    tmp_path: Path, no_task_is_left: None
) -> None:
    server = EmbeddedServer(tmp_path, threads=1)
    client = AsyncClient(server)
    loaded: list[object] = []

    async def use_it() -> None:
        loaded.append(await client.llm.list_loaded())

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(use_it)
    assert loaded == [[]] * 20
    assert server.is_running
    await client.aclose()

    assert not server.is_running


async def test_a_client_that_opened_itself_is_entered_afterwards(
    server: EmbeddedServer, no_task_is_left: None
) -> None:
    client = AsyncClient(server)
    await client.llm.list_loaded()
    async with client:
        assert await client.llm.list_loaded() == []

    assert is_closed(client)


async def test_a_client_that_could_not_be_opened_tries_again_at_the_next_use(
    lmstudio_host: str, monkeypatch: pytest.MonkeyPatch, no_task_is_left: None
) -> None:
    client = AsyncClient()
    monkeypatch.setenv("LMSTUDIO_HOST", "localhost:none")
    with pytest.raises(LMStudioValueError, match="LMSTUDIO_HOST"):
        await client.llm.list_loaded()

    monkeypatch.setenv("LMSTUDIO_HOST", lmstudio_host)
    assert await client.llm.list_loaded() == []
    await client.aclose()


# -- closing


async def test_aclose_may_be_called_again_and_by_many_tasks_at_once(
    server: EmbeddedServer, no_task_is_left: None
) -> None:
    client = await AsyncClient.open(server)
    await client.llm.list_loaded()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(client.aclose)
    await client.aclose()

    assert is_closed(client)


async def test_a_client_that_is_closed_before_it_is_opened_stays_closed(server: EmbeddedServer) -> None:
    client = AsyncClient(server)
    await client.aclose()

    with pytest.raises(LMStudioConnectionClosedError):
        await client.llm.list_loaded()
    with pytest.raises(LMStudioConnectionClosedError):
        await client.__aenter__()


class Slow(EmbeddedServer):
    """A server whose start takes until `may_start` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, threads=1)
        self.is_starting = anyio.Event()
        self.may_start = anyio.Event()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        self.is_starting.set()
        await self.may_start.wait()
        await super().run(task_status=task_status)


async def test_closing_a_client_that_is_being_opened_leaves_no_running_server(
    tmp_path: Path, no_task_is_left: None
) -> None:
    server = Slow(tmp_path)
    client = AsyncClient(server)

    async def use_it() -> None:
        with pytest.raises(LMStudioConnectionClosedError):
            await client.llm.list_loaded()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use_it)
        await server.is_starting.wait()
        tasks.start_soon(client.aclose)
        await anyio.wait_all_tasks_blocked()
        server.may_start.set()

    assert not server.is_running


async def test_a_cancelled_opening_leaves_no_running_server(tmp_path: Path, no_task_is_left: None) -> None:
    server = Slow(tmp_path)
    client = AsyncClient(server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.llm.list_loaded)
        await server.is_starting.wait()
        tasks.cancel_scope.cancel()
    assert not server.is_running

    server.may_start.set()
    assert await client.llm.list_loaded() == []
    await client.aclose()
    assert not server.is_running


async def test_aclosing_closes_a_client(server: EmbeddedServer, no_task_is_left: None) -> None:
    async with aclosing(AsyncClient(server)) as client:
        assert await client.llm.list_loaded() == []

    assert is_closed(client)


async def test_a_client_is_entered_once(server: EmbeddedServer) -> None:
    async with AsyncClient(server) as client:
        with pytest.raises(LMStudioRuntimeError, match="entered once"):
            await client.__aenter__()


# -- a server that several tasks start and close


async def test_server_closed_by_two_tasks_has_ended_for_both(tmp_path: Path, no_task_is_left: None) -> None:
    server = await EmbeddedServer(tmp_path, threads=1).start()
    ended: list[bool] = []

    async def close() -> None:
        await server.aclose()
        ended.append(not server.is_running)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        tasks.start_soon(close)

    assert ended == [True, True]


async def test_server_started_by_two_tasks_runs_for_one(tmp_path: Path, no_task_is_left: None) -> None:
    server = EmbeddedServer(tmp_path, threads=1)
    refusals: list[LMStudioRuntimeError] = []

    async def start() -> None:
        try:
            await server.start()
        except LMStudioRuntimeError as error:
            refusals.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        tasks.start_soon(start)

    assert len(refusals) == 1
    assert server.is_running
    await server.aclose()


async def test_server_closed_while_it_is_started_does_not_run(tmp_path: Path, no_task_is_left: None) -> None:
    server = EmbeddedServer(tmp_path, threads=1)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:

            async def start() -> None:
                with pytest.raises(LMStudioConnectionClosedError):
                    await server.start()

            tasks.start_soon(start)
            await until(lambda: server._tasks is not None)
            await server.aclose()

    assert not server.is_running
    await server.start()
    await server.aclose()

"""Clients and the event loops that users run: notebooks, interactive interpreters, and one loop after another."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest

import lmstudio_async
from lmstudio_async import AsyncClient, AsyncLLM, EmbeddedServer, LMStudioRuntimeError
from lmstudio_async.testing import ModelsFolder, served
from tests.call_site import line_here
from tests.worker_threads import join_worker_threads

Cell: TypeAlias = Callable[[Awaitable[Any]], Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = ModelsFolder(tmp_path_factory.mktemp("models"))
    models.add_llm("qwen3-4b", script="Forty-two.")
    models.add_llm("talker", script="on and on ", endless=True, context_length=65536)
    return models.folder


@pytest.fixture(scope="module")
def host(models: Path) -> Iterator[str]:
    with served(EmbeddedServer(models, threads=1)) as host:
        yield host


@pytest.fixture
def cell() -> Iterator[Cell]:
    """A function that runs a cell of a notebook: a task of its own, in one event loop that pauses between the cells."""

    def run(awaitable: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await awaitable

        return runner.run(awaited())

    with asyncio.Runner() as runner:
        yield run


async def wait_until_idle(llm: AsyncLLM) -> None:
    async with asyncio.timeout(20):
        while (await llm.get_processing_state()).status != "idle":
            pass


async def first_words(llm: AsyncLLM) -> str | None:
    async for fragment in llm.respond_stream("Go"):
        return fragment.content
    return None


@pytest.mark.filterwarnings("ignore:.*dropped half-way:ResourceWarning")
def test_a_client_works_across_the_cells_of_a_notebook(host: str, cell: Cell) -> None:
    client = cell(AsyncClient.open(host))
    llm = cell(client.llm.load_new_instance("talker", config={"context_length": 65536}))
    assert cell(first_words(llm))
    cell(wait_until_idle(llm))

    stream = cell(llm.respond_stream("Go"))
    first = cell(anext(stream)).content
    cell(stream.cancel())
    assert first
    assert stream.result().content.startswith(first)
    cell(wait_until_idle(llm))

    cell(llm.unload())
    cell(client.aclose())


def test_a_client_in_a_notebook_opens_itself_at_first_use(host: str, cell: Cell) -> None:
    client = AsyncClient(host)
    assert cell(client.llm.list_loaded()) == []
    cell(client.aclose())


def test_a_server_works_across_the_cells_of_a_notebook(models: Path, cell: Cell) -> None:
    server = EmbeddedServer(models, threads=1)
    client = AsyncClient(server)
    llm = cell(client.llm.model("qwen3-4b"))
    assert str(cell(llm.respond("What is the answer?"))) == "Forty-two."
    cell(client.aclose())

    assert not server.is_running


def test_a_client_works_in_the_interactive_interpreter_of_asyncio(host: str) -> None:
    statements = """
import lmstudio_async as lms
client = await lms.AsyncClient.open()
llm = await client.llm.model("qwen3-4b")
str(await llm.respond("What is the answer?"))
await llm.unload()
await client.aclose()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "asyncio"],
        input=statements,
        env=os.environ
        | {"LMSTUDIO_HOST": host, "PYTHONPATH": str(Path(lmstudio_async.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "'Forty-two.'" in done.stdout
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


# -- one loop after another


async def use(client: AsyncClient) -> None:
    assert await client.llm.list_loaded() == []


async def use_and_close(client: AsyncClient) -> None:
    await use(client)
    await client.aclose()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_that_is_made_outside_of_any_loop_is_opened_by_the_first_one(
    host: str, backend: str
) -> None:
    client = AsyncClient(host)
    anyio.run(use_and_close, client, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_raises_an_error_in_a_second_loop(host: str, backend: str) -> None:
    client = AsyncClient(host)
    anyio.run(use, client, backend=backend)
    with pytest.raises(LMStudioRuntimeError, match="Make a client in each"):
        anyio.run(use, client, backend=backend)
    # The connections ended with the first loop, so the second loop may close the client.
    anyio.run(client.aclose, backend=backend)


@pytest.mark.parametrize(("first", "second"), [("asyncio", "trio"), ("trio", "asyncio")])
def test_a_client_raises_an_error_in_a_loop_of_another_library(host: str, first: str, second: str) -> None:
    client = AsyncClient(host)
    anyio.run(use, client, backend=first)
    with pytest.raises(LMStudioRuntimeError, match="Make a client in each"):
        anyio.run(use, client, backend=second)
    anyio.run(client.aclose, backend=second)


def test_a_client_raises_an_error_in_a_second_loop_while_the_first_is_paused(host: str, cell: Cell) -> None:
    client = AsyncClient(host)
    cell(use(client))
    with pytest.raises(LMStudioRuntimeError, match="Make a client in each"):
        asyncio.run(use(client))
    cell(use_and_close(client))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_with_a_server_of_its_own_raises_an_error_in_a_second_loop(
    models: Path, backend: str
) -> None:
    client = AsyncClient(EmbeddedServer(models, threads=1))
    anyio.run(use, client, backend=backend)
    with pytest.raises(LMStudioRuntimeError, match="Make a client in each"):
        anyio.run(use, client, backend=backend)
    anyio.run(client.aclose, backend=backend)


async def start_and_use(server: EmbeddedServer) -> None:
    await server.start()
    async with AsyncClient(server) as client:
        await use(client)


async def start_use_and_close(server: EmbeddedServer) -> None:
    await start_and_use(server)
    await server.aclose()


@pytest.mark.parametrize("first", ["asyncio", "trio"])
@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_a_server_that_was_closed_is_started_again_in_a_second_loop(
    models: Path, first: str, second: str
) -> None:
    server = EmbeddedServer(models, threads=1)
    anyio.run(start_use_and_close, server, backend=first)
    anyio.run(start_use_and_close, server, backend=second)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_forgotten_server_ends_with_its_loop_and_causes_a_warning(models: Path, backend: str) -> None:
    threads = threading.enumerate()
    server, line = EmbeddedServer(models, threads=1), line_here()
    anyio.run(start_and_use, server, backend=backend)
    assert not server.is_running
    join_worker_threads(threads)
    with pytest.warns(ResourceWarning, match=f"made at {re.escape(__file__)}:{line}, was not closed"):  # noqa: PT031 - the collection causes the warning
        del server
        gc.collect()

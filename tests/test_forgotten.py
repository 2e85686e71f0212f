"""Clients and servers that are forgotten: each causes a warning, and leaves no task or connection behind."""

from __future__ import annotations

import gc
from pathlib import Path

import anyio
import pytest

from lmstudio_async import AsyncClient, EmbeddedServer
from tests.call_site import line_here
from tests.scripted_server import ScriptedServer, list_nothing, until


async def test_the_warning_of_a_forgotten_client_names_the_line_where_it_was_made(
    no_task_is_left: None,
) -> None:
    server = ScriptedServer()
    with pytest.warns(ResourceWarning, match="was not closed") as warned:  # noqa: PT031 - the collection causes the warning
        client, line = AsyncClient(server), line_here()  # type: ignore[arg-type]
        await list_nothing(client, server)
        del client
        gc.collect()

    assert [f"{__file__}:{line}" in str(each.message) for each in warned] == [True]
    assert await server.nothing_more()


@pytest.mark.filterwarnings("ignore:.*dropped half-way:ResourceWarning")
async def test_a_forgotten_client_cancels_the_load_that_was_under_way(no_task_is_left: None) -> None:
    server = ScriptedServer()
    client = AsyncClient(server)  # type: ignore[arg-type]
    load = await client.llm.load_new_instance_stream("qwen3-4b")
    channel = await server.next_message()
    with anyio.fail_after(10):
        # This warning is ignored, because a recorded one would hold a reference to the load.
        del load
        gc.collect()
        assert (await server.next_message())["message"] == {"type": "cancel"}
        await server.fail(channel, "Load was cancelled")
        await anyio.wait_all_tasks_blocked()
        with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031 - the collection causes the warning
            del client
            gc.collect()
        assert await server.nothing_more()


async def test_a_forgotten_client_ends_the_server_that_it_has_started(
    tmp_path: Path, no_task_is_left: None
) -> None:
    server = EmbeddedServer(tmp_path, threads=1)
    with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031 - the collection causes the warning
        client = await AsyncClient.open(server)
        await client.llm.list_loaded()
        del client
        gc.collect()

    with anyio.fail_after(10):
        await until(lambda: not server.is_running)


def test_a_client_that_was_never_used_may_be_forgotten() -> None:
    AsyncClient("localhost:1234")
    gc.collect()

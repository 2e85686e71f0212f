"""TTL: the TTL that an instance gets, how it is read back, and the unload of an idle instance, but of no busy one."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    EmbeddedServer,
    LMStudioInstanceUnloadedError,
    LMStudioValueError,
)
from tests.lifecycle.conftest import ROOM, in_process
from tests.processes import needs_proc, wait_gone, workers
from tests.scripted_server import ScriptedServer

LLAMA = "llama-3.2-1b-instruct"


async def test_the_default_ttl_is_an_hour(client: AsyncClient) -> None:
    loaded = await client.llm.load_new_instance(LLAMA)
    gotten = await client.llm.model("qwen3-4b")

    assert loaded.info.ttl == gotten.info.ttl == 3600
    assert loaded.info.ttl_ms == 3_600_000


async def test_the_ttl_is_read_back_as_it_was_set(client: AsyncClient) -> None:
    llama = await client.llm.model(LLAMA, ttl=1800)
    another_llama = await client.llm.load_new_instance(LLAMA, ttl=7200.5)

    assert (await llama.get_info()).ttl == 1800
    assert (await client.llm.get_model_info(another_llama.identifier)).ttl == 7200.5
    assert [llm.info.ttl for llm in await client.llm.list_loaded()] == [1800, 7200.5]


async def test_ttl_none_means_never_for_a_new_instance(client: AsyncClient) -> None:
    llama = await client.llm.load_new_instance(LLAMA, ttl=None)

    assert llama.info.ttl is None
    assert (await llama.get_info()).ttl is None


async def test_ttl_none_means_the_jit_ttl_of_the_server_for_a_just_in_time_load(models: Path) -> None:
    for jit_ttl in (90, None):
        async with AsyncClient(EmbeddedServer(models, threads=1, jit_ttl=jit_ttl)) as client:
            assert (await client.llm.model(LLAMA, ttl=None)).info.ttl == jit_ttl


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, 1e15, 10**400, 0.0001, True, "60", [60]])
async def test_an_invalid_ttl_is_refused_before_a_connection_is_made(ttl: object) -> None:
    async with ScriptedServer().client() as (client, server):
        for load in (client.llm.load_new_instance, client.llm.model, client.embedding.model):
            with pytest.raises(LMStudioValueError, match="ttl must be"):
                await load(LLAMA, ttl=ttl)  # type: ignore[arg-type]
        assert server.connections == 0


async def test_last_used_is_the_end_of_the_last_request(client: AsyncClient) -> None:
    llama = await client.llm.load_new_instance(LLAMA)
    assert llama.info.last_used is None

    before = datetime.now(UTC) - timedelta(milliseconds=1)
    await llama.respond("Why?")

    last_used = (await llama.get_info()).last_used
    assert last_used is not None
    assert before <= last_used <= datetime.now(UTC)


@needs_proc
async def test_an_idle_instance_is_unloaded_after_its_ttl(client: AsyncClient) -> None:
    stays = await client.llm.load_new_instance("qwen3-4b")
    others = workers()
    llama = await client.llm.load_new_instance(LLAMA, ttl=0.1)
    for worker in workers() - others:
        await wait_gone(worker)

    with pytest.raises(LMStudioInstanceUnloadedError):
        await llama.respond("Still there?")
    assert await client.llm.list_loaded() == [stays]


@needs_proc
@in_process
async def test_a_busy_instance_is_not_unloaded_after_its_ttl(client: AsyncClient) -> None:
    talker = await client.llm.load_new_instance("talker", ttl=2, config=ROOM)
    (worker,) = workers()
    async with talker.respond_stream("Go") as stream:
        started = anyio.current_time()
        while anyio.current_time() < started + 2.3:
            await anext(stream)
        assert await client.llm.list_loaded() == [talker]
        await stream.cancel()
        assert (await stream.wait_for_result()).stats.stop_reason == "userStopped"

    await wait_gone(worker)
    assert await client.llm.list_loaded() == []

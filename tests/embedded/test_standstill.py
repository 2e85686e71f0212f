"""Workers that stand still: the server kills them, ends their requests with an error, and disturbs nothing else."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from lmstudio_async import AsyncClient
from lmstudio_async.embedded import EmbeddedServer, ServerLimits
from lmstudio_async.embedded._engine._pulse import Pulse, _Signs
from lmstudio_async.embedded._engine._worker_process import WorkerProcess
from lmstudio_async.embedded._timing import ServerTiming
from lmstudio_async.errors import LMStudioInstanceUnloadedError, LMStudioServerError
from lmstudio_async.testing import ModelsFolder
from tests.clock import let_pass
from tests.embedded.raw_client import Refused, connected, stack, text_of
from tests.embedded.raw_predictions import begin, first_fragment
from tests.processes import go_on, hold_loads, is_stopped, needs_proc, stop, wait_gone, workers

pytestmark = needs_proc

LONG = stack({"llm.load.contextLength": 20_000})
#: Seconds that contain one look at a worker in use.
LOOK = 5.1
#: Limits that are short enough to wait for. Only for stopped workers, because a working one may be slower.
SHORT = ServerLimits(answer_stall_seconds=0.06)
#: A jump of the clock would exceed any time that a killed process has to end.
TIMING = ServerTiming(kill_seconds=math.inf)


@pytest.fixture(autouse=True)
def look_at_workers_in_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at workers in the event loop and not in a thread.

    The clock jumps whenever all tasks wait, also when they wait for a thread. So it would advance during a look, beyond
    the time that a client may read nothing.
    """

    async def look_at(_: Pulse, pid: int) -> object:
        return _Signs.of(pid)

    monkeypatch.setattr(Pulse, "_look_at", look_at)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello there my friend")
    folder.add_llm("acme/endless-GGUF/endless-F32.gguf", script="on ", endless=True, context_length=600_000)
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    return folder.folder


async def pass_until(is_so: Callable[[], bool]) -> None:
    """Let time pass, look by look, until a condition is true."""
    while not is_so():
        await let_pass(LOOK)
        # Finish the looks of this time before more time passes.
        await anyio.wait_all_tasks_blocked()


Ask = Callable[[AsyncClient], Awaitable[object]]


async def respond(client: AsyncClient) -> object:
    return await (await client.llm.model()).respond("hi")


async def complete(client: AsyncClient) -> object:
    return await (await client.llm.model()).complete("hi")


async def count_tokens(client: AsyncClient) -> object:
    return await (await client.llm.model()).count_tokens("hi")


async def apply_prompt_template(client: AsyncClient) -> object:
    return await (await client.llm.model()).apply_prompt_template("hi")


async def respond_in_json(client: AsyncClient) -> object:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    return await (await client.llm.model()).respond("hi", response_format=schema)


async def embed(client: AsyncClient) -> object:
    return await (await client.embedding.model()).embed("hi")


@pytest.mark.parametrize(
    "ask", [respond, complete, count_tokens, apply_prompt_template, respond_in_json, embed]
)
async def test_a_request_to_a_stopped_worker_ends_with_an_error(models: Path, ask: Ask) -> None:
    async with (
        EmbeddedServer(models, threads=1, limits=SHORT, _timing=TIMING) as server,
        AsyncClient(server) as client,
    ):
        if ask is embed:
            await client.embedding.load_new_instance("text-embedding-embed", "mine")
        else:
            await client.llm.load_new_instance("tiny", "mine")
        (pid,) = workers()
        await stop(pid)
        with pytest.raises(LMStudioServerError, match="did not move for 0.06 seconds .* is stopped"):
            await ask(client)
        await wait_gone(pid)
        assert await client.llm.list_loaded() == []
        # The identifier is free.
        await client.llm.load_new_instance("tiny", "mine")


async def test_all_answers_of_a_stopped_worker_end_and_another_instance_keeps_working(models: Path) -> None:
    async with EmbeddedServer(models, threads=1, _timing=TIMING) as server, connected(server) as raw:
        await raw.load("tiny", "bystander")
        await raw.load("tiny", "stopped")
        (instance,) = (each for each in server._state.instances.loaded() if each.identifier == "stopped")
        await stop(instance.engine.pid)
        channels = [await begin(raw, "stopped") for _ in range(6)]
        await pass_until(instance.unloaded.is_set)
        for channel in channels:
            with pytest.raises(Refused, match="did not move for 30 seconds") as refused:
                await raw.packets(channel)
            assert "answer_stall_seconds" in refused.value.error["title"]
        assert text_of(await raw.packets(await begin(raw, "bystander"))) == "Hello there my friend"


async def test_a_load_whose_worker_is_stopped_ends_with_an_error(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ServerLimits(load_stall_seconds=20)
    async with (
        EmbeddedServer(models, threads=1, limits=limits, _timing=TIMING) as server,
        AsyncClient(server) as client,
    ):
        with monkeypatch.context() as patch:
            hold_loads(patch)
            async with client.llm.load_new_instance_stream("tiny", "mine") as loading:
                while not any(map(is_stopped, workers())):
                    await anyio.lowlevel.checkpoint()
                await pass_until(lambda: not workers())
                with pytest.raises(LMStudioServerError) as caught:
                    await loading.wait_for_result()
        assert 'The model "tiny" cannot be loaded: the engine did not move for 20 seconds' in str(
            caught.value
        )
        assert "load_stall_seconds" in str(caught.value)
        await client.llm.load_new_instance("tiny", "mine")


@pytest.mark.parametrize("suspended_seconds", [0, 3600])
async def test_a_worker_that_resumes_in_time_is_kept(models: Path, suspended_seconds: float) -> None:
    async with EmbeddedServer(models, threads=1, _timing=TIMING) as server, connected(server) as raw:
        await raw.load("tiny")
        (instance,) = server._state.instances.loaded()
        (pid,) = workers()
        await stop(pid)
        try:
            channel = await begin(raw, "tiny")
            await let_pass(suspended_seconds)
            await pass_until(lambda: not instance.pulse.is_felt)
        finally:
            go_on(pid)
        assert text_of(await raw.packets(channel)) == "Hello there my friend"
        assert workers() == {pid}


async def test_heartbeats_end_when_the_worker_stands_still(models: Path) -> None:
    async with EmbeddedServer(models, threads=1, _timing=TIMING) as server, connected(server) as raw:
        await raw.load("tiny")
        (instance,) = server._state.instances.loaded()
        await stop(instance.engine.pid)
        channel = await begin(raw, "tiny")
        await pass_until(lambda: not instance.pulse.is_felt)
        await raw.silence()
        await pass_until(instance.unloaded.is_set)
        # The error is the next packet, so there was no heartbeat for 25 seconds.
        with pytest.raises(Refused, match="did not move for 30 seconds"):
            await raw.packet(channel)


async def test_a_worker_may_stand_still_while_the_server_reads_nothing_from_it(models: Path) -> None:
    async with EmbeddedServer(models, threads=1, _timing=TIMING) as server, connected(server) as raw:
        await raw.load("endless", loadConfigStack=LONG)
        channel = await begin(raw, "endless")
        await first_fragment(raw, channel)
        (instance,) = server._state.instances.loaded()
        # The client reads nothing, so that the server does not read from the worker either.
        while True:
            await anyio.wait_all_tasks_blocked()
            if not instance.engine._started_http_client.is_awaited:
                break
        await stop(instance.engine.pid)
        for _ in range(8):
            await let_pass(LOOK)
            await anyio.wait_all_tasks_blocked()
        go_on(instance.engine.pid)
        await raw.cancel(channel)
        assert (await raw.packets(channel))[-1]["type"] == "success"


async def test_a_worker_that_cannot_be_killed_blocks_nothing(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        EmbeddedServer(models, threads=1, limits=SHORT, _timing=TIMING) as server,
        AsyncClient(server) as client,
    ):
        llm = await client.llm.load_new_instance("tiny", "mine")
        (instance,) = server._state.instances.loaded()
        worker = instance.engine._worker
        await stop(worker.pid)
        with monkeypatch.context() as patch:
            # This limit is for these waits only, because a busy machine takes longer to end a killed process.
            patch.setattr(worker, "_kill_seconds", 0.05)
            patch.setattr(WorkerProcess, "kill", lambda _: None)
            with pytest.raises(LMStudioServerError, match="did not move"):
                await llm.respond("hi")
            with anyio.fail_after(20):
                await instance.gone.wait()
        with pytest.raises(LMStudioInstanceUnloadedError):
            await llm.respond("hi")
        await worker.end(grace=0)
        assert workers() == set()

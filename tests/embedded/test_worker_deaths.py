"""Workers that die in any state: their requests fail with a reason, and the rest of the server keeps working."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async._wire._models import Resolved
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine._worker_process import WorkerProcess
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import RawClient, Refused, connected, query, stack
from tests.embedded.raw_predictions import begin, first_fragment
from tests.embedded.registry import ask_load, load, names, running
from tests.processes import SEARCH_PATH, HeldLoads, go_on, hold_loads, needs_proc, stop, wait_gone, workers

pytestmark = needs_proc

DEATHS = [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello there")
    folder.add_llm("acme/endless-GGUF/endless-F32.gguf", script="on ", endless=True, context_length=600_000)
    folder.add_llm("acme/big-GGUF/big-F16.gguf", padding_mb=64)
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    return folder.folder


def die(pid: int, death: signal.Signals) -> None:
    """End a stopped process."""
    os.kill(pid, death)
    # SIGKILL ends a stopped process without SIGCONT.
    go_on(pid)


async def all_is_well(server: EmbeddedServer, raw: RawClient, key: str) -> None:
    """Check that the other instance was not disturbed, and that the identifier of the dead one is free."""
    async with connected(server, "llm") as llm:
        assert [info["identifier"] for info in await llm.call("listLoaded")] == ["bystander"]
        assert await llm.call("countTokens", {"specifier": query("bystander"), "inputString": "abc"}) == {
            "tokenCount": 3
        }
    await raw.load(key, "mine")
    await raw.call("unloadModel", {"identifier": "mine"})
    (bystander,) = workers()
    assert bystander == server._state.instances.loaded("llm")[0].engine.pid


@pytest.mark.parametrize("death", DEATHS)
async def test_death_of_an_idle_worker_unloads_its_instance(
    server: EmbeddedServer, client: RawClient, death: signal.Signals
) -> None:
    await client.load("tiny", "bystander")
    info = await client.load("tiny", "mine")
    instance = server._state.instances.loaded()[1]
    os.kill(instance.engine.pid, death)
    with anyio.fail_after(20):
        await instance.gone.wait()
    reference = {"type": "instanceReference", "instanceReference": info["instanceReference"]}
    with pytest.raises(Refused, match="unloaded"):
        await client.call("countTokens", {"specifier": reference, "inputString": "a"})
    await all_is_well(server, client, "tiny")


@pytest.mark.parametrize("death", DEATHS)
async def test_death_of_an_answering_worker_fails_all_its_requests(
    server: EmbeddedServer, client: RawClient, death: signal.Signals
) -> None:
    await client.load("tiny", "bystander")
    long = stack({"llm.load.contextLength": 500_000})
    await client.load("endless", "mine", loadConfigStack=long)
    instance = server._state.instances.loaded()[1]
    # Begin with one request, because of six simultaneous ones any four may be answered first.
    channels = [await begin(client, "mine")]
    await first_fragment(client, channels[0])
    channels += [await begin(client, "mine") for _ in range(5)]
    for channel in channels[1:]:
        await client.packet(channel)
    os.kill(instance.engine.pid, death)
    # The queued requests end as well.
    for channel in channels:
        with pytest.raises(Refused, match=f"crashed .*{death.name}"):
            await client.packets(channel)
    with anyio.fail_after(20):
        await instance.gone.wait()
    await all_is_well(server, client, "endless")


@pytest.mark.parametrize("death", DEATHS)
async def test_death_of_an_embedding_worker_fails_all_its_requests(
    server: EmbeddedServer, client: RawClient, death: signal.Signals
) -> None:
    await client.load("tiny", "bystander")
    async with connected(server, "embedding") as raw:
        await raw.load("text-embedding-embed", "mine")
        (instance,) = server._state.instances.loaded("embedding")
        # A stopped worker cannot finish before it dies.
        await stop(instance.engine.pid)
        for number in range(100, 103):
            message: dict[str, Any] = {
                "type": "rpcCall",
                "endpoint": "embedString",
                "callId": number,
                "parameter": {"modelSpecifier": query("mine"), "inputString": "a cat"},
            }
            await raw.send(message)
        with anyio.fail_after(20):
            while not instance.is_busy:
                await anyio.lowlevel.checkpoint()
        die(instance.engine.pid, death)
        for number in range(100, 103):
            answer = await raw.next(callId=number)
            assert answer["type"] == "rpcError"
            assert "crashed" in answer["error"]["title"]
        with anyio.fail_after(20):
            await instance.gone.wait()
        await all_is_well(server, raw, "text-embedding-embed")


@pytest.mark.parametrize("death", DEATHS)
async def test_death_of_a_loading_worker_fails_the_load(
    models: Path, death: signal.Signals, held_loads: HeldLoads
) -> None:
    async with running(ModelsFolder(models)) as instances, anyio.create_task_group() as tasks:
        asking = ask_load(tasks, instances, "big", identifier="mine")
        await asking.reports.first(Resolved)
        pid = await held_loads.next()
        held_loads.hold_no_more()
        die(pid, death)
        await asking.over.wait()
        assert asking.error is not None
        assert death.name in str(asking.error)
        assert names(instances) == []
        assert list(workers()) == []
        await load(instances, "tiny", "mine")


async def test_load_without_enough_memory_fails(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(ModelsFolder(models)) as instances, anyio.create_task_group() as tasks:
        good = await load(instances, "tiny")
        held = hold_loads(monkeypatch)
        asking = ask_load(tasks, instances, "big", identifier="mine")
        resource.prlimit(await held.next(), resource.RLIMIT_AS, (1 << 27, 1 << 27))
        held.let_go()
        await asking.over.wait()
        assert asking.error is not None
        assert "big" in str(asking.error)
        assert names(instances) == ["tiny"]
        assert await good.engine.tokenize("a", add_special=False) == [97]
        await load(instances, "tiny", "mine")


PROGRAM = """
    import sys
    import anyio
    from lmstudio_async import AsyncClient, EmbeddedServer

    backend, models, what = sys.argv[1:]

    async def main():
        async with AsyncClient(EmbeddedServer(models, threads=1)) as client:
            embedding = await client.embedding.load_new_instance("text-embedding-embed")
            talker = await client.llm.load_new_instance("endless", config={"context_length": 500000})
            if what == "idle":
                print("ready", flush=True)
                await anyio.sleep_forever()
            if what == "embedding":
                print("ready", flush=True)
                while True:
                    await embedding.embed(["a cat"] * 20)
            async for fragment in talker.respond_stream("Go"):
                print("ready", flush=True)

    anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("what", ["idle", "answering", "embedding", "stopped"])
async def test_a_server_that_is_killed_leaves_no_worker(anyio_backend: str, models: Path, what: str) -> None:
    is_stopped, what = what == "stopped", "idle" if what == "stopped" else what
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), anyio_backend, str(models), what],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SEARCH_PATH},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            left = list(workers(process.pid))
            assert len(left) == 2
            if is_stopped:
                for worker in left:
                    await stop(worker)
        finally:
            process.kill()
    for worker in left:
        await wait_gone(worker)


@pytest.mark.parametrize("state", ["idle", "stopped"])
async def test_leaving_the_server_ends_idle_and_stopped_workers(models: Path, state: str) -> None:
    async with EmbeddedServer(models, threads=1) as server, connected(server) as raw:
        await raw.load("tiny")
        (pid,) = workers()
        if state == "stopped":
            await stop(pid)
    assert list(workers()) == []


@pytest.mark.parametrize("grace", [0, 5])
def test_a_worker_is_reaped_although_the_event_loop_ends(grace: float) -> None:
    async def main() -> None:
        worker = await WorkerProcess.spawn()
        started.append(worker)

        async def end() -> None:
            with anyio.CancelScope(shield=True):
                ending.set()
                await worker.end(grace=grace)

        ending = asyncio.Event()
        tasks.append(asyncio.create_task(end()))
        # asyncio.run() then cancels the task, in a shielded scope too.
        await ending.wait()

    started: list[WorkerProcess] = []
    tasks: list[asyncio.Task[None]] = []
    asyncio.run(main())

    assert started[0].returncode is not None
    assert tasks[0].cancelled()

"""`ensure_instance` by many callers at once: one of them loads, and each may leave without harm to the others."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import lmstudio_sync
from lmstudio_async import (
    AsyncClient,
    LlmLoadModelConfigDict,
    LMStudioCancelledError,
    LMStudioConfigMismatchError,
    LMStudioConnectionClosedError,
    LMStudioServerError,
)
from tests.cli.commands import serving
from tests.lifecycle.conftest import NewClient, in_process
from tests.processes import HeldLoads, needs_proc, wait_gone, workers

ROOT = Path(__file__).parents[2]
LLAMA = "llama-3.2-1b-instruct"
QWEN = "qwen3-4b"


async def test_a_caller_waits_for_the_load_of_another_with_its_progress(
    new_client: NewClient, held_loads: HeldLoads, loads: list[str]
) -> None:
    async with new_client() as client, new_client() as other:
        handles = []

        async def load() -> None:
            handles.append(await client.llm.load_new_instance(QWEN))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load)
            await held_loads.next()
            phases = []
            async with other.llm.ensure_instance_stream(QWEN) as ensuring:
                async for progress in ensuring:
                    phases.append(progress.phase)
                    if progress.phase == "loading":
                        held_loads.let_go()
                assert ensuring.fraction == 1.0
                found = await ensuring.wait_for_result()

    assert phases[0] == "resolved"
    assert phases[-1] == "loaded"
    assert found.info.instance_reference == handles[0].info.instance_reference
    assert len(loads) == 1


@in_process
async def test_a_load_of_another_model_under_the_name_is_awaited_and_then_a_mismatch(
    new_client: NewClient, held_loads: HeldLoads
) -> None:
    async with new_client() as client, new_client() as other:
        results: list[Any] = []
        is_moving = anyio.Event()

        async def ensure() -> None:
            with pytest.raises(LMStudioConfigMismatchError) as caught:
                await other.llm.ensure_instance(QWEN, on_progress=lambda _: is_moving.set())
            results.append(caught.value.mismatches)

        async with (
            client.llm.load_new_instance_stream(LLAMA, QWEN) as loading,
            anyio.create_task_group() as tasks,
        ):
            await held_loads.next()
            tasks.start_soon(ensure)
            await is_moving.wait()
            held_loads.let_go()
            llama = await loading.wait_for_result()

        assert results == [{"model_key": (QWEN, LLAMA)}]
        assert await client.llm.list_loaded() == [llama]


@in_process
async def test_a_caller_takes_over_the_load_of_another_that_leaves(
    new_client: NewClient, held_loads: HeldLoads, loads: list[str]
) -> None:
    async with new_client() as client, new_client() as other, anyio.create_task_group() as tasks:
        handles = []
        is_moving = anyio.Event()

        async def ensure() -> None:
            handles.append(await other.llm.ensure_instance(QWEN, on_progress=lambda _: is_moving.set()))

        async with client.llm.load_new_instance_stream(QWEN) as loading:
            await held_loads.next()
            tasks.start_soon(ensure)
            await is_moving.wait()
            await loading.cancel()
        held_loads.let_go()

    assert [llm.identifier for llm in handles] == [QWEN]
    assert len(loads) == 1


@needs_proc
async def test_leaving_the_stream_early_cancels_a_load_of_its_own(
    client: AsyncClient, held_loads: HeldLoads
) -> None:
    async with client.llm.ensure_instance_stream("big", "mine") as ensuring:
        async for progress in ensuring:
            if progress.fraction:
                break
        assert len(workers()) == 1

    assert workers() == set()
    with pytest.raises(LMStudioCancelledError):
        ensuring.result()


async def test_leaving_the_stream_early_leaves_the_load_to_other_callers(
    new_client: NewClient, held_loads: HeldLoads, loads: list[str]
) -> None:
    async with new_client() as client, new_client() as other, anyio.create_task_group() as tasks:
        handles = []
        is_moving = anyio.Event()

        async def stay() -> None:
            handles.append(
                await other.llm.ensure_instance("big", "mine", on_progress=lambda _: is_moving.set())
            )

        # The one that stays has joined the load of the one that leaves.
        async with client.llm.ensure_instance_stream("big", "mine") as ensuring:
            async for progress in ensuring:
                if progress.fraction:
                    tasks.start_soon(stay)
                    await is_moving.wait()
                    break
        held_loads.let_go()

    assert [llm.identifier for llm in handles] == ["mine"]
    assert len(loads) == 1


@in_process
async def test_a_waiting_caller_that_leaves_does_not_affect_the_load(
    new_client: NewClient, held_loads: HeldLoads
) -> None:
    async with (
        new_client() as client,
        new_client() as other,
        client.llm.load_new_instance_stream("big", "mine") as loading,
    ):
        await held_loads.next()
        async with other.llm.ensure_instance_stream("big", "mine") as ensuring:
            await anext(ensuring)
        held_loads.let_go()
        assert (await loading.wait_for_result()).identifier == "mine"


@in_process
async def test_cancelling_one_of_many_callers_leaves_the_load_to_the_others(
    client: AsyncClient, held_loads: HeldLoads, loads: list[str]
) -> None:
    handles = []
    scopes = [anyio.CancelScope() for _ in range(3)]

    async def ensure(index: int) -> None:
        with scopes[index]:
            handles.append(await client.llm.ensure_instance("big", "mine"))

    async with anyio.create_task_group() as tasks:
        for index in range(3):
            tasks.start_soon(ensure, index)
        await held_loads.next()
        scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        held_loads.let_go()

    assert [llm.identifier for llm in handles] == ["mine", "mine"]
    assert len(loads) == 1


@in_process
@needs_proc
async def test_cancelling_the_last_caller_cancels_the_load(
    client: AsyncClient, held_loads: HeldLoads
) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(client.llm.ensure_instance, "big", "mine")
        await held_loads.next()
        tasks.cancel_scope.cancel()

    assert workers() == set()
    assert await client.llm.list_loaded() == []


@in_process
async def test_closing_the_client_ends_the_stream(new_client: NewClient, held_loads: HeldLoads) -> None:
    async with new_client() as client, anyio.create_task_group() as tasks:
        ensuring = await client.llm.ensure_instance_stream("big", "mine")

        async def wait() -> None:
            with pytest.raises(LMStudioConnectionClosedError):
                await ensuring.wait_for_result()

        tasks.start_soon(wait)
        await held_loads.next()
        await client.aclose()


@in_process
@needs_proc
async def test_a_dropped_stream_cancels_its_load(client: AsyncClient, held_loads: HeldLoads) -> None:
    ensuring = await client.llm.ensure_instance_stream("big", "mine")
    worker = await held_loads.next()
    with pytest.warns(ResourceWarning, match="dropped half-way"):
        del ensuring
    await wait_gone(worker)

    assert await client.llm.list_loaded() == []


@in_process
async def test_the_request_that_joins_a_load_never_begins_one(client: AsyncClient) -> None:
    """If the load has just ended without an instance, a just-in-time load would evict others, and could be evicted."""
    join: LlmLoadModelConfigDict = {"extra": {"llm.load.contextLength": "join a load, or fail"}}
    with pytest.raises(LMStudioServerError, match="contextLength"):
        await client.llm.model(QWEN, config=join)
    assert await client.llm.list_loaded() == []

    mine = await client.llm.load_new_instance(QWEN)
    assert await client.llm.model(QWEN, config=join) == mine


# -- processes

LOADER = """
import sys
from lmstudio_sync import Client

with Client(sys.argv[1]) as client:
    print(client.llm.ensure_instance("big", "shared").info.instance_reference)
"""


@contextmanager
def loader(address: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that ensures an instance, and prints its reference."""
    with subprocess.Popen(
        [sys.executable, "-c", LOADER, address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


ENDS = pytest.mark.parametrize("end", ["SIGKILL", "SIGINT"])


@pytest.mark.parametrize("place", ["over a socket"])
@ENDS
async def test_a_load_goes_on_if_the_process_that_began_it_ends(
    client: AsyncClient, address: str, held_loads: HeldLoads, loads: list[str], end: str
) -> None:
    with loader(address) as program:
        await held_loads.next()
        async with client.llm.ensure_instance_stream("big", "shared") as ensuring:
            await anext(ensuring)
            program.send_signal(signal.Signals[end])
            assert program.wait(20) != 0
            held_loads.let_go()
            shared = await ensuring.wait_for_result()

    assert await client.llm.list_loaded() == [shared]
    assert len(loads) == 1


@pytest.mark.parametrize("place", ["over a socket"])
@ENDS
async def test_a_load_ends_with_the_only_process_that_waits_for_it(
    client: AsyncClient, address: str, held_loads: HeldLoads, end: str
) -> None:
    with loader(address) as program:
        worker = await held_loads.next()
        program.send_signal(signal.Signals[end])
        assert program.wait(20) != 0
        await wait_gone(worker)

    assert await client.llm.list_loaded() == []


def test_programs_share_an_instance_of_the_serve_command(models: Path) -> None:
    with serving(models) as (host, server):
        with loader(host) as first, loader(host) as second:
            references = {first.communicate(timeout=50)[0], second.communicate(timeout=50)[0]}
        assert (first.returncode, second.returncode) == (0, 0)
        with lmstudio_sync.Client(host) as client:
            (shared,) = client.llm.list_loaded()
            assert references == {f"{shared.info.instance_reference}\n"}
            with pytest.raises(LMStudioConfigMismatchError):
                client.llm.ensure_instance("big", "shared", config={"context_length": 64})
            wanted: Any = {"config": {"context_length": 64}, "on_mismatch": "replace"}
            new = client.llm.ensure_instance("big", "shared", **wanted)
            assert client.llm.list_loaded() == [new] != [shared]
        assert server.interrupt().code == 0


PROCESS = """
import json, sys
import anyio
from lmstudio_async import AsyncClient

async def main():
    references, moving = [], set()

    async def ensure(client, number):
        def tell(fraction):
            if number not in moving and fraction < 1:
                moving.add(number)
                if len(moving) == 25:
                    print("moving", flush=True)

        llm = await client.llm.ensure_instance("big", "shared", config={"context_length": 512}, on_progress=tell)
        references.append(llm.info.instance_reference)

    host = sys.argv[1]
    async with AsyncClient(host) as a, AsyncClient(host) as b, AsyncClient(host) as c:
        await a.llm.list_loaded()
        print("ready", flush=True)
        sys.stdin.readline()
        async with anyio.create_task_group() as tasks:
            for number in range(25):
                tasks.start_soon(ensure, (a, b, c)[number % 3], number)
    print(json.dumps(references), flush=True)

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("backends", [["asyncio"] * 4, ["trio"] * 4, ["asyncio", "trio"] * 2], ids="-".join)
def test_a_hundred_tasks_in_four_processes_share_one_load(
    address: str, backends: list[str], held_loads: HeldLoads, loads: list[str]
) -> None:
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, backend],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for backend in backends
    ]
    try:
        assert [_line(program) for program in programs] == ["ready"] * 4
        for program in programs:
            assert program.stdin
            program.stdin.write("go\n")
            program.stdin.flush()
        # Each of the tasks has the progress of the load that is held.
        assert [_line(program) for program in programs] == ["moving"] * 4
        held_loads.let_go()
        references = [each for program in programs for each in json.loads(_line(program))]
        assert [program.wait(20) for program in programs] == [0] * 4
    finally:
        held_loads.let_go()
        for program in programs:
            program.kill()
            program.communicate()
        with lmstudio_sync.Client(address) as client:
            for model in client.list_loaded_models():
                model.unload()

    assert len(references) == 100
    assert len(set(references)) == 1
    assert len(loads) == 1


def _line(program: subprocess.Popen[str]) -> str:
    assert program.stdout
    return program.stdout.readline().strip()

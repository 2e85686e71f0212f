"""Programs that Ctrl-C or SIGKILL ends in the middle of a load or an answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lmstudio_async import AsyncClient
from tests.processes import SEARCH_PATH, HeldLoads, go_on, needs_proc, wait_gone, workers

pytestmark = needs_proc

PROGRAM = """
    import sys
    import anyio
    import pytest
    from lmstudio_async import AsyncClient, EmbeddedServer
    from tests.processes import hold_loads

    backend, where, what = sys.argv[1:]

    def tell(fraction):
        if fraction:
            print("loading", flush=True)

    if what == "load":
        # Also in this process, or the load could end before the signal to the program.
        hold_loads(pytest.MonkeyPatch())

    async def main():
        server = where if ":" in where else EmbeddedServer(where, threads=1)
        async with AsyncClient(server) as client:
            if what == "load":
                await client.llm.load_new_instance("big", "mine", on_progress=tell)
            else:
                talker = await client.llm.load_new_instance("talker", "mine", config={"context_length": 65536})
                async with talker.respond_stream("Go") as answer:
                    async for fragment in answer:
                        print("answering", flush=True)

    anyio.run(main, backend=backend)
"""


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program, and wait until its load or its answer is in progress."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(PROGRAM), *arguments],
        env={**os.environ, "PYTHONPATH": SEARCH_PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), process.communicate()[1]
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("where", ["in process", "over a socket"])
@pytest.mark.parametrize("what", ["load", "answer"])
async def test_ctrl_c_ends_a_program_at_once_and_leaves_nothing(
    anyio_backend: str, where: str, what: str, models: Path, request: pytest.FixtureRequest
) -> None:
    in_process = where == "in process"
    place = str(models) if in_process else request.getfixturevalue("address")
    held = request.getfixturevalue("held_loads") if what == "load" and not in_process else None
    with program(anyio_backend, place, what) as process:
        (worker,) = workers(process.pid if in_process else None) if held is None else [held.get()]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)

    assert errors.splitlines()[-1] == "KeyboardInterrupt", errors
    # Messages of other libraries about resources of this package that were not cleaned up.
    for noise in (
        "never retrieved",
        "Exception ignored",
        "ResourceWarning",
        "was never awaited",
        "destroyed",
    ):
        assert noise not in errors
    assert "ExceptionGroup" not in errors
    if what == "load" and in_process:
        go_on(worker)
    if what == "answer" and not in_process:
        # The instance on a server of its own stays, and no longer works on the answer.
        async with AsyncClient(place) as client:
            (llm,) = await client.llm.list_loaded()
            assert (await llm.respond("Go", config={"max_tokens": 2})).stats.predicted_tokens_count == 2
            await llm.unload()
    await wait_gone(worker)


async def test_a_server_cancels_the_load_of_a_client_that_was_killed(
    anyio_backend: str, address: str, held_loads: HeldLoads
) -> None:
    with program(anyio_backend, address, "load") as process:
        worker = held_loads.get()
        process.kill()
        await wait_gone(worker)

    held_loads.hold_no_more()
    async with AsyncClient(address) as client:
        assert await client.llm.list_loaded() == []
        assert (await client.llm.load_new_instance("qwen3-4b", "mine")).identifier == "mine"
        await client.llm.unload("mine")


async def test_workers_end_after_their_program_was_killed(anyio_backend: str, models: Path) -> None:
    with program(anyio_backend, str(models), "load") as process:
        (worker,) = workers(process.pid)
        process.kill()
        process.wait()
        go_on(worker)
        await wait_gone(worker)

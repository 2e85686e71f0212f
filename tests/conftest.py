"""Fixtures of all tests; each async test runs once on asyncio and once on trio."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from lmstudio_async import AsyncClient
from tests.processes import HeldLoads, hold_loads
from tests.scripted_server import ScriptedServer, until
from tests.soak import register_profiles

pytest_plugins = ["lmstudio_async.testing.plugin"]

register_profiles()

#: The names that the SDK gives its tasks.
OURS = re.compile("lmstudio|AsyncClient|EmbeddedServer")

for name in (
    *("LMSTUDIO_HOST", "LM_API_TOKEN", "LMSTUDIO_API_TOKEN"),
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"),
):
    # The environment must not decide where the tests, and the programs that they start, connect to, nor which models
    # they find besides those of their home folder.
    os.environ.pop(name, None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores SIGINT for its background jobs, and the programs that the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Freeze the objects that importing and collecting have made.

    They live to the end, so the garbage collector need not look at them again.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop that the test runs on."""
    return str(request.param)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that is reserved while the test runs: only the test itself may listen there."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@pytest.fixture
async def both() -> AsyncIterator[tuple[AsyncClient, ScriptedServer]]:
    """A client and its scripted server."""
    async with ScriptedServer().client() as both:
        yield both


@pytest.fixture
def held_loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldLoads]:
    """The loads of the embedded servers of this process. Each stays at its first progress until the test lets it go."""
    held = hold_loads(monkeypatch)
    yield held
    held.let_go()


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Check that the tasks of the SDK end with the test, or shortly after it."""

    def running() -> set[tuple[int, str]]:
        tasks = {(task.id, str(task.name)) for task in anyio.get_running_tasks()}
        return {(number, name) for number, name in tasks if OURS.search(name)}

    before = running()
    yield
    with anyio.fail_after(10):
        await until(lambda: running() <= before)

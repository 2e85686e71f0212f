"""What every test gets: each async test runs once on asyncio and once on trio."""

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
from tests.scripted_server import ScriptedServer, until
from tests.soak import register_profiles

pytest_plugins = ["lmstudio_async.testing.plugin"]

register_profiles()

#: The names that the SDK gives its tasks.
OURS = re.compile("lmstudio|AsyncClient|EmbeddedServer")

for name in ("LMSTUDIO_HOST", "LM_API_TOKEN", "LMSTUDIO_API_TOKEN"):
    # What is in the environment here must not decide where the tests connect to, nor the programs that they start.
    os.environ.pop(name, None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background has Ctrl-C ignored, by them and by every program they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What importing and collecting the tests has made stays to the end: no garbage collection need look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop that the test runs on."""
    return str(request.param)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine where nobody listens, unless the test does: nobody else gets it while the test runs."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@pytest.fixture
async def both() -> AsyncIterator[tuple[AsyncClient, ScriptedServer]]:
    """A client, and a server that does what the test tells it to."""
    async with ScriptedServer().client() as both:
        yield both


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """The tasks that a test has the SDK start end with the test, in a moment at most."""

    def running() -> set[tuple[int, str]]:
        tasks = {(task.id, str(task.name)) for task in anyio.get_running_tasks()}
        return {(number, name) for number, name in tasks if OURS.search(name)}

    before = running()
    yield
    with anyio.fail_after(10):
        await until(lambda: running() <= before)

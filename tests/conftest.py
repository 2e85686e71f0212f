"""What every test gets: each async test runs once on asyncio and once on trio."""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator

import pytest

from lmstudio_async import AsyncClient
from tests.scripted_server import ScriptedServer
from tests.soak import register_profile

register_profile()

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
async def both() -> AsyncIterator[tuple[AsyncClient, ScriptedServer]]:
    """A client, and a server that does what the test tells it to."""
    async with ScriptedServer().client() as both:
        yield both

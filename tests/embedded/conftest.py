"""The embedded server with a module's own ``models``, and a client that it has let in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lmstudio_async.embedded import EmbeddedServer
from tests.embedded.raw_client import RawClient, connected


@pytest.fixture
async def server(models: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(models, threads=1) as running:
        yield running


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[RawClient]:
    async with connected(server) as raw:
        yield raw

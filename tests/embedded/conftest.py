"""Fixtures: an embedded server with a module's own ``models``, their catalog, an authenticated client, a local hub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.testing import ModelsFolder
from tests.embedded.local_hub import LocalHub
from tests.embedded.raw_client import RawClient, connected


@pytest.fixture
def catalog(models: ModelsFolder) -> Catalog:
    return Catalog(models.folder)


@pytest.fixture
async def server(models: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(models, threads=1) as running:
        yield running


@pytest.fixture(scope="module")
async def shared_server(models: Path) -> AsyncIterator[EmbeddedServer]:
    """One server for all tests of a module, so that a model stays loaded from one test to the next."""
    async with EmbeddedServer(models, threads=1) as running:
        yield running


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[RawClient]:
    async with connected(server) as raw:
        yield raw


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A local hub in place of Hugging Face."""
    with LocalHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub

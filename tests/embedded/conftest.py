"""Fixtures: a models folder, its catalog, an embedded server, an authenticated client of it, and a local hub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.testing import ModelsFolder
from tests.embedded.engines import nothing_left_behind
from tests.embedded.local_hub import LocalHub
from tests.embedded.raw_client import RawClient, connected


@pytest.fixture
def models(tmp_path: Path) -> ModelsFolder:
    """An empty models folder. Most modules have their own ``models``, with the models that their tests need."""
    return ModelsFolder(tmp_path / "models")


@pytest.fixture
def catalog(models: ModelsFolder) -> Catalog:
    return Catalog(models.folder)


async def new_server(models: Path | ModelsFolder) -> AsyncIterator[EmbeddedServer]:
    """A server with ``models``. With ``scope="module"``, a model stays loaded from one test to the next."""
    folder = models.folder if isinstance(models, ModelsFolder) else models
    async with EmbeddedServer(folder, threads=1) as running:
        yield running


server = pytest.fixture(new_server)
shared_server = pytest.fixture(new_server, scope="module")


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[RawClient]:
    async with connected(server) as raw:
        yield raw


@pytest.fixture
def no_worker_is_left() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A local hub in place of Hugging Face."""
    with LocalHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub

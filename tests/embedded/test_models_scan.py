"""The look of a server at its folders and files: models, and skipped files with the reasons."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import pytest

from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async.embedded import FoundModel
from lmstudio_async.testing import ModelsFolder

TINY = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"
BROKEN = "acme/broken-GGUF/broken-Q8_0.gguf"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a new user."""
    folder = tmp_path / "home"
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(folder))
    return folder


def test_scan_returns_models_and_skipped_files_of_a_server_that_does_not_run(models: ModelsFolder) -> None:
    file = models.add_llm(TINY)
    models.add_broken(BROKEN, "bad magic")
    scan = EmbeddedServer(models.folder).scan_models()
    found = FoundModel(
        model_key="tiny", type="llm", path=TINY, file=file.resolve(), size_bytes=file.stat().st_size
    )
    assert scan.models == (found,)
    assert list(scan.skipped) == [BROKEN]
    assert "GGUF" in scan.skipped[BROKEN]


async def test_scan_of_a_running_server_agrees_with_what_its_clients_get(models: ModelsFolder) -> None:
    models.add_llm(TINY)
    models.add_llm("acme/encoder-GGUF/encoder-Q8_0.gguf")
    server = EmbeddedServer(models.folder, embedding_models=["enc*"])
    before = server.scan_models()
    async with server, AsyncClient(server) as client:
        running = await anyio.to_thread.run_sync(server.scan_models)
        listed = [model.info for model in await client.system.list_downloaded_models()]
    assert running == before
    assert [(model.model_key, model.type, model.path, model.size_bytes) for model in running.models] == [
        (info.model_key, info.type, info.path, info.size_bytes) for info in listed
    ]
    assert {model.type for model in running.models} == {"llm", "embedding"}


def test_scan_without_models_has_those_of_the_default_places_and_creates_none(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    server = EmbeddedServer()
    assert server.scan_models().models == ()
    ModelsFolder(cache / "models--acme--tiny-GGUF" / "snapshots").add_llm("0123/tiny-Q4_K_M.gguf")
    (found,) = server.scan_models().models
    assert (found.model_key, found.path) == ("tiny", TINY)
    assert cache in found.file.parents
    assert server.hub_cache == cache
    assert not home.exists()


def test_server_with_given_models_does_not_look_into_the_hub_cache(models: ModelsFolder) -> None:
    assert EmbeddedServer(models.folder).hub_cache is None
    assert EmbeddedServer(models.add_llm(TINY)).hub_cache is None

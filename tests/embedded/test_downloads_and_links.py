"""Downloads into a models folder that contains links: the server reads through them and never writes through them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lmstudio_async import AsyncClient, AsyncModelDownloadOption, LMStudioServerError
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing._tiny_models import write_llm
from tests.embedded.local_hub import LocalHub

TINY = "acme/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links need a right that not every user has")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llm(tmp_path_factory.mktemp("model") / "model.gguf").read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder outside of the models folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    return elsewhere


@pytest.fixture
async def option(hub: LocalHub, folder: Path, model: bytes) -> AsyncIterator[AsyncModelDownloadOption]:
    hub.add(TINY, {FILE: model})
    async with EmbeddedServer(folder, threads=1) as server, AsyncClient(server) as client:
        (found,) = await client.repository.search_models(TINY)
        (option,) = await found.get_download_options()
        yield option


@pytest.mark.parametrize("link", ["acme", ".downloads"])
async def test_download_writes_through_no_link(
    option: AsyncModelDownloadOption, folder: Path, elsewhere: Path, link: str
) -> None:
    (folder / link).symlink_to(elsewhere)
    with pytest.raises(LMStudioServerError, match="written through a link") as caught:
        await option.download()
    assert str(elsewhere) in str(caught.value)
    assert list(elsewhere.iterdir()) == []
    assert [place.name for place in folder.iterdir()] == [link]


async def test_download_keeps_a_model_that_is_present_through_a_link(
    option: AsyncModelDownloadOption, folder: Path, elsewhere: Path, model: bytes
) -> None:
    (elsewhere / "blob").write_bytes(model)
    (folder / TINY).mkdir(parents=True)
    (folder / TINY / FILE).symlink_to(elsewhere / "blob")
    assert await option.download() == "tiny"
    assert (folder / TINY / FILE).is_symlink()
    assert [place.name for place in elsewhere.iterdir()] == ["blob"]

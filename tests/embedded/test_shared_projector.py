"""Downloads of models of one repository: they share the file that adds vision, and its progress."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from lmstudio_async import AsyncClient, AsyncModelDownloadOption, LlmInfo
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing._tiny_models import write_llm
from lmstudio_async.testing._tiny_projector import write_projector
from tests.embedded.local_hub import LocalHub

MODELS = ["tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf"]
PROJECTOR = "mmproj-tiny-F16.gguf"


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server) as client:
        yield client


@pytest.fixture
def hub(hub: LocalHub, tmp_path: Path) -> LocalHub:
    """A hub with two models of one repository, and a projector for both."""
    model = write_llm(tmp_path / "model.gguf").read_bytes()
    projector = write_projector(tmp_path / "eye.gguf").read_bytes()
    hub.add("acme/tiny-GGUF", {MODELS[0]: model, MODELS[1]: model + b"\0" * 32, PROJECTOR: projector})
    return hub


async def options(client: AsyncClient) -> list[AsyncModelDownloadOption]:
    (found,) = await client.repository.search_models("acme/tiny-GGUF")
    return list(await found.get_download_options())


async def test_a_projector_of_two_models_is_downloaded_once(client: AsyncClient, hub: LocalHub) -> None:
    one, two = await options(client)
    files = hub.repositories["acme/tiny-GGUF"].files
    assert one.info.size_bytes == len(files[PROJECTOR]) + len(files[MODELS[0]])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.download)
        tasks.start_soon(two.download)
    assert sorted(hub.downloads) == [PROJECTOR, *MODELS]
    assert {info.model_key for info in await client.list_downloaded_models()} == {"tiny@q4_k_m", "tiny@q8_0"}
    seeing = [model.info for model in await client.list_downloaded_models("llm")]
    assert [isinstance(info, LlmInfo) and info.vision for info in seeing] == [True, True]


async def test_a_download_that_waits_for_the_projector_shows_its_progress(
    client: AsyncClient, hub: LocalHub
) -> None:
    one, two = await options(client)
    hub.pause_at(10_000)
    with anyio.fail_after(30):
        async with one.download_stream() as first, two.download_stream() as second:
            async for update in first:
                if update.downloaded_bytes:
                    break
            async for update in second:
                if update.downloaded_bytes:
                    break
            assert hub.downloads == [PROJECTOR]
            hub.go_on()
            async for update in second:
                assert update.downloaded_bytes <= update.total_bytes
            await first.wait_for_result()
            await second.wait_for_result()
    assert sorted(hub.downloads) == [PROJECTOR, *MODELS]

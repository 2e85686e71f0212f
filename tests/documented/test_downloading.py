"""The page on downloading, with a local Hub and tiny files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lmstudio_async
from lmstudio_async import EmbeddedServer
from lmstudio_async.testing import served
from lmstudio_async.testing._tiny_models import write_llm
from tests.documented.conftest import MEANING
from tests.embedded.local_hub import LocalHub

NAME = "bartowski/Llama-3.2-1B-Instruct-GGUF"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llm(tmp_path_factory.mktemp("model") / "model.gguf", script=MEANING).read_bytes()


@pytest.fixture(scope="module")
def models() -> None:
    """No models except the downloaded ones."""


@pytest.fixture
def server(content: bytes, tmp_path: Path) -> Iterator[str]:
    files = {f"Llama-3.2-1B-Instruct-{each}.gguf": content for each in ("Q4_K_M", "Q8_0")}
    with LocalHub() as hub, pytest.MonkeyPatch.context() as environment:
        hub.add(NAME, files)
        environment.setenv("HF_ENDPOINT", hub.url)
        environment.setenv("NO_PROXY", "127.0.0.1")
        environment.delenv("HF_TOKEN", raising=False)
        with served(EmbeddedServer(tmp_path, threads=1)) as host:
            yield host


def print_progress_update(update: lmstudio_async.DownloadProgressUpdate) -> None:
    print(
        f"Downloaded {update.downloaded_bytes} bytes of {update.total_bytes} total "
        f"at {update.speed_bytes_per_second} bytes/sec"
    )


def test_a_model_is_found_downloaded_and_loaded(capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        # 1. Search for the model you want
        search_results = client.repository.search_models(
            search_term="llama 3.2 1b",
            limit=5,
            compatibility_types=["gguf"],
        )

        # 2. Find download options
        best_result = search_results[0]
        download_options = best_result.get_download_options()

        # Let's download Q4_K_M, a good middle ground quantization
        desired_model = next(option for option in download_options if option.info.quantization == "Q4_K_M")

        # 3. Download it!
        model_key = desired_model.download(
            on_progress=print_progress_update,
            on_finalize=lambda: print("Finalizing download..."),
        )

        loaded_model = client.llm.model(model_key)
        assert str(loaded_model.respond("What is the meaning of life?")) == MEANING

    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "Finalizing download..."
    assert printed[-2].startswith(f"Downloaded {len(content)} bytes of {len(content)} total at ")


async def test_a_model_is_found_downloaded_and_loaded_in_async_form(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        search_results = await client.repository.search_models(
            search_term="llama 3.2 1b",
            limit=5,
            compatibility_types=["gguf"],
        )
        best_result = search_results[0]
        download_options = await best_result.get_download_options()
        desired_model = next(option for option in download_options if option.info.quantization == "Q4_K_M")
        model_key = await desired_model.download(
            on_progress=print_progress_update,
            on_finalize=lambda: print("Finalizing download..."),
        )

        loaded_model = await client.llm.model(model_key)
        assert str(await loaded_model.respond("What is the meaning of life?")) == MEANING

    assert capsys.readouterr().out.splitlines()[-1] == "Finalizing download..."

"""Loads that ask for a GPU: without one, the log of the server and the config in effect say what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async.embedded._engine._engine import Engine
from lmstudio_async.testing import ModelsFolder

WARNING = "was to use a GPU, but the engine finds none"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("tiny")
    folder.add_embedding("embed")
    return folder.folder


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU, whatever this one has."""
    monkeypatch.setattr(Engine, "has_gpu", False)


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("gpu", [{"ratio": "max"}, {"ratio": 0.5}, {"ratio": 1}, {"main_gpu": 0}])
async def test_load_that_asks_for_a_missing_gpu_says_that_it_is_on_the_cpu(
    models: Path, gpu: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(EmbeddedServer(models, threads=1)) as client:
        llm = await client.llm.load_new_instance("tiny", "mine", config={"gpu": gpu})
        config = await llm.get_load_config()
    assert caplog.text.count(f"mine {WARNING}") == 1
    assert config.gpu is not None
    assert (config.gpu.ratio, config.gpu.main_gpu) == ("off", None)
    assert config.offload_kv_cache_to_gpu is False


@pytest.mark.usefixtures("without_gpu")
async def test_embedding_model_that_asks_for_a_missing_gpu_says_that_it_is_on_the_cpu(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(EmbeddedServer(models, threads=1)) as client:
        model = await client.embedding.load_new_instance(
            "text-embedding-embed", config={"gpu": {"ratio": "max"}}
        )
        config = await model.get_load_config()
    assert WARNING in caplog.text
    assert config.gpu is not None and config.gpu.ratio == "off"


#: The setting that LM Studio's JavaScript client sends with each load.
USUAL_SPLIT = {"split_strategy": "evenly"}


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize(
    "config",
    [None, {"gpu": {"ratio": "off"}}, {"gpu": {"ratio": 0, "main_gpu": 0}}, {"gpu": USUAL_SPLIT}],
)
async def test_load_that_does_not_ask_for_a_gpu_warns_of_nothing(
    models: Path, config: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(EmbeddedServer(models, threads=1)) as client:
        await client.llm.load_new_instance("tiny", config=config)
    assert WARNING not in caplog.text


async def test_load_on_a_gpu_warns_of_nothing(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Engine, "has_gpu", True)
    async with AsyncClient(EmbeddedServer(models, threads=1)) as client:
        llm = await client.llm.load_new_instance("tiny", config={"gpu": {"ratio": 0.5}})
        config = await llm.get_load_config()
    assert WARNING not in caplog.text
    assert config.gpu is not None and config.gpu.ratio == 0.5

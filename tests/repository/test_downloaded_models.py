"""Downloaded models: the keys that mean them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lmstudio_sync
from lmstudio_async import AsyncClient, EmbeddedServer, LMStudioValueError
from lmstudio_async.testing import ModelsFolder, served


@pytest.fixture
def models(tmp_path: Path) -> ModelsFolder:
    models = ModelsFolder(tmp_path)
    for name in ("Q4_K_M", "Q8_0"):
        models.add_llm(f"acme/tiny-GGUF/tiny-{name}.gguf")
    return models


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("tiny", ["tiny@q4_k_m", "tiny@q8_0"]),
        ("Tiny@Q8_0", ["tiny@q8_0"]),
        ("acme/tiny", ["tiny@q4_k_m", "tiny@q8_0"]),
        ("acme/tiny-GGUF/tiny-Q4_K_M.gguf", ["tiny@q4_k_m"]),
        ("tin", []),
        ("", []),
    ],
)
async def test_keys_of_a_downloaded_model_mean_it(models: ModelsFolder, key: str, meant: list[str]) -> None:
    async with AsyncClient(EmbeddedServer(models.folder)) as client:
        downloaded = await client.llm.list_downloaded()
        assert [model.model_key for model in downloaded if model.has_key(key)] == meant


async def test_a_key_that_is_no_text_is_refused(models: ModelsFolder) -> None:
    key: Any = 7
    async with AsyncClient(EmbeddedServer(models.folder)) as client:
        model, _ = await client.llm.list_downloaded()
        with pytest.raises(LMStudioValueError, match="key must be a text"):
            model.has_key(key)


def test_the_blocking_facade_knows_the_keys_of_a_model_too(models: ModelsFolder) -> None:
    with served(EmbeddedServer(models.folder)) as host, lmstudio_sync.Client(host) as client:
        assert [model.has_key("tiny@q8_0") for model in client.llm.list_downloaded()] == [False, True]

"""Embedding models as people have them: odd contexts, other poolings, and files that only look like one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstudio_async import AsyncClient
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import ModelsFolder


@pytest.fixture
def models(tmp_path: Path) -> ModelsFolder:
    return ModelsFolder(tmp_path / "models")


async def test_embedding_model_loads_with_a_context_that_is_no_multiple_of_its_sessions(
    models: ModelsFolder,
) -> None:
    models.add_embedding("long", context_length=514)
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        for context in (514, 510):
            model = await client.embedding.load_new_instance("long", config={"context_length": context})
            # [CLS] and [SEP] stand around each text.
            assert len(await model.embed("a " * (context - 2))) == 16

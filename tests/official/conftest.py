"""Fixtures: models, a server, official clients of it, and a check that neither side logs a warning."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import lmstudio
import pytest

from lmstudio_async.testing import HERMES, THINKING, ModelsFolder, tool_call
from tests.official.serving import Served, served

#: For an answer of several seconds, because an endless answer fills the default context in an instant.
ROOM: Any = {"contextLength": 65536}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The only backend of the official package."""
    return "asyncio"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Hello there, old friend", name="Tiny")
    folder.add_llm("acme/other-GGUF/other-Q8_0.gguf", script="Another one", architecture="qwen2")
    folder.add_llm(
        "acme/talker-GGUF/talker-Q8_0.gguf",
        script="on and on it goes ",
        endless=True,
        context_length=65536,
    )
    folder.add_llm("acme/dice-GGUF/dice-Q8_0.gguf", script=None)
    folder.add_llm("acme/big-GGUF/big-F16.gguf", padding_mb=256)
    # All loads of this model are cancelled.
    folder.add_llm("acme/huge-GGUF/huge-F16.gguf", padding_mb=1024)
    folder.add_llm(
        "acme/thinker-GGUF/thinker-Q8_0.gguf", script="<think>Hm</think>Yes", chat_template=THINKING
    )
    folder.add_llm(
        "acme/caller-GGUF/caller-Q8_0.gguf",
        script=tool_call("add", a=1, b=2),
        then=["The sum is 3."],
        chat_template=HERMES,
    )
    folder.add_llm("acme/eye-GGUF/eye-Q8_0.gguf", script="A cat")
    folder.add_projector("acme/eye-GGUF/mmproj-eye-F16.gguf")
    folder.add_embedding("acme/embed-GGUF/embed-F32.gguf", dimensions=16)
    folder.add_broken("acme/broken-GGUF/broken-Q8_0.gguf", "truncated")
    return folder.folder


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[Served]:
    with served(models) as running:
        yield running
        # The clients of the last test may have sent a warning after its end.
        assert running.complaints() == ""


@pytest.fixture(autouse=True)
def no_complaints(server: Served, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that neither side logs a warning about the messages of the other side."""
    yield
    complaints = [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.WARNING]
    assert complaints == []
    assert server.complaints() == ""


@pytest.fixture
def client(server: Served) -> Iterator[lmstudio.Client]:
    with lmstudio.Client(server.address) as client:
        yield client
        for model in client.list_loaded_models():
            model.unload()


@pytest.fixture
async def async_client(server: Served) -> AsyncIterator[lmstudio.AsyncClient]:
    async with lmstudio.AsyncClient(server.address) as client:
        yield client
        for model in await client.list_loaded_models():
            await model.unload()

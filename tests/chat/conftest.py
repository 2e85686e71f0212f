"""Fixtures: an embedded server with scripted models, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async.testing import ModelsFolder, tool_call
from lmstudio_async.testing._chat_templates import HERMES, THINKING

EMMA = '{"title": "Emma", "author": {"name": "Jane Austen"}, "isbn": "1"}'


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the layout of LM Studio."""
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/hello-GGUF/hello-Q8_0.gguf", script="Hello there, my friend")
    folder.add_llm("acme/talker-GGUF/talker-Q8_0.gguf", script="on and on ", endless=True)
    folder.add_llm("acme/librarian-GGUF/librarian-Q8_0.gguf", script=EMMA)
    folder.add_llm("acme/decider-GGUF/decider-Q8_0.gguf", script=None)
    folder.add_llm(
        "acme/thinker-GGUF/thinker-Q8_0.gguf", script="<think>Hm, 42</think>Yes", chat_template=THINKING
    )
    folder.add_llm(
        "acme/caller-GGUF/caller-Q8_0.gguf",
        script=tool_call("add", a=1, b=2),
        then=["The sum is 3."],
        chat_template=HERMES,
    )
    folder.add_llm("acme/eye-GGUF/eye-Q8_0.gguf", script="A cat")
    folder.add_projector("acme/eye-GGUF/mmproj-eye-F16.gguf")
    return folder.folder


@pytest.fixture(scope="module")
async def server(models: Path) -> AsyncIterator[EmbeddedServer]:
    """A server for all tests of a module, so that an instance need not be loaded again for each test."""
    async with EmbeddedServer(models, threads=1) as server:
        yield server


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[AsyncClient]:
    """A client of the embedded server, with a time limit for the test."""
    async with AsyncClient(server) as client:
        with anyio.fail_after(30):
            yield client


@pytest.fixture
async def lone_client(models: Path) -> AsyncIterator[AsyncClient]:
    """A client of a server of its own, which has no loaded instance, with a time limit for the test."""
    async with EmbeddedServer(models, threads=1) as server, AsyncClient(server) as client:
        with anyio.fail_after(30):
            yield client

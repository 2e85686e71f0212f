"""The embedded server with models named as in the documentation, and clients of it in process and over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from lmstudio_async import AsyncClient, EmbeddedServer, LlmLoadModelConfigDict
from lmstudio_async.testing import ModelsFolder, served

#: For what does not depend on how the server is reached.
in_process = pytest.mark.parametrize("place", ["in process"])

#: For an answer that goes on for seconds: it ends with the context, of which the usual one is full in a blink.
ROOM: LlmLoadModelConfigDict = {"context_length": 65536}

NewClient: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncClient]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder as LM Studio has it."""
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm(
        "lmstudio-community/Llama-3.2-1B-Instruct-GGUF/Llama-3.2-1B-Instruct-Q4_K_M.gguf",
        script="Forty-two, as everybody knows.",
    )
    folder.add_llm(
        "lmstudio-community/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf", script="Hello there", architecture="qwen2"
    )
    folder.add_llm(
        "acme/Talker-GGUF/Talker-Q8_0.gguf", script="on and on ", endless=True, context_length=65536
    )
    folder.add_llm("acme/Big-GGUF/Big-F16.gguf", padding_mb=512)
    folder.add_embedding("nomic-ai/nomic-embed-text-v1.5-GGUF/nomic-embed-text-v1.5.Q8_0.gguf")
    return folder.folder


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    """Where the server listens that all tests of a module share."""
    with served(EmbeddedServer(models, threads=1)) as place:
        yield place


@pytest.fixture(params=["in process", "over a socket"])
def place(request: pytest.FixtureRequest) -> str:
    """How clients reach the server."""
    return str(request.param)


@pytest.fixture
async def new_client(place: str, models: Path, request: pytest.FixtureRequest) -> AsyncIterator[NewClient]:
    """Makes clients of one server, on which nothing is loaded before a test nor after it."""
    if place == "in process":
        async with EmbeddedServer(models, threads=1) as server:
            yield lambda: AsyncClient(server)
        return
    address: str = request.getfixturevalue("address")
    yield lambda: AsyncClient(address)
    async with AsyncClient(address, timeout=20) as client:
        for model in await client.list_loaded_models():
            await model.unload()


@pytest.fixture
async def client(new_client: NewClient) -> AsyncIterator[AsyncClient]:
    """A client of the embedded server, with nothing loaded."""
    async with new_client() as client:
        yield client

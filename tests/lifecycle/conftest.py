"""The embedded server with models named as in the documentation, and clients of it in process and over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from lmstudio_async import AsyncClient, EmbeddedServer, LlmLoadModelConfigDict
from lmstudio_async.embedded._engine import _engine_start
from lmstudio_async.testing import ModelsFolder, served
from tests.cli.commands import serving

#: For tests that need no socket, because they do not depend on the transport.
in_process = pytest.mark.parametrize("place", ["in process"])

#: For tests in process, and over a websocket to ``serve`` in a process of its own.
with_serve = pytest.mark.parametrize("place", ["in process", "over serve"])

#: For an answer of several seconds, because an endless answer fills the default context in an instant.
ROOM: LlmLoadModelConfigDict = {"context_length": 65536}

NewClient: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncClient]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the layout of LM Studio."""
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
    """The address of a server that all tests of a module share."""
    with served(EmbeddedServer(models, threads=1)) as place:
        yield place


@pytest.fixture(scope="module")
def serve_address(models: Path) -> Iterator[str]:
    """The address of a server in a process of its own that all tests of a module share."""
    with serving(models) as (place, _):
        yield place


@pytest.fixture(params=["in process", "over a socket"])
def place(request: pytest.FixtureRequest) -> str:
    """The transport between the clients and the server."""
    return str(request.param)


@pytest.fixture
async def new_client(place: str, models: Path, request: pytest.FixtureRequest) -> AsyncIterator[NewClient]:
    """A function that makes clients of one server, which has no instances before and after a test."""
    if place == "in process":
        async with EmbeddedServer(models, threads=1) as server:
            yield lambda: AsyncClient(server)
        return
    address: str = request.getfixturevalue("serve_address" if place == "over serve" else "address")
    yield lambda: AsyncClient(address)
    async with AsyncClient(address, timeout=20) as client:
        for model in await client.list_loaded_models():
            await model.unload()


@pytest.fixture
async def client(new_client: NewClient) -> AsyncIterator[AsyncClient]:
    """A client of the embedded server, which has no loaded instance."""
    async with new_client() as client:
        yield client


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The model files that the embedded servers of this process have begun to load."""
    begun: list[str] = []
    start_engine = _engine_start.start_engine

    async def counting(spec: Any, *args: Any) -> Any:
        begun.append(str(spec.model_path))
        return await start_engine(spec, *args)

    monkeypatch.setattr("lmstudio_async.embedded._instances._registry.start_engine", counting)
    return begun

"""The embedded server with models named as in the documentation, and blocking clients of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lmstudio_sync as lms
from lmstudio_async.testing import HERMES, ModelsFolder, tool_call


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with LM Studio's models folder in it."""
    home = tmp_path_factory.mktemp("home")
    folder = ModelsFolder(home / ".lmstudio" / "models")
    folder.add_llm(
        "lmstudio-community/Llama-3.2-1B-Instruct-GGUF/Llama-3.2-1B-Instruct-Q4_K_M.gguf",
        script="The meaning of life is what you make of it",
    )
    folder.add_llm(
        "acme/Talker-GGUF/Talker-Q8_0.gguf", script="on and on ", endless=True, context_length=65536
    )
    folder.add_llm(
        "acme/Tools-GGUF/Tools-Q8_0.gguf",
        script=tool_call("add", a=1, b=2),
        then=["The sum is 3."],
        chat_template=HERMES,
    )
    folder.add_embedding("nomic-ai/nomic-embed-text-v1.5-GGUF/nomic-embed-text-v1.5.Q8_0.gguf")
    return home


@pytest.fixture(scope="session")
def models(home: Path) -> Path:
    return home / ".lmstudio" / "models"


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def client(request: pytest.FixtureRequest, models: Path) -> Iterator[lms.Client]:
    """A client of an embedded server, for the tests of one module."""
    with lms.Client(lms.EmbeddedServer(models, threads=1), backend=request.param) as client:
        yield client


@pytest.fixture
def nothing_loaded(client: lms.Client) -> Iterator[None]:
    """Unload every model after the test."""
    yield
    for model in client.list_loaded_models():
        model.unload()


@pytest.fixture
def default_client(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    """Let the default client be created anew, with an embedded server and these models, and close it afterwards."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("LMSTUDIO_HOST", "embedded")
    lms.close_default_client()
    yield
    lms.close_default_client()

"""The official package's functions that need no client."""

from __future__ import annotations

from collections.abc import Iterator

import lmstudio
import pytest
from lmstudio.sync_api import _reset_default_client

from tests.official.serving import Served


@pytest.fixture(autouse=True)
def default_client(server: Served) -> Iterator[None]:
    lmstudio.configure_default_client(server.address)
    yield
    for model in lmstudio.list_loaded_models():
        model.unload()
    _reset_default_client()


def test_models_are_loaded_used_and_listed() -> None:
    assert len(lmstudio.list_downloaded_models()) == 10
    assert len(lmstudio.list_downloaded_models("embedding")) == 1
    model = lmstudio.llm("tiny", ttl=60, config={"contextLength": 512})
    assert model.get_context_length() == 512
    assert lmstudio.llm() == model
    assert model.respond("hi").content == "Hello there, old friend"
    assert [each.identifier for each in lmstudio.list_loaded_models("llm")] == ["tiny"]
    assert len(lmstudio.embedding_model("text-embedding-embed").embed("hello")) == 16
    assert [each.identifier for each in lmstudio.list_loaded_models()] == ["text-embedding-embed"]


def test_an_image_is_uploaded() -> None:
    handle = lmstudio.prepare_image(b"\x89PNG\r\n\x1a\n", "dot.png")
    assert (handle.name, handle.file_type, handle.size_bytes) == ("dot.png", "image", 8)


def test_an_unloaded_model_is_not_listed() -> None:
    lmstudio.llm("tiny").unload()
    assert lmstudio.list_loaded_models() == []

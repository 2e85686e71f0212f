"""A client beside the commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import lmstudio_sync as lms


@pytest.fixture
def client(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[lms.Client]:
    """A client of the server at the ``address`` of the test's module, which commands find in the environment."""
    monkeypatch.setenv("LMSTUDIO_HOST", address)
    with lms.Client(address) as client:
        yield client
        for model in client.list_loaded_models():
            model.unload()

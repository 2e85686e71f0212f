"""Fixtures for pytest: a models folder, and a server for it that the program under test finds by itself.

::

    # my_program.py
    import lmstudio_sync as lms

    def ask(question):
        return str(lms.llm("qwen3-4b").respond(question))

    # conftest.py
    pytest_plugins = ["lmstudio_async.testing.plugin"]

    # test_my_program.py
    import my_program

    def test_it_knows_the_answer(lmstudio_models, lmstudio_host):
        lmstudio_models.add_llm("qwen3-4b", script="Forty-two.")
        assert my_program.ask("What is the answer?") == "Forty-two."
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import ModelsFolder, served

__all__ = ["lmstudio_host", "lmstudio_models"]


@pytest.fixture
def lmstudio_models(tmp_path: Path) -> ModelsFolder:
    """An empty models folder, for scripted models. They may be added while the server runs.

    :param tmp_path: pytest's fixture.
    :return: the folder.
    """
    return ModelsFolder(tmp_path / "lmstudio-models")


@pytest.fixture
def lmstudio_host(lmstudio_models: ModelsFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Host and port of an embedded server with the models of ``lmstudio_models``, which runs for the time of a test.

    ``AsyncClient()``, ``Client()`` and the default client of ``lmstudio_sync`` connect to it, here and in the programs
    that the test starts: it is the ``LMSTUDIO_HOST`` of their environment, and there is no API token.

    :param lmstudio_models: the models that the server can load.
    :param monkeypatch: pytest's fixture.
    :return: for example ``"127.0.0.1:41343"``.
    """
    for name in ("LM_API_TOKEN", "LMSTUDIO_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # One thread is all that models of this size can use.
    with served(EmbeddedServer(lmstudio_models.folder, threads=1)) as host:
        monkeypatch.setenv("LMSTUDIO_HOST", host)
        yield host
        # Close the default client, because the next test has another server. A test that did not import the facade has
        # no default client.
        facade = sys.modules.get("lmstudio_sync")
        if facade is not None:
            facade.close_default_client()

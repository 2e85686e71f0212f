"""Messages of the SDK and of the embedded server: a command shows options in place of calls in Python."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from lmstudio_async import EmbeddedServer, UnloadReason
from lmstudio_async._cli import main
from lmstudio_async._cli._run import message_of
from lmstudio_async._protocol._departure import Departure, advice
from lmstudio_async.errors import LMStudioError, LMStudioServerError, LMStudioValueError
from lmstudio_async.testing import ModelsFolder, served
from tests.embedded.local_hub import LocalHub

#: A call, an argument, or a class of Python.
PYTHON = re.compile(
    r"\w\(\w*\)|\w\(\.\.\.\)|=None|=\[|\w+_\w+=|\bhandle\b|EmbeddedServer|ServerLimits|api_tokens"
)


@pytest.mark.parametrize("reason", [None, *get_args(UnloadReason)])
def test_message_about_an_instance_that_is_gone_names_commands(reason: UnloadReason | None) -> None:
    text = advice(None if reason is None else Departure(reason, "other", 5.0))
    assert PYTHON.search(text)
    shown = message_of(LMStudioServerError(f"The instance is gone.\n{text}"))
    assert not PYTHON.search(shown), shown
    assert shown.startswith("The instance is gone.\n")


@pytest.mark.parametrize("places", [[""], ["a\0b"]])
def test_message_about_a_place_of_models_names_the_option(places: list[str]) -> None:
    with pytest.raises(LMStudioValueError) as caught:
        EmbeddedServer(places)
    assert message_of(caught.value).startswith("--models has ")


def test_message_about_a_pattern_of_embedding_models_names_the_option() -> None:
    with pytest.raises(LMStudioValueError) as caught:
        EmbeddedServer(embedding_models=[""])
    assert message_of(caught.value).startswith("--embedding-model takes model keys")


def test_pull_to_a_server_without_a_folder_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ModelsFolder(tmp_path).add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LocalHub() as hub:
        hub.add("acme/other-GGUF", {"other-Q4_K_M.gguf": file.read_bytes()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with served(EmbeddedServer(file, threads=1)) as host:
            assert main(["pull", "acme/other-GGUF", "--host", host, "--quiet"]) == 1
    assert "Give it a folder, too: --models model.gguf --models folder." in capsys.readouterr().err


def test_other_messages_stay_the_same() -> None:
    assert message_of(LMStudioError("The model 'a(b)=[c]' has gone.")) == "The model 'a(b)=[c]' has gone."

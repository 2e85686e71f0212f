"""Completion in a shell: commands, options, model keys and identifiers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import lmstudio_async as lms
from lmstudio_async._cli._completion import identifiers
from lmstudio_async.testing import ModelsFolder
from tests.cli.running import run, serving


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("home") / ".lmstudio" / "models")
    folder.add_llm("tiny")
    folder.add_llm("other")
    return folder.folder


def complete(line: str, **environment: str) -> list[str]:
    """Return the completions of the last word of a line, as the script for bash asks for them."""
    words = line.split(" ")
    code, output = run(
        _LMSA_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), **environment
    )
    assert code == 0, output
    return output.split()


def test_commands_and_options_are_completed() -> None:
    assert complete("lmsa d") == ["demo", "doctor"]
    assert complete("lmsa serve --pre") == ["--preload"]


def test_model_keys_of_the_server_are_completed(models: Path) -> None:
    with serving(models) as (host, _):
        assert complete("lmsa demo --model ", LMSTUDIO_HOST=host) == ["other", "tiny"]
        assert complete("lmsa serve --preload ti", LMSTUDIO_HOST=host) == ["tiny"]


def test_model_keys_of_the_embedded_server_are_completed(models: Path) -> None:
    home = str(models.parent.parent)
    here = {"LMSTUDIO_HOST": "embedded", "HOME": home, "USERPROFILE": home, "HF_HUB_CACHE": home}
    assert complete("lmsa demo --model o", **here) == ["other"]


def test_completion_is_silent_without_a_server_and_models(tmp_path: Path, closed_port: int) -> None:
    home = {
        name: str(tmp_path)
        for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME", "HF_HUB_CACHE")
    }
    assert complete("lmsa demo --model ", LMSTUDIO_HOST=f"127.0.0.1:{closed_port}", **home) == []
    assert complete("lmsa demo --model ", LMSTUDIO_HOST="http://a b", **home) == []


def test_identifiers_are_completed(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import anyio

    async def load(host: str) -> None:
        async with lms.AsyncClient(host) as client:
            await client.llm.load_new_instance("tiny", "chat")

    with serving(models) as (host, _):
        anyio.run(load, host)
        monkeypatch.setenv("LMSTUDIO_HOST", host)
        assert identifiers("") == ["chat"]
        assert identifiers("x") == []


@pytest.mark.skipif(sys.platform == "win32", reason="bash is rare there")
def test_show_completion_prints_a_script_for_lmsa() -> None:
    code, output = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert code == 0, output
    assert "_LMSA_COMPLETE=complete_bash" in output
    assert output.rstrip().endswith("lmsa")

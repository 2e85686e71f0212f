"""Completion in a shell: commands, options, model keys and identifiers."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

import lmstudio_async as lms
from lmstudio_async._cli import main
from lmstudio_async.testing import ModelsFolder
from tests.cli.commands import Outcome, run, serving

TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("home") / ".lmstudio" / "models")
    folder.add_llm("tiny")
    folder.add_llm("other")
    return folder.folder


@pytest.fixture(scope="module")
def host(models: Path) -> Iterator[str]:
    """A server that has an instance of the name ``chat``."""

    async def load(host: str) -> None:
        async with lms.AsyncClient(host) as client:
            await client.llm.load_new_instance("tiny", "chat", ttl=None)

    with serving(models) as (host, _):
        anyio.run(load, host)
        yield host


@pytest.fixture
def nothing(tmp_path: Path) -> dict[str, str]:
    """The environment of a user without models."""
    names = ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME", "HF_HUB_CACHE")
    return dict.fromkeys(names, str(tmp_path))


Complete = Callable[..., list[str]]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    """A function that returns the completions of the last word of a line, as the script for bash asks for them."""
    # On a busy machine a server may take long.
    monkeypatch.setattr("lmstudio_async._cli._completion._SECONDS", 60)

    def complete(line: str, **environment: str) -> list[str]:
        with monkeypatch.context() as patch:
            for name, value in {**asked(line), **environment}.items():
                patch.setenv(name, value)
            code = main([])
        shown = capsys.readouterr()
        assert (code, shown.err) == (0, "")
        return shown.out.split()

    return complete


def asked(line: str) -> dict[str, str]:
    """Return the variables by which the script for bash asks for the completions of the last word of a line."""
    return {"_LMSA_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}


def test_commands_and_options_are_completed(complete: Complete) -> None:
    assert complete("lmsa d") == ["demo", "doctor"]
    assert complete("lmsa serve --pre") == ["--preload"]


@pytest.mark.parametrize("line", ["load ", "estimate ", "demo --model ", "load --ttl 5m --as chat "])
def test_model_keys_of_the_server_are_completed(complete: Complete, line: str, host: str) -> None:
    assert complete(f"lmsa {line}", LMSTUDIO_HOST=host) == ["other", "tiny"]
    assert complete(f"lmsa {line}ti", LMSTUDIO_HOST=host) == ["tiny"]


def test_run_and_embed_complete_keys_and_identifiers_of_their_kind(
    complete: Complete, host: str, tmp_path: Path
) -> None:
    assert complete("lmsa run ", LMSTUDIO_HOST=host) == ["other", "tiny", "chat"]
    assert complete("lmsa embed ", LMSTUDIO_HOST=host) == []
    folder = ModelsFolder(tmp_path / "models")
    folder.add_llm("tiny")
    folder.add_embedding("vectors")
    with serving(folder.folder) as (address, _):
        for place in (f"--host {address}", f"--models {folder.folder}"):
            assert complete(f"lmsa run {place} ") == ["tiny"]
            assert complete(f"lmsa embed {place} ") == ["text-embedding-vectors"]


@pytest.mark.parametrize("line", ["unload ", "unload other-one ", "load tiny --ensure --as "])
def test_identifiers_are_completed(complete: Complete, line: str, host: str) -> None:
    assert complete(f"lmsa {line}", LMSTUDIO_HOST=host) == ["chat"]
    assert complete(f"lmsa {line}x", LMSTUDIO_HOST=host) == []


def test_options_of_the_line_name_the_server(
    complete: Complete, host: str, models: Path, closed_port: int, tmp_path: Path
) -> None:
    nowhere = f"127.0.0.1:{closed_port}"
    assert complete(f"lmsa unload --host {host} ", LMSTUDIO_HOST=nowhere) == ["chat"]
    assert complete(f"lmsa run --models {models} ", LMSTUDIO_HOST=nowhere) == ["other", "tiny"]
    assert complete(f"lmsa demo --models {models} --model ", LMSTUDIO_HOST=nowhere) == ["other", "tiny"]
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    with serving(models, "--token-file", str(file)) as (address, _):
        assert complete(f"lmsa load --host {address} ") == []
        assert complete(f"lmsa load --host {address} --token-file {file} ") == ["other", "tiny"]


@pytest.mark.parametrize(
    "line", ["rm ", "rm -y tiny ", "serve --preload ", "serve --host 0.0.0.0 --preload "]
)
def test_commands_of_the_embedded_server_complete_its_models(
    complete: Complete, line: str, models: Path, closed_port: int
) -> None:
    home = str(models.parent.parent)
    # Another server does not matter.
    environment = {"HOME": home, "USERPROFILE": home, "LMSTUDIO_HOST": f"127.0.0.1:{closed_port}"}
    assert complete(f"lmsa {line}", **environment, HF_HUB_CACHE=home) == ["other", "tiny"]


def test_models_option_of_serve_and_rm_is_the_place_of_the_models(
    complete: Complete, models: Path, nothing: dict[str, str]
) -> None:
    assert complete(f"lmsa serve --models {models} --preload o", **nothing) == ["other"]
    assert complete(f"lmsa rm --models {models / 'test'} ", **nothing) == ["other", "tiny"]
    assert complete("lmsa rm ", **nothing) == []


def test_model_keys_of_the_embedded_server_are_completed(complete: Complete, models: Path) -> None:
    home = str(models.parent.parent)
    here = {"LMSTUDIO_HOST": "embedded", "HOME": home, "USERPROFILE": home, "HF_HUB_CACHE": home}
    assert complete("lmsa run o", **here) == ["other"]
    # Its instances end with the command.
    assert complete("lmsa unload ", **here) == []


@pytest.mark.parametrize("line", ["load ", "run ", "unload ", "rm ", "serve --preload ", "demo --model "])
def test_completion_is_silent_without_a_server_and_models(
    complete: Complete, line: str, nothing: dict[str, str], closed_port: int, tmp_path: Path
) -> None:
    assert complete(f"lmsa {line}", LMSTUDIO_HOST=f"127.0.0.1:{closed_port}", **nothing) == []
    assert complete(f"lmsa {line}", LMSTUDIO_HOST="http://a b", **nothing) == []
    assert list(tmp_path.iterdir()) == [], "a completion creates nothing"


def test_completion_does_not_wait_for_a_server_that_sends_nothing(
    complete: Complete, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstudio_async._cli._completion._SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        assert complete("lmsa load ", LMSTUDIO_HOST=host) == []
    # A client waits ten seconds for a connection.
    assert time.monotonic() - start < 9


def test_a_shell_that_asks_a_process_gets_nothing_but_the_completions(models: Path) -> None:
    assert run(**asked("lmsa serve --pre")) == Outcome(0, "--preload\n", "")
    assert run(**asked(f"lmsa rm --models {models / 'nowhere'} ")) == Outcome(0, "\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="bash is rare there")
def test_show_completion_prints_a_script_for_lmsa() -> None:
    done = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.code == 0, done
    assert "_LMSA_COMPLETE=complete_bash" in done.out
    assert done.out.rstrip().endswith("lmsa")

"""`lmsa pull`: names and search words, in pipes and in a terminal, on the embedded default and on a running server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmstudio_async import EmbeddedServer
from lmstudio_async.testing import served
from lmstudio_async.testing._tiny_models import write_llm
from tests.cli.commands import command_in_terminal, run
from tests.embedded.local_hub import LocalHub

TINY = "acme/tiny-GGUF"

needs_terminal = pytest.mark.skipif(os.name != "posix", reason="there are no pseudo-terminals")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llm(tmp_path_factory.mktemp("model") / "model.gguf").read_bytes()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: bytes) -> Iterator[LocalHub]:
    """A hub with some models, and a home folder without any."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with LocalHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        hub.add(TINY, {"tiny-Q4_K_M.gguf": model, "tiny-Q8_0.gguf": model})
        hub.add("other/tiny-GGUF", {"tiny-Q4_K_M.gguf": model})
        hub.add("acme/large-one-GGUF", {"large-one-Q4_K_M.gguf": model})
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "models").mkdir()
    return str(tmp_path / "models")


def files(folder: str) -> list[str]:
    return sorted(
        str(path.relative_to(folder).as_posix()) for path in Path(folder).rglob("*") if path.is_file()
    )


def test_pull_prints_the_key_and_needs_the_hub_only_once(hub: LocalHub, folder: str) -> None:
    code, out, err = run("pull", TINY, "--models", folder)
    assert (code, out, err) == (0, "tiny\n", f"Downloading {TINY}, 0.2 MB ...\n")
    assert files(folder) == [f"{TINY}/tiny-Q4_K_M.gguf"]
    requests = list(hub.requests)
    assert run("pull", "tiny", "--models", folder) == (0, "tiny\n", "It is downloaded already:\n")
    assert hub.requests == requests


def test_pull_without_models_fills_the_default_folder_that_ls_lists(hub: LocalHub) -> None:
    # Without a running LM Studio, --host embedded is the default.
    assert run("pull", f"{TINY}:Q8_0", "--host", "embedded", "--quiet") == (0, "tiny\n", "")
    code, out, _ = run("ls", "--host", "embedded", "--json")
    assert code == 0
    assert [(each["model_key"], each["quantization"]) for each in json.loads(out)] == [("tiny", "Q8_0")]


def test_json_says_whether_the_model_was_downloaded(hub: LocalHub, folder: str) -> None:
    options = ("--quantization", "q8_0", "--json", "--quiet", "--models", folder)
    for is_new in (True, False):
        code, out, err = run("pull", TINY, *options)
        assert (code, err) == (0, "")
        assert json.loads(out) == {"model_key": "tiny", "downloaded": is_new}


def test_unknown_quantization_lists_those_that_there_are(hub: LocalHub, folder: str) -> None:
    code, out, err = run("pull", f"{TINY}:Q3_K_S", "--models", folder)
    assert (code, out) == (4, "")
    assert err.startswith(
        f'lmsa: There is no Q3_K_S of "{TINY}".\nThere are: Q4_K_M (0.2 MB, recommended), Q8_0'
    )


def test_name_of_one_repository_needs_no_question(hub: LocalHub, folder: str) -> None:
    code, out, err = run("pull", "large-one", "--models", folder)
    assert (code, out) == (0, "large-one\n")
    assert err.startswith("large-one is acme/large-one-GGUF.\n")


@pytest.mark.parametrize("words", [("tiny",), ("acme",), ("gguf", "large")])
def test_words_that_may_mean_several_models_end_with_a_list(
    hub: LocalHub, folder: str, words: tuple[str, ...]
) -> None:
    code, out, err = run("pull", *words, "--models", folder, "--json")
    assert (code, out) == (1, "")
    found = {
        "tiny": [TINY, "other/tiny-GGUF"],
        "acme": [TINY, "acme/large-one-GGUF"],
        "gguf": ["acme/large-one-GGUF"],
    }[words[0]]
    assert err.splitlines() == [
        f"lmsa: A search for {' '.join(words)!r} finds these models:",
        *(f"  {name}" for name in found),
        "Name one of them, or take the first one with --first.",
    ]
    assert files(folder) == []


@pytest.mark.parametrize("option", ["--first", "--yes", "-y"])
def test_first_takes_the_first_model_that_a_search_finds(hub: LocalHub, folder: str, option: str) -> None:
    code, out, err = run("pull", "tiny", option, "--models", folder)
    assert (code, out) == (0, "tiny\n")
    assert f"tiny is {TINY}." in err
    assert files(folder) == [f"{TINY}/tiny-Q4_K_M.gguf"]


def test_search_without_results_is_exit_code_4(hub: LocalHub, folder: str) -> None:
    code, _, err = run("pull", "nothing-like-it", "--models", folder)
    assert (code, err) == (4, "lmsa: A search for 'nothing-like-it' finds no model. Try fewer words.\n")


@pytest.mark.parametrize("name", ["acme/unknown", "acme/un known", "acme/notes"])
def test_repository_without_a_model_is_exit_code_4(hub: LocalHub, folder: str, name: str) -> None:
    hub.add("acme/notes", {"README.md": b"Hello"})
    code, out, err = run("pull", name, "--models", folder)
    assert (code, out) == (4, "")
    assert name in err


def test_unreachable_hub_is_one_message(
    folder: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    code, out, err = run("pull", TINY, "--models", folder)
    assert (code, out) == (1, "")
    assert "cannot be reached" in err


@pytest.mark.parametrize("name", [("",), (":Q4_0",), (f"{TINY}:Q8_0", "--quantization", "Q4_0")])
def test_name_that_makes_no_sense_is_refused(hub: LocalHub, folder: str, name: tuple[str, ...]) -> None:
    code, out, _ = run("pull", *name, "--models", folder)
    assert (code, out, hub.requests) == (2, "", [])


def test_pull_downloads_on_a_running_server(hub: LocalHub, folder: str) -> None:
    with served(EmbeddedServer(folder, threads=1)) as host:
        assert run("pull", TINY, "--host", host, "--quiet") == (0, "tiny\n", "")
    assert files(folder) == [f"{TINY}/tiny-Q4_K_M.gguf"]


# -- in a terminal


@needs_terminal
def test_terminal_offers_a_choice_and_draws_a_bar(hub: LocalHub, folder: str) -> None:
    with command_in_terminal("pull", "tiny", "--models", folder, has_output=False) as terminal:
        asked = terminal.wait_for("Which one? [1-2, Enter for none]")
        assert f"1  {TINY}" in asked
        assert "2  other/tiny-GGUF" in asked
        terminal.type("3\n")
        assert "'3' is no number from 1 to 2" in terminal.wait_for("Which one?")
        terminal.type("2\n")
        terminal.wait_for("100%  0.2 MB")
        assert terminal.wait_for_end() == 0
        assert terminal.read_output() == "tiny\n"
    assert files(folder) == ["other/tiny-GGUF/tiny-Q4_K_M.gguf"]


@needs_terminal
def test_no_bar_is_drawn_if_the_user_wants_none(
    hub: LocalHub, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTUDIO_PROGRESS", "0")
    with command_in_terminal("pull", TINY, "--models", folder, has_output=False) as terminal:
        assert terminal.wait_for_end() == 0
        assert terminal.read_output() == "tiny\n"
    assert terminal.raw == f"Downloading {TINY}, 0.2 MB ...\r\n"


def test_lines_are_printed_without_a_terminal_if_the_user_wants_them(
    hub: LocalHub, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTUDIO_PROGRESS", "1")
    code, out, err = run("pull", TINY, "--models", folder)
    assert (code, out) == (0, "tiny\n")
    assert f"{TINY}: 100 % (" in err


@needs_terminal
@pytest.mark.parametrize("answer", ["", "\x04"])
def test_no_choice_downloads_nothing(hub: LocalHub, folder: str, answer: str) -> None:
    with command_in_terminal("pull", "tiny", "--models", folder, has_output=False) as terminal:
        terminal.wait_for("Which one?")
        # Ctrl-D is the end of the input.
        terminal.type(f"{answer}\n")
        terminal.wait_for("Nothing was downloaded.")
        assert terminal.wait_for_end() == 1
        assert terminal.read_output() == ""


@needs_terminal
def test_one_result_of_other_words_is_confirmed(hub: LocalHub, folder: str) -> None:
    for answer, code in (("n", 1), ("y", 0)):
        with command_in_terminal("pull", "large", "--models", folder, has_output=False) as terminal:
            terminal.wait_for("Download acme/large-one-GGUF (Q4_K_M, 0.2 MB)? [y/N]")
            terminal.type(f"{answer}\n")
            assert terminal.wait_for_end() == code
    assert files(folder) == ["acme/large-one-GGUF/large-one-Q4_K_M.gguf"]


@needs_terminal
def test_interrupt_at_the_question_ends_the_command(hub: LocalHub, folder: str) -> None:
    with command_in_terminal("pull", "tiny", "--models", folder, has_output=False) as terminal:
        terminal.wait_for("Which one?")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait_for_end() == 130


@needs_terminal
def test_interrupted_download_goes_on_where_it_stopped(hub: LocalHub, folder: str, model: bytes) -> None:
    hub.pause_at(100_000)
    with command_in_terminal("pull", TINY, "--models", folder, has_output=False) as terminal:
        terminal.wait_for("0.1 of 0.2 MB")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("Interrupted. The same command goes on where the download stopped.")
        assert terminal.wait_for_end() == 130
        assert terminal.read_output() == ""
    # The cursor was never hidden, and no key appears.
    assert "\x1b[?25l" not in terminal.raw
    hub.go_on()
    (part,) = Path(folder).rglob("*.part")
    kept = part.stat().st_size
    assert run("pull", TINY, "--models", folder, "--quiet") == (0, "tiny\n", "")
    assert hub.downloads[-1] == ("tiny-Q4_K_M.gguf" + (f" bytes={kept}-" if kept else ""))
    assert (Path(folder) / TINY / "tiny-Q4_K_M.gguf").read_bytes() == model

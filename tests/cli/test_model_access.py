"""The model of ``run``, ``embed`` and ``load``: its load, and the download of a missing one, in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import lmstudio_async as lms
import lmstudio_sync
from lmstudio_async.testing import ModelsFolder, served
from lmstudio_async.testing._tiny_models import write_embedding, write_llm

if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals", allow_module_level=True)

from tests.cli.commands import command_in_terminal
from tests.embedded.local_hub import LocalHub
from tests.processes import HeldLoads, wait_gone
from tests.program_terminal import CTRL_C, CTRL_D


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A hub with one model, for the commands and for the server of a test."""
    with LocalHub() as hub:
        model = write_llm(tmp_path / "model.gguf", script="Here I am.").read_bytes()
        hub.add("acme/tiny-GGUF", {"tiny-Q4_K_M.gguf": model})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield hub


QUESTION = "Download acme/tiny (Q4_K_M, 0.2 MB)? [y/N]"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("columns", [80, 200])
def test_missing_model_is_downloaded_if_the_user_agrees(hub: LocalHub, models: Path, columns: int) -> None:
    arguments = ("run", "--models", str(models), "acme/tiny", "Hello")
    with command_in_terminal(*arguments, columns=columns) as terminal:
        assert "There is no model 'acme/tiny'." in terminal.wait_for(QUESTION)
        terminal.type("y\n")
        terminal.wait_for("Here I am.\n")
        assert terminal.wait_for_end() == 0
    assert [file.name for file in models.rglob("*.gguf")] == ["tiny-Q4_K_M.gguf"]


@pytest.mark.parametrize(("key", "code"), [("n\n", 4), (CTRL_D, 4), (CTRL_C, 130)])
def test_declined_download_ends_the_command(key: str, code: int, hub: LocalHub, models: Path) -> None:
    arguments = ("run", "--models", str(models), "tiny", "Hello")
    with command_in_terminal(*arguments) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type(key)
        terminal.wait_for("Interrupted." if code == 130 else "To download it:\nlmsa pull tiny")
        assert terminal.wait_for_end() == code
    assert hub.downloads == []
    assert list(models.iterdir()) == []


def test_download_of_a_missing_model_asks_which_one_as_pull_does(hub: LocalHub, models: Path) -> None:
    model = write_llm(models.parent / "other.gguf", script="There I am.").read_bytes()
    hub.add("other/tiny-GGUF", {"tiny-Q4_K_M.gguf": model})
    arguments = ("run", "--models", str(models), "tiny", "Hello")
    with command_in_terminal(*arguments) as terminal:
        terminal.wait_for("2  other/tiny-GGUF")
        terminal.wait_for("Which one? [1-2, Enter for none]")
        terminal.type("2\n")
        terminal.wait_for("There I am.\n")
        assert terminal.wait_for_end() == 0


def test_missing_model_that_no_search_finds_is_one_message(hub: LocalHub, models: Path) -> None:
    arguments = ("run", "--models", str(models), "nothing", "Hello")
    with command_in_terminal(*arguments) as terminal:
        terminal.wait_for("There is no model 'nothing'.")
        terminal.wait_for("lmsa: No model to download has the name 'nothing'. To search with other words:\n")
        assert terminal.wait_for_end() == 4


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("acme/unknown", "there is no such repository"),
        ("acme/tiny:Q3_K_S", "There are: Q4_K_M (0.2 MB, recommended)"),
    ],
)
def test_model_that_cannot_be_downloaded_is_not_offered(
    hub: LocalHub, models: Path, key: str, message: str
) -> None:
    arguments = ("run", "--models", str(models), key, "Hello")
    with command_in_terminal(*arguments, columns=200) as terminal:
        terminal.wait_for(f"There is no model {key!r}.")
        terminal.wait_for("lmsa: It cannot be downloaded. ")
        terminal.wait_for(message)
        assert terminal.wait_for_end() == 4
    assert "[y/N]" not in terminal.shown
    assert hub.downloads == []


def test_misspelt_key_of_a_downloaded_model_names_it_and_offers_no_other(hub: LocalHub, models: Path) -> None:
    ModelsFolder(models).add_llm("large")
    model = next(iter(hub.repositories["acme/tiny-GGUF"].files.values()))
    for name in ("acme/larg-one-GGUF", "acme/larg-two-GGUF"):
        hub.add(name, {"model-Q4_K_M.gguf": model})
    with command_in_terminal("run", "--models", str(models), "larg", "Hello") as terminal:
        terminal.wait_for("There is no model 'larg'. Did you mean 'large'?")
        terminal.wait_for("lmsa: No model to download has the name 'larg'.")
        assert terminal.wait_for_end() == 4


def test_downloaded_model_of_the_other_kind_names_the_right_command(hub: LocalHub, models: Path) -> None:
    model = write_embedding(models.parent / "vectors.gguf").read_bytes()
    hub.add("acme/vectors-GGUF", {"vectors-Q4_K_M.gguf": model})
    arguments = ("run", "--models", str(models), "acme/vectors", "Hello")
    with command_in_terminal(*arguments) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("y\n")
        terminal.wait_for("its vectors:\n")
        terminal.wait_for(f"lmsa embed text-embedding-vectors TEXT --models {models}")
        assert terminal.wait_for_end() == 1


@pytest.mark.parametrize(
    ("options", "name"), [([], "tiny"), (["--as", "mine"], "mine"), (["--ensure"], "acme/tiny")]
)
def test_load_of_a_missing_model_downloads_it_if_the_user_agrees(
    hub: LocalHub, models: Path, options: list[str], name: str
) -> None:
    with served(lms.EmbeddedServer(models)) as host, lmstudio_sync.Client(host) as client:
        for answer, code in (("n", 4), ("y", 0)):
            with command_in_terminal("load", "--host", host, "acme/tiny", *options) as terminal:
                assert "There is no model 'acme/tiny'." in terminal.wait_for(QUESTION)
                terminal.type(f"{answer}\n")
                terminal.wait_for(f"{name}\n" if code == 0 else "To download it:\nlmsa pull acme/tiny")
                assert terminal.wait_for_end() == code
            assert [llm.identifier for llm in client.llm.list_loaded()] == ([name] if code == 0 else [])


def test_ctrl_c_cancels_a_load_on_the_server(models: Path, held_loads: HeldLoads) -> None:
    ModelsFolder(models).add_llm("tiny")
    with served(lms.EmbeddedServer(models)) as host, lmstudio_sync.Client(host) as client:
        with command_in_terminal("run", "--host", host, "tiny", "Hello") as terminal:
            terminal.wait_for("loading tiny")
            terminal.type(CTRL_C)
            terminal.wait_for("Interrupted.")
            assert terminal.wait_for_end() == 130
            assert "\x1b[?25l" not in terminal.raw  # the cursor was never hidden
        # The worker is held, so that only the cancel can have ended it.
        anyio.run(wait_gone, held_loads.get())
        assert client.llm.list_loaded() == []


def test_bar_of_a_load_disappears_before_the_answer(models: Path) -> None:
    ModelsFolder(models).add_llm("tiny", script="Here I am.")
    ModelsFolder(models).add_llm("older")
    with served(lms.EmbeddedServer(models)) as host, lmstudio_sync.Client(host) as client:
        client.llm.model("older")
        with command_in_terminal("run", "--host", host, "tiny", "Hello") as terminal:
            terminal.wait_for("evicting older")
            terminal.wait_for("loading tiny")
            terminal.wait_for("Here I am.\n")
            assert terminal.wait_for_end() == 0
            # The last line of the bar is erased.
            assert "\r\x1b[KHere I am." in terminal.raw
            assert "Evicting older to make room.\r\n" in terminal.raw
        with command_in_terminal("run", "--host", host, "tiny", "Hello") as terminal:
            assert terminal.wait_for_end() == 0
            # An instance that is there has no bar.
            assert terminal.raw == "Here I am.\r\n"
        with command_in_terminal("run", "--host", host, "older", "Hello", "--quiet") as terminal:
            assert terminal.wait_for_end() == 0
            assert terminal.raw == "Hello there\r\n"
        with command_in_terminal("run", "--host", host, "tiny", "Hello", LMSTUDIO_PROGRESS="0") as terminal:
            assert terminal.wait_for_end() == 0
            assert terminal.raw == "Evicting older to make room.\r\nHere I am.\r\n"

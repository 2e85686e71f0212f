"""`lmsa rm`: deletion from the models folders of this machine, after a question."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async._cli import main
from lmstudio_async.testing import ModelsFolder, served
from lmstudio_sync import Client
from tests.cli.commands import command_in_terminal, run

needs_terminal = pytest.mark.skipif(os.name != "posix", reason="there are no pseudo-terminals")


@pytest.fixture
def models(tmp_path: Path) -> ModelsFolder:
    models = ModelsFolder(tmp_path / "models")
    models.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    models.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf")
    models.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    return models


def names(models: ModelsFolder) -> list[str]:
    return sorted(path.name for path in models.folder.rglob("*.gguf"))


def rm(models: ModelsFolder, *arguments: str) -> Any:
    return run("rm", *arguments, "--models", str(models.folder))


def test_rm_deletes_the_models_of_keys_and_paths(models: ModelsFolder) -> None:
    code, out, err = rm(models, "tiny@q8_0", "acme/embed-GGUF/embed-F32.gguf", "--yes")
    assert (code, err) == (0, "")
    assert [line.partition(",")[0] for line in out.splitlines()] == [
        "Deleted tiny@q8_0",
        "Deleted text-embedding-embed",
    ]
    assert names(models) == ["tiny-Q4_K_M.gguf"]


def test_json_has_the_freed_bytes(models: ModelsFolder) -> None:
    path = "acme/tiny-GGUF/tiny-Q8_0.gguf"
    size = (models.folder / path).stat().st_size
    code, out, _ = rm(models, "tiny:Q8_0", "tiny@q8_0", "--yes", "--json")
    assert code == 0
    assert json.loads(out) == [{"model_key": "tiny@q8_0", "path": path, "freed_bytes": size}]


def test_without_a_terminal_nothing_is_deleted_unless_yes_is_given(models: ModelsFolder) -> None:
    code, out, err = rm(models, "tiny@q8_0")
    assert (code, out, err) == (1, "", "lmsa: Nothing was deleted: add --yes to delete without a question.\n")
    assert len(names(models)) == 3


def test_key_of_several_models_deletes_none(models: ModelsFolder) -> None:
    code, _, err = rm(models, "embed", "tiny", "--yes")
    assert (code, len(names(models))) == (1, 3)
    assert "'tiny' means several models: tiny@q4_k_m, tiny@q8_0." in err


def test_unknown_key_deletes_none_and_lists_the_models(models: ModelsFolder) -> None:
    code, _, err = rm(models, "embed", "nothing", "--yes")
    assert (code, len(names(models))) == (4, 3)
    assert "There is no model 'nothing'" in err
    assert "tiny@q4_k_m" in err


def test_misspelt_key_names_the_one_that_is_meant(models: ModelsFolder) -> None:
    for number in range(9):
        models.add_llm(f"other-{number}")
    code, _, err = rm(models, "tyny@q8_0", "--yes")
    assert code == 4
    assert (
        "There is no model 'tyny@q8_0' in the models folders of this machine. Did you mean 'tiny@q8_0'?"
        in err
    )
    # A list that is cut says so.
    assert err.endswith(", and 4 more.\n")


def test_single_file_stays(models: ModelsFolder) -> None:
    file = models.folder / "acme/embed-GGUF/embed-F32.gguf"
    code, _, err = run("rm", "embed", "--yes", "--models", str(file))
    assert (code, file.exists()) == (1, True)
    assert f"Delete the file itself: {file}" in err


@pytest.mark.parametrize("host", ["10.0.0.1:1234", "http://lmstudio.example"])
def test_other_servers_are_refused_because_the_protocol_has_no_deletion(
    models: ModelsFolder, host: str
) -> None:
    for place in ((), ("--models", str(models.folder))):
        code, _, err = run("rm", "tiny@q8_0", "--yes", "--host", host, *place)
        assert (code, len(names(models))) == (2, 3)
        assert "protocol has no request that deletes a model" in err


@needs_terminal
def test_terminal_asks_first(models: ModelsFolder) -> None:
    for answer, code, left in (("", 1, 3), ("no", 1, 3), ("y", 0, 2)):
        with command_in_terminal(
            "rm", "tiny@q8_0", "--models", str(models.folder), has_output=False
        ) as terminal:
            asked = terminal.wait_for("[y/N]")
            assert "acme/tiny-GGUF/tiny-Q8_0.gguf" in asked
            terminal.type(f"{answer}\n")
            assert terminal.wait_for_end() == code
        assert len(names(models)) == left


def test_model_that_a_server_of_this_machine_has_loaded_stays(
    models: ModelsFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(EmbeddedServer(models.folder, threads=1)) as host, Client(host) as client:
        client.llm.load_new_instance("tiny@q8_0", "mine")

        async def find() -> str:
            return host

        monkeypatch.setattr(AsyncClient, "find_default_local_api_host", find)
        monkeypatch.delenv("LMSTUDIO_HOST", raising=False)
        arguments = ["rm", "tiny@q8_0", "--yes", "--models", str(models.folder)]
        assert main(arguments) == 1
        assert "tiny@q8_0 is loaded as mine" in capsys.readouterr().err
        assert len(names(models)) == 3
        client.llm.unload("mine")
        assert main(arguments) == 0
        assert len(names(models)) == 2


@pytest.mark.skipif(os.name != "posix", reason="Windows deletes no file that is open")
def test_model_that_a_server_at_another_port_has_loaded_stays(models: ModelsFolder) -> None:
    with served(EmbeddedServer(models.folder, threads=1)) as host, Client(host) as client:
        client.llm.load_new_instance("tiny@q8_0", "mine")
        code, _, err = rm(models, "tiny@q8_0", "--yes")
        assert (code, len(names(models))) == (1, 3)
        assert '"tiny@q8_0" is loaded by another server of this machine' in err
        client.llm.unload("mine")
        assert rm(models, "tiny@q8_0", "--yes").code == 0
        assert len(names(models)) == 2

"""Programs on a machine without LM Studio and without models: short errors, whose last line is a command that works."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

import lmstudio_sync
from lmstudio_async import (
    AsyncClient,
    EmbeddedServer,
    LMStudioMissingRuntimeError,
    LMStudioModelNotFoundError,
    LMStudioUnreachableError,
    _install_command,
)
from lmstudio_async._client_limits import ClientLimits
from lmstudio_async._install_command import install_command
from lmstudio_async.testing import ModelsFolder

HOME_VARIABLES = ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME", "XDG_CACHE_HOME")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a new user."""
    for name in HOME_VARIABLES:
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def _no_lm_studio(home: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = ClientLimits(api_ports=(closed_port,), app_port=closed_port)
    monkeypatch.setattr("lmstudio_async._server_access.DEFAULT_LIMITS", nowhere)


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """Make modules look as if they were not installed, and all others as if they were."""
    found = ModuleSpec("found", None)

    def find(name: str) -> ModuleSpec | None:
        return None if name in hidden else found

    monkeypatch.setattr(_install_command, "find_spec", find)


# -- without a host


@pytest.mark.parametrize(
    ("missing", "last_line"),
    [
        ((), "lmsa pull bartowski/SmolLM2-135M-Instruct-GGUF"),
        (("huggingface_hub",), install_command("cli", "embedded", "hub")),
    ],
)
async def test_client_without_lm_studio_says_how_to_do_without_it(
    missing: tuple[str, ...], last_line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, *missing)
    with pytest.raises(LMStudioUnreachableError, match="No LM Studio found") as caught:
        await AsyncClient.open()
    lines = str(caught.value).splitlines()
    assert "LMSTUDIO_HOST=embedded" in str(caught.value)
    assert lines[-1] == last_line
    assert len(lines) <= 5


async def test_client_without_lm_studio_and_engine_has_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, "xllamacpp")
    with pytest.raises(LMStudioUnreachableError) as caught:
        await AsyncClient.open()
    assert str(caught.value).endswith(install_command("cli", "embedded", "hub"))


# -- on the embedded server


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("qwen3-4b", "qwen3-4b"),
        ("qwen3-4b@q8_0", "qwen3-4b:Q8_0"),
        ("acme/tiny-GGUF", "acme/tiny-GGUF"),
        ("two words; and more", "bartowski/SmolLM2-135M-Instruct-GGUF"),
    ],
)
async def test_embedded_server_without_models_says_how_to_get_the_requested_one(
    key: str, name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch)
    async with AsyncClient("embedded") as client:
        with pytest.raises(LMStudioModelNotFoundError) as caught:
            await client.llm.model(key)
    lines = str(caught.value).splitlines()
    assert lines[-1] == f"lmsa pull {name}"
    assert len(lines) <= 4
    assert str(home) in str(caught.value)


async def test_embedded_server_without_embedding_models_says_how_to_get_the_requested_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch)
    async with AsyncClient("embedded") as client:
        with pytest.raises(LMStudioModelNotFoundError) as caught:
            await client.embedding.model("text-embedding-nomic-embed-text-v1.5")
    assert str(caught.value).splitlines()[-1] == "lmsa pull nomic-embed-text-v1.5"


async def test_server_of_a_folder_without_models_names_the_folder_in_its_command(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch)
    folder = home / "my models"
    folder.mkdir()
    monkeypatch.chdir(home)
    for models in (folder, "my models", [folder, home]):
        async with AsyncClient(EmbeddedServer(models)) as client:
            with pytest.raises(LMStudioModelNotFoundError) as caught:
                await client.llm.model("qwen3-4b@q8_0")
            with pytest.raises(LMStudioModelNotFoundError) as of_embedding:
                await client.embedding.model("two words")
        command = str(caught.value).splitlines()[-1]
        assert command == f'lmsa pull qwen3-4b:Q8_0 --models "{folder}"'
        command = str(of_embedding.value).splitlines()[-1]
        assert command == f'lmsa pull nomic-ai/nomic-embed-text-v1.5-GGUF --models "{folder}"'


async def test_embedded_server_without_models_and_hub_has_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, "huggingface_hub")
    async with AsyncClient("embedded") as client:
        with pytest.raises(LMStudioModelNotFoundError) as caught:
            await client.llm.model("qwen3-4b")
    assert str(caught.value).splitlines()[-1] == install_command("cli", "embedded", "hub")


async def test_embedded_server_without_an_engine_has_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)  # simulates a missing package
    with pytest.raises(LMStudioMissingRuntimeError) as caught:
        await AsyncClient.open("embedded")
    assert str(caught.value).endswith(install_command("cli", "embedded", "hub"))


# -- whole programs with LMSTUDIO_HOST=embedded

ASYNC = """
import anyio
import lmstudio_async as lms

async def main():
    async with lms.AsyncClient() as client:
        llm = await client.llm.model("tiny")
        print(await llm.respond("Hello"))

anyio.run(main)
"""
BLOCKING = """
import lmstudio_sync as lms

print(lms.llm("tiny").respond("Hello"))
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"LMSTUDIO_HOST": "embedded"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("program", [ASYNC, BLOCKING])
def test_a_program_needs_no_lm_studio_with_the_variable(program: str, home: Path) -> None:
    folder = lmstudio_sync.EmbeddedServer().models[0]
    ModelsFolder(folder).add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="Here I am")
    done = run(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Here I am\n", "")


@pytest.mark.parametrize("program", [ASYNC, BLOCKING])
def test_a_program_without_models_ends_with_a_command_and_leaves_the_folder_for_them(
    program: str, home: Path
) -> None:
    done = run(program)
    assert done.returncode == 1
    last_line = done.stderr.splitlines()[-1]
    assert last_line == (
        "lmsa pull tiny"
        if not _install_command.missing_modules("cli", "embedded", "hub")
        else install_command("cli", "embedded", "hub")
    )
    assert lmstudio_sync.EmbeddedServer().models[0].is_dir()


def test_module_level_functions_use_the_embedded_server_with_the_variable(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ModelsFolder(lmstudio_sync.EmbeddedServer().models[0]).add_llm("tiny", script="Here I am")
    monkeypatch.setenv("LMSTUDIO_HOST", "embedded")
    lmstudio_sync.close_default_client()
    try:
        (model,) = lmstudio_sync.list_downloaded_models()
        assert str(lmstudio_sync.llm(model.model_key).respond("Hello")) == "Here I am"
        (loaded,) = lmstudio_sync.list_loaded_models()
        assert loaded.identifier == "tiny"
    finally:
        lmstudio_sync.close_default_client()

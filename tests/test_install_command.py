"""The commands in messages fit the installation of their reader: from a clone, an archive, a repository or an index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async import _install_command
from lmstudio_async._install_command import install_command, missing_modules, pull_command

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _forget_the_origin() -> Iterator[None]:
    _install_command._origin.cache_clear()
    yield
    _install_command._origin.cache_clear()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    clone = tmp_path / "my clone"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    return clone


class Installed:
    """An installed distribution, as far as its origin goes."""

    def __init__(self, origin: Mapping[str, Any] | str | None, installer: str | None = "pip\n") -> None:
        text = origin if origin is None or isinstance(origin, str) else json.dumps(origin)
        self._files = {"direct_url.json": text, "INSTALLER": installer}

    def read_text(self, name: str) -> str | None:
        return self._files[name]


def command(monkeypatch: pytest.MonkeyPatch, installed: Installed) -> str:
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: installed)
    return install_command("embedded", "hub")


def test_installation_from_an_index_is_extended_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = 'pip install "lmstudio-async[embedded,hub]"'
    assert command(monkeypatch, Installed(None)) == expected


def test_installation_from_a_clone_is_extended_from_there(
    monkeypatch: pytest.MonkeyPatch, clone: Path
) -> None:
    origin: dict[str, Any] = {"url": clone.as_uri(), "dir_info": {}}
    assert command(monkeypatch, Installed(origin)) == f'pip install "{clone}[embedded,hub]"'


def test_editable_installation_stays_editable(monkeypatch: pytest.MonkeyPatch, clone: Path) -> None:
    origin = {"url": clone.as_uri(), "dir_info": {"editable": True}}
    assert command(monkeypatch, Installed(origin)) == f'pip install --editable "{clone}[embedded,hub]"'


def test_installation_of_uv_is_extended_with_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = 'uv pip install "lmstudio-async[embedded,hub]"'
    assert command(monkeypatch, Installed(None, "uv")) == expected


def test_installation_from_a_clone_that_is_gone_names_any_clone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    origin: dict[str, Any] = {"url": (tmp_path / "gone").as_uri(), "dir_info": {}}
    expected = 'pip install ".[embedded,hub]" in a clone of lmstudio-async'
    assert command(monkeypatch, Installed(origin)) == expected


def test_installation_from_an_archive_is_extended_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = tmp_path / "lmstudio_async-0.1.0-py3-none-any.whl"
    wheel.touch()
    origin: dict[str, Any] = {"url": wheel.as_uri(), "archive_info": {}}
    assert command(monkeypatch, Installed(origin)) == f'pip install "{wheel}[embedded,hub]"'


@pytest.mark.parametrize(
    ("origin", "argument"),
    [
        (
            {
                "url": "https://example.com/repo",
                "vcs_info": {"vcs": "git", "commit_id": "0a1b", "requested_revision": "main"},
            },
            "git+https://example.com/repo@main",
        ),
        (
            {
                "url": "https://example.com/repo",
                "vcs_info": {"vcs": "git", "commit_id": "0a1b"},
                "subdirectory": "python",
            },
            "git+https://example.com/repo@0a1b#subdirectory=python",
        ),
        ({"url": "https://example.com/a.whl", "archive_info": {}}, "https://example.com/a.whl"),
    ],
)
def test_installation_from_a_url_is_extended_from_there(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any], argument: str
) -> None:
    expected = f'pip install "lmstudio-async[embedded,hub] @ {argument}"'
    assert command(monkeypatch, Installed(origin)) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other shells")
def test_a_shell_reads_the_path_of_an_odd_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clone = tmp_path / "a $HOME `of` \"mine\" and 'yours'"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    text = command(monkeypatch, Installed({"url": clone.as_uri(), "dir_info": {}}))
    echoed = subprocess.check_output(["sh", "-c", text.replace("pip install", "printf %s")], text=True)
    assert echoed == f"{clone}[embedded,hub]"


@pytest.mark.parametrize("content", ["", "{", "null", "not JSON"])
def test_unreadable_origin_counts_as_an_index(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    expected = 'pip install "lmstudio-async[embedded,hub]"'
    assert command(monkeypatch, Installed(content)) == expected


def test_source_tree_that_is_not_installed_is_named() -> None:
    code = "from lmstudio_async._install_command import install_command; print(install_command('hub'))"
    # Without site-packages there is no metadata of any distribution.
    shown = subprocess.check_output(
        [sys.executable, "-S", "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True
    ).strip()
    assert shown == f'pip install "{ROOT}[hub]"'


def test_the_modules_of_the_extras_are_those_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra, modules in _install_command._MODULES.items():
        requirements = project["optional-dependencies"][extra]
        names = {each.partition(">")[0].partition("=")[0] for each in requirements}
        # The core needs h11, too.
        assert names - {"h11"} == set(modules)


# -- the download of a model


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules that look as if they were not installed. All others look installed."""
    hidden: set[str] = set()
    found = ModuleSpec("found", None)
    monkeypatch.setattr(_install_command, "find_spec", lambda name: None if name in hidden else found)
    return hidden


def test_pull_command_names_the_model(hidden: set[str]) -> None:
    assert pull_command("qwen3-4b:Q8_0") == "lmsa pull qwen3-4b:Q8_0"
    assert pull_command("acme/tiny-GGUF") == "lmsa pull acme/tiny-GGUF"


@pytest.mark.parametrize("name", [None, "", "two words", "--all", "x; rm -rf ~", "x" * 201, "ä"])
def test_pull_command_names_a_small_model_in_place_of_no_name(hidden: set[str], name: str | None) -> None:
    assert pull_command(name) == "lmsa pull bartowski/SmolLM2-135M-Instruct-GGUF"


def test_pull_command_names_a_small_embedding_model(hidden: set[str]) -> None:
    assert pull_command(None, "embedding") == "lmsa pull nomic-ai/nomic-embed-text-v1.5-GGUF"
    assert pull_command("nomic", "embedding") == "lmsa pull nomic"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other shells")
def test_a_shell_reads_the_options_of_pull_command(hidden: set[str]) -> None:
    assert pull_command("tiny", "llm", ("--models", "/srv/models")) == "lmsa pull tiny --models /srv/models"
    folder = "/my models/of `me` & $HOME"
    text = pull_command("tiny", "llm", ("--models", folder))
    echoed = subprocess.check_output(["sh", "-c", text.replace("lmsa pull", "printf '%s\\n'")], text=True)
    assert echoed.splitlines() == ["tiny", "--models", folder]


def test_pull_command_for_another_server_needs_no_engine_here(hidden: set[str]) -> None:
    hidden |= {"xllamacpp", "huggingface_hub"}
    options = ("--host", "gpu-box:1234")
    expected = "lmsa pull tiny --host gpu-box:1234"
    assert pull_command("tiny", options=options, extras=("cli",)) == expected
    hidden.add("typer")
    assert pull_command("tiny", options=options, extras=("cli",)) == install_command("cli")


@pytest.mark.parametrize("module", ["huggingface_hub", "rich", "xllamacpp"])
def test_pull_command_is_the_installation_where_a_package_is_missing(hidden: set[str], module: str) -> None:
    hidden.add(module)
    assert missing_modules("cli", "embedded", "hub") == [module]
    assert pull_command("tiny") == install_command("cli", "embedded", "hub")

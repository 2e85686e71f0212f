"""The modules that a command imports: those that it does not use would make it slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstudio_async._cli._app import COMMANDS
from lmstudio_async.testing import ModelsFolder
from tests.cli.commands import run, serving

#: Packages of the embedded server, of downloads and of chats.
UNUSED = {"h11", "huggingface_hub", "prompt_toolkit", "pydantic", "starlette", "trio", "uvicorn", "xllamacpp"}

#: The packages that a command may need when it runs.
HEAVY = UNUSED | {"anyio", "asyncio", "cattrs", "httpx", "httpx_ws", "orjson", "rich", "ssl"}

#: Completion detects the shell by its parents otherwise.
BASH = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}


def imported(*arguments: str, **environment: str) -> set[str]:
    """Return the modules that a command imports."""
    done = run(*arguments, PYTHONPROFILEIMPORTTIME="1", **environment)
    assert done.code == 0, done
    found = {line.rpartition("|")[2].strip() for line in done.err.splitlines() if "import time:" in line}
    assert "lmstudio_async._cli._main" in found
    return found


def test_version_imports_no_package() -> None:
    assert imported("--version") & (HEAVY | {"typer", "attr", "attrs"}) == set()


def test_help_imports_no_heavy_package() -> None:
    assert imported("--help") & HEAVY == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_imports_no_heavy_package(name: str) -> None:
    assert imported(name, "--help") & HEAVY == set()


def test_completion_imports_no_heavy_package() -> None:
    # The name of a shell is one of few, which typer checks with pydantic.
    assert imported("--show-completion", "bash", **BASH) & HEAVY <= {"pydantic"}
    typed = {"_LMSA_COMPLETE": "complete_bash", "COMP_WORDS": "lmsa serve --pre", "COMP_CWORD": "2"}
    assert imported(**typed) & HEAVY == set()


def test_commands_on_a_server_import_no_packages_that_they_do_not_use(tmp_path: Path) -> None:
    models = ModelsFolder(tmp_path)
    models.add_llm("tiny")
    with serving(models.folder) as (host, _):
        for name in ("ls", "ps"):
            modules = imported(name, "--host", host)
            assert "httpx" in modules
            # A connection needs h11. An attempt to import trio is reported like an import.
            unused = UNUSED - {"h11", "trio"} | {"trio._core", "click.core", "pygments.lexers"}
            assert modules & unused == set()
            assert [each for each in modules if each.startswith("lmstudio_async.embedded")] == []
            # A table needs rich.
            assert ("rich" in modules) == (name == "ls")

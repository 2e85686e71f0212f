"""Completion in zsh and fish, which complete from the script that the command installs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lmstudio_async.testing import ModelsFolder
from tests.cli.shell import Shell
from tests.program_terminal import program_in_terminal

PROMPT = "ready> "


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    # Typer would look for the shell among the parents of the process.
    return Shell(tmp_path, {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "LMSTUDIO_HOST": "embedded"})


@needs("zsh")
@pytest.mark.parametrize(("typed", "rest"), [("lmsa doc", "tor"), ("lmsa run ti", "ny")])
def test_first_tab_of_zsh_completes(typed: str, rest: str, shell: Shell) -> None:
    ModelsFolder(shell.home / ".lmstudio" / "models").add_llm("tiny")
    installed = shell.run("lmsa --install-completion zsh")
    assert installed.code == 0, installed
    with (shell.home / ".zshrc").open("a") as settings:
        settings.write(f"PROMPT='{PROMPT}'\n")
    # -d: no settings of this machine.
    program = ["zsh", "-d", "-i"]
    with program_in_terminal(program, shell.environment, folder=shell.home, seconds=50) as zsh:
        zsh.wait_for(PROMPT)
        zsh.type(f"{typed}\t")
        zsh.wait_for(rest)


@needs("fish")
def test_fish_completes(shell: Shell) -> None:
    ModelsFolder(shell.home / ".lmstudio" / "models").add_llm("tiny")
    installed = shell.run("lmsa --install-completion fish")
    assert installed.code == 0, installed
    for line, found in (("lmsa doc", "doctor"), ("lmsa serve --pre", "--preload"), ("lmsa run ti", "tiny")):
        shown = shell.run(f"fish -c 'complete -C \"{line}\"'")
        assert shown.code == 0, shown
        assert [each.partition("\t")[0] for each in shown.out.splitlines()] == [found], shown

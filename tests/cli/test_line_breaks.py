"""Long messages in a terminal: lines end at spaces, and never in a command, a path or a URL."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.commands import command_in_terminal, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")

NOBODY = "http://127.0.0.1:9"


def shown(*arguments: str, columns: int = 80) -> list[str]:
    """Return the lines that a command shows in a terminal, as the command ends them."""
    with command_in_terminal(*arguments, columns=columns) as terminal:
        terminal.wait_for_end()
        return [line.rstrip() for line in terminal.shown.splitlines()]


def test_errors_end_their_lines_at_spaces() -> None:
    whole = run("ps", "--host", NOBODY).err
    assert len(whole.splitlines()[0]) > 80
    lines = shown("ps", "--host", NOBODY)
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()) == " ".join(whole.split())


def test_commands_to_copy_stay_on_one_line() -> None:
    lines = shown("ps", "--host", NOBODY, columns=50)
    assert "Start LM Studio's server there (lms server start)," in lines
    assert "lmsa serve" in lines


def test_a_path_longer_than_the_terminal_has_its_own_line() -> None:
    path = "/nowhere/" + "long-" * 20 + "name"
    lines = shown("ps", "--host", NOBODY, "--token-file", path)
    assert path in lines, lines


def test_errors_of_the_arguments_are_wrapped_too() -> None:
    arguments = ("serve", "--jit-ttl", "not a duration of any kind, with a rather long explanation")
    whole = run(*arguments)
    assert whole.code == 2
    assert max(map(len, whole.err.splitlines())) > 80
    lines = shown(*arguments, columns=60)
    assert [line for line in lines if len(line) > 60] == [], lines


def test_a_pipe_gets_each_message_in_one_line() -> None:
    error = run("ps", "--host", NOBODY, COLUMNS="40").err
    assert len(error.splitlines()) == 2, error


@pytest.mark.parametrize("columns", [80, 40])
def test_doctor_breaks_no_command_and_no_path(columns: int, tmp_path: Path) -> None:
    folder = tmp_path / "a-folder-with-a-rather-long-name"
    folder.mkdir()
    remedies = [
        check["remedy"] or ""
        for check in json.loads(run("doctor", "--json", "--models", str(folder)).out)["checks"]
    ]
    advice = next(text for text in remedies if "lmsa pull" in text)
    command = advice[advice.index("lmsa pull") :]
    assert len(command) > columns - 30
    lines = shown("doctor", "--models", str(folder), columns=columns)
    assert command in [line.strip() for line in lines], lines
    assert sum(str(folder) in line for line in lines) >= 3, lines
    whole = {command, f"{folder}:", str(folder)}
    assert [line for line in lines if len(line) > columns and line.strip() not in whole] == []

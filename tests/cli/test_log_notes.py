"""Records of the SDK's loggers as notes of a command."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._log_notes import told_by_the_command
from lmstudio_async._cli._run import run
from lmstudio_async._printable import printable_lines
from lmstudio_async.testing import ModelsFolder
from tests.cli import commands

CORE = logging.getLogger("lmstudio_async")
SERVER = logging.getLogger("lmstudio_async.embedded")


@pytest.fixture(autouse=True)
def _log_is_off() -> None:
    assert CORE.level == logging.NOTSET


def shown_by(
    capsys: pytest.CaptureFixture[str], *records: tuple[logging.Logger, int, str], is_quiet: bool = False
) -> str:
    """Log some records in a command, and return what it prints."""

    async def command(console: Console) -> None:
        assert console.is_quiet is is_quiet
        for logger, level, text in records:
            logger.log(level, "%s", text)

    run(command, Console(is_quiet=is_quiet))
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


def test_warnings_and_errors_are_notes_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    records = (
        (CORE, logging.INFO, "connected"),
        (CORE, logging.WARNING, "the server warns: no"),
        (SERVER, logging.ERROR, "the engine is gone"),
        (CORE, logging.WARNING, "the server warns: no"),
        (CORE, logging.WARNING, "the server warns: yes"),
    )
    assert shown_by(capsys, *records) == (
        "Warning: the server warns: no\nError: the engine is gone\nWarning: the server warns: yes\n"
    )


def test_quiet_commands_print_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    records = ((CORE, logging.WARNING, "no"), (CORE, logging.ERROR, "gone"))
    assert shown_by(capsys, *records, is_quiet=True) == "Error: gone\n"


def test_a_note_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown_by(capsys, (CORE, logging.WARNING, "red \x1b[31m\x07")) == "Warning: red \\x1b[31m\\x07\n"


def test_an_exception_is_one_line_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    async def command(_: Console) -> None:
        try:
            raise ValueError("no such thing")
        except ValueError:
            SERVER.exception("Loading %r failed", "tiny")

    run(command, Console())
    assert capsys.readouterr().err == "Error: Loading 'tiny' failed: ValueError: no such thing\n"


def test_an_event_that_the_command_tells_itself_is_no_note(capsys: pytest.CaptureFixture[str]) -> None:
    async def command(_: Console) -> None:
        with told_by_the_command("taken"):
            CORE.warning("took %s", "one", extra={"event": "taken"})
        CORE.warning("took %s", "two", extra={"event": "taken"})

    run(command, Console())
    assert capsys.readouterr().err == "Warning: took two\n"


def test_a_record_that_cannot_be_formatted_ends_no_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The handler of pytest raises.
    monkeypatch.setattr(CORE, "propagate", False)

    async def command(_: Console) -> None:
        CORE.warning("%d", "no number")

    run(command, Console())
    assert capsys.readouterr().err == ""


def test_the_handler_is_gone_after_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(CORE.handlers)
    shown_by(capsys)
    assert CORE.handlers == before


def test_log_variable_prints_all_records_once_with_time_and_level(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstudio_async._log_setup._latest", "")
    monkeypatch.setenv("LMSTUDIO_LOG", "info")
    try:
        shown = shown_by(
            capsys, (CORE, logging.INFO, "connected"), (CORE, logging.WARNING, "no"), is_quiet=True
        )
    finally:
        CORE.setLevel(logging.NOTSET)
        for handler in list(CORE.handlers):
            CORE.removeHandler(handler)
        monkeypatch.setattr("lmstudio_async._log_setup._latest", "")
    first, second = shown.splitlines()
    assert first.endswith(" INFO lmstudio_async: connected")
    assert second.endswith(" WARNING lmstudio_async: no")


def test_a_wrong_log_variable_is_a_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstudio_async._log_setup._latest", "")
    monkeypatch.setenv("LMSTUDIO_LOG", "loud")
    shown = shown_by(capsys)
    monkeypatch.setattr("lmstudio_async._log_setup._latest", "")
    assert shown == ("Warning: LMSTUDIO_LOG must be 'info' or 'debug', not 'loud': the log stays as it is.\n")
    assert shown == printable_lines(shown)


# -- commands


def test_a_warning_of_the_embedded_server_is_a_note_of_the_command(tmp_path: Path) -> None:
    ModelsFolder(tmp_path).add_llm("tiny", script="Here I am.", context_length=256)
    options = ("-c", "512", "--config", "rope_frequency_scale=0.5")
    arguments = ("run", "--models", str(tmp_path), "tiny", "Hello", *options)
    shown = commands.run(*arguments)
    assert (shown.code, shown.out) == (0, "Here I am.\n")
    assert re.fullmatch(
        "Warning: 'tiny' has a context of 512 tokens, and its model was made for 256: .+\n", shown.err
    )
    assert commands.run(*arguments, "--quiet").err == ""
    log = commands.run(*arguments, LMSTUDIO_LOG="info").err
    assert re.search(r"^\S+ \S+ WARNING lmstudio_async\.embedded: 'tiny' has a context", log, re.MULTILINE)
    assert "Warning: " not in log

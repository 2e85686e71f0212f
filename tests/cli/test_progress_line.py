"""The line of progress: its width, its characters, when it is drawn, and the notes above it."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from lmstudio_async._cli._console import Console
from lmstudio_async._cli._progress_line import ProgressLine, bar_text, can_draw

NOTES = ("45 of 105 MB, 12 MB/s, 5 min 3 s left", "45 of 105 MB, 5 min 3 s left", "5 min 3 s left")


class Terminal:
    """A terminal that records what is written to it."""

    encoding = "utf-8"

    def __init__(self, *, is_terminal: bool = True) -> None:
        self.is_terminal = is_terminal
        self.written = ""

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        """Do nothing."""

    @property
    def screen(self) -> list[str]:
        """The lines that are visible."""
        lines = [""]
        for part in re.split(r"(\n|\r\x1b\[K)", self.written):
            if part == "\n":
                lines.append("")
            elif part == "\r\x1b[K":
                lines[-1] = ""
            else:
                lines[-1] += part
        return lines


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error as a terminal, without colours."""
    terminal = Terminal()
    # Not the real module, whose standard error pytest replaces between a fixture and its test.
    system = SimpleNamespace(stderr=terminal, platform="linux")
    monkeypatch.setattr("lmstudio_async._cli._progress_line.sys", system)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("LMSTUDIO_PROGRESS", raising=False)
    return terminal


def test_bar_has_all_numbers_in_a_wide_terminal(terminal: Terminal) -> None:
    shown = bar_text("loading qwen3-4b", 0.454, ("781 MB/s, 3 s left", "3 s left"), 79)
    assert shown == f"loading qwen3-4b {'━' * 11}{'─' * 13}  45%  781 MB/s, 3 s left"


def test_bar_in_a_narrow_terminal_keeps_the_time_and_shortens_the_name(terminal: Terminal) -> None:
    for name, notes, shown in (
        (
            "loading qwen3-4b-instruct",
            ("781 MB/s, 3 s left", "3 s left"),
            "loading qwen3-4b… ━━━───  50%  3 s left",
        ),
        ("SmolLM2-135M-GGUF", NOTES, "SmolLM2-13… ━━━───  50%  5 min 3 s left"),
    ):
        assert bar_text(name, 0.5, notes, 39) == shown
        assert len(shown) == 39


@pytest.mark.parametrize("width", [9, 19, 25, 26, 39, 59, 79, 119, 199])
@pytest.mark.parametrize(
    "name", ["loading a", "loading " + "long-name-" * 30, "loading 模型模型模型模型模型模型", ""]
)
@pytest.mark.parametrize("notes", [(), NOTES])
def test_bar_is_never_wider_than_the_line(
    terminal: Terminal, width: int, name: str, notes: tuple[str, ...]
) -> None:
    for fraction in (0.0, 0.005, 0.999, 1.0):
        shown = bar_text(name, fraction, notes, width)
        # A wide character takes two columns.
        assert len(shown) + sum(letter in "模型" for letter in shown) <= width
        assert "100%" not in shown or fraction == 1.0
        assert f"{int(fraction * 100)}%" in shown


def test_bar_has_colours_unless_the_user_wants_none(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in bar_text("loading", 0.5, (), 79)
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[36m" in bar_text("loading", 0.5, (), 79)


def test_bar_has_the_characters_of_the_terminal(terminal: Terminal) -> None:
    terminal.encoding = "ascii"
    bar_text("loading " + "x" * 100, 0.5, (), 39).encode("ascii")


def test_control_characters_of_a_name_are_escaped(terminal: Terminal) -> None:
    assert "\x1b" not in bar_text("loading \x1b[31mred", 0.5, (), 79)


@pytest.mark.parametrize(
    ("is_terminal", "variables", "draws", "prints"),
    [
        (True, {}, True, False),
        (True, {"LMSTUDIO_PROGRESS": "1"}, True, False),
        (True, {"LMSTUDIO_PROGRESS": "0"}, False, False),
        (True, {"TERM": "dumb"}, False, False),
        (True, {"TERM": "dumb", "LMSTUDIO_PROGRESS": "1"}, False, True),
        (False, {}, False, False),
        (False, {"LMSTUDIO_PROGRESS": "1"}, False, True),
    ],
)
def test_one_place_decides_whether_progress_is_drawn_or_printed(
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    is_terminal: bool,
    variables: dict[str, str],
    draws: bool,
    prints: bool,
) -> None:
    terminal.is_terminal = is_terminal
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert can_draw() is draws
    assert (Console().draws_progress, Console().prints_progress) == (draws, prints)
    quiet = Console(is_quiet=True)
    assert (quiet.draws_progress, quiet.prints_progress) == (False, False)


def test_notes_appear_above_the_line_that_is_drawn(terminal: Terminal) -> None:
    line = ProgressLine()
    Console().note("before")
    line.show("10%")
    Console().note("first")
    line.show("20%")
    Console().note("second")
    assert terminal.screen == ["before", "first", "second", "20%"]
    line.keep()
    Console().note("after")
    assert terminal.screen == ["before", "first", "second", "20%", "after", ""]


def test_an_erased_line_leaves_nothing_and_the_cursor_is_never_hidden(terminal: Terminal) -> None:
    line = ProgressLine()
    line.erase()
    assert terminal.written == ""
    line.show("10%")
    line.erase()
    line.keep()
    Console().note("after")
    assert terminal.screen == ["after", ""]
    assert "\x1b[?25l" not in terminal.written


@pytest.mark.parametrize(("columns", "width"), [("40", 39), ("200", 199), ("0", 79), ("x", 79)])
def test_width_is_that_of_the_variable_or_of_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    # This terminal has no file, and so no width.
    monkeypatch.setattr(Terminal, "fileno", lambda _: -1, raising=False)
    assert ProgressLine().width == width


def test_a_terminal_that_is_gone_fails_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Terminal, __: str) -> int:
        raise OSError("gone")

    monkeypatch.setattr(Terminal, "write", fail)
    line = ProgressLine()
    line.show("10%")
    line.erase()

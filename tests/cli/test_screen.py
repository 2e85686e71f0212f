"""Output of the demo: plain lines, or the progress bars of rich in a terminal."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmstudio_async import AsyncLLM
from lmstudio_async._cli._screen import Paragraph, Screen
from lmstudio_async._cli._stage import _best_screen
from lmstudio_async._wire._infos import LlmInstanceInfo


def handle(identifier: str, ttl_ms: int | None) -> AsyncLLM:
    """Return a handle that can be shown, but has no connection."""
    info = LlmInstanceInfo(identifier=identifier, model_key="tiny", ttl_ms=ttl_ms, context_length=4096)
    records = SimpleNamespace(see=lambda *_: None)
    return AsyncLLM(SimpleNamespace(journal=records, records=records), info)  # type: ignore[arg-type]


def show_everything(screen: Screen) -> None:
    screen.title("The title")
    screen.fact("Server", "a [server] at 127.0.0.1:1234")
    screen.heading("The first step")
    with screen.progress("tiny") as bar:
        for percent in range(101):
            bar.show(percent / 100, "loading")
    screen.table([handle("a-rather-long-identifier", 2500), handle("b [c]", None)])
    screen.table([])
    screen.note("a remark")
    screen.end(Path("somewhere/_demo.py"))


def test_a_plain_screen_prints_a_line_for_every_ten_percent(capsys: pytest.CaptureFixture[str]) -> None:
    show_everything(Screen())
    shown = capsys.readouterr().out
    assert shown.count("% (loading)") == 11
    assert "  tiny: 0 % (loading)\n  tiny: 10 % (loading)\n" in shown
    assert "  identifier                 model key   TTL     context\n" in shown
    assert "  a-rather-long-identifier   tiny        2.5 s   4,096 tokens\n" in shown
    assert "  b [c]                      tiny        never   4,096 tokens\n" in shown
    assert "  Nothing is loaded.\n" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("rich", [False, True])
def test_a_screen_escapes_control_characters_from_a_server(
    capsys: pytest.CaptureFixture[str], *, rich: bool
) -> None:
    evil = "tiny\x1b[2J"
    screen = Screen()
    if rich:
        pytest.importorskip("rich")
        from lmstudio_async._cli._rich_screen import RichScreen

        screen = RichScreen()
    screen.title(evil)
    screen.fact("Server", evil)
    screen.heading(evil)
    screen.note(evil)
    with screen.progress(evil) as bar:
        bar.show(0.5, "loading")
    screen.table([handle(evil, None)])
    screen.end(Path("somewhere"))

    shown = capsys.readouterr().out
    assert r"tiny\x1b[2J" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_rich_screen_keeps_to_the_width_and_shows_brackets_as_they_are(width: int) -> None:
    pytest.importorskip("rich")
    from rich.console import Console
    from rich.text import Text

    from lmstudio_async._cli._rich_screen import RichScreen

    output = io.StringIO()
    show_everything(RichScreen(Console(file=output, force_terminal=True, width=width, legacy_windows=False)))
    assert output.getvalue().rpartition("\x1b[?25")[2].startswith("h"), "the cursor is left hidden"
    lines = re.split("[\r\n]", Text.from_ansi(output.getvalue()).plain)
    # A path is not broken into lines, so that it can be copied.
    assert max(len(line) for line in lines if "_demo.py" not in line) <= width
    text = " ".join(" ".join(lines).split())
    assert "a [server] at 127.0.0.1:1234" in text
    assert "b [c]" in text
    assert "100%" in text
    assert "Nothing is loaded." in text


def test_best_screen_is_plain_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert type(_best_screen()) is Screen


@pytest.mark.parametrize(
    ("name", "value", "draws"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("LMSTUDIO_PROGRESS", "0", False)],
)
def test_best_screen_draws_bars_where_the_other_commands_do(
    name: str, value: str, draws: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMSTUDIO_PROGRESS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert (type(_best_screen()) is not Screen) == draws


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Write pieces into a paragraph of 20 columns."""

    def write(*pieces: str) -> str:
        paragraph = Paragraph(20)
        for piece in pieces:
            paragraph.write(piece)
        paragraph.end()
        return capsys.readouterr().out

    return write


def test_paragraph_wraps_text_in_pieces_between_words(written: Callable[..., str]) -> None:
    assert written("The", " sky", " is", " blue", " and", " wi", "de", " to", "day") == (
        "  The sky is blue\n  and wide today\n"
    )


def test_paragraph_keeps_the_lines_of_the_text(written: Callable[..., str]) -> None:
    assert written("1. one\n2.", " two\n", "\n", "3. three") == "  1. one\n  2. two\n  3. three\n"


def test_paragraph_replaces_control_characters_of_a_model(written: Callable[..., str]) -> None:
    assert written("a\x1b[2Jb\rc\x07") == "  a [2Jb c \n"


def test_paragraph_without_text_prints_no_line(written: Callable[..., str]) -> None:
    assert written() == written("", "\n") == ""

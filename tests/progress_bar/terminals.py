"""Terminals that keep what is drawn in them, and checks of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

import lmstudio_async as lms

__all__ = [
    "LIBRARIES",
    "ROOT",
    "BrokenTerminal",
    "Terminal",
    "assert_nothing_is_left",
    "draw_all",
    "full_bars",
    "wait_for",
    "without_others",
]

ROOT = Path(__file__).parent.parent.parent
LIBRARIES = ["rich", "tqdm", ""]


class Terminal(io.StringIO):
    """A terminal that keeps everything that is written to it."""

    def isatty(self) -> bool:
        return True


class BrokenTerminal(Terminal):
    """A terminal that was closed: each write fails.

    :param error: raised by each write.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


def full_bars(terminal: Terminal, description: str) -> int:
    """Return how many bars with this description have been drawn to their end."""
    lines = terminal.getvalue().replace("\r", "\n").split("\n")
    return sum(description in line and ("100%" in line or "100 %" in line) for line in lines)


def draw_all(bar: Callable[[Any], object], *fractions: float) -> None:
    for fraction in fractions:
        bar(fraction)


async def wait_for(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - the display has no event
            await anyio.sleep(0.001)


def assert_nothing_is_left(terminal: Terminal) -> None:
    """Check that the next bar is drawn alone, and that the cursor has never been hidden."""
    before = len(terminal.getvalue())
    draw_all(lms.progress_bar("next"), 0.5, 1.0)
    after = terminal.getvalue()[before:]
    assert "next" in after
    assert "broken" not in after
    assert "left" not in after
    assert "\x1b[?25l" not in terminal.getvalue()


def without_others(library: str) -> str:
    """Return code after which only one library for progress bars can be imported, or none."""
    modules = {"rich": ["tqdm.std"], "tqdm": ["rich.progress"], "": ["rich.progress", "tqdm.std"]}[library]
    return f"import sys\nfor name in {modules}: sys.modules[name] = None"

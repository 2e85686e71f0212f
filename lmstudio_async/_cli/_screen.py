"""Output of the demo as plain text: one line after the other."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from lmstudio_async import AsyncLLM
from lmstudio_async._printable import printable

__all__ = ["COLUMNS", "INDENT", "Bar", "Screen", "row"]

INDENT = "  "
WIDEST = 88
COLUMNS = ("identifier", "model key", "TTL", "context")


class Bar(Protocol):
    """A progress bar."""

    def show(self, fraction: float, note: str) -> None:
        """Show a fraction from 0.0 to 1.0, and a note of a word or two about the current activity."""


class Screen:
    """Output as plain text, for pipes, logs, and terminals that draw no bars."""

    def title(self, text: str) -> None:
        """Print the title of the demo."""
        self._line(text)
        self._line()

    def fact(self, name: str, value: str) -> None:
        """Print a name and its value, before the first step."""
        self._line(f"{name:8}{value}")

    def heading(self, text: str) -> None:
        """Print the heading of the next step."""
        self._line()
        self._line(text)

    def note(self, text: str) -> None:
        """Print a remark on the output before it."""
        self._line(f"{INDENT}({text})")

    def progress(self, label: str) -> AbstractContextManager[Bar]:
        """Show progress: here a line for every 10 %."""
        return _lines(label)

    @contextmanager
    def paragraph(self) -> Iterator[Paragraph]:
        """Print text that comes in pieces."""
        paragraph = Paragraph(min(shutil.get_terminal_size().columns, WIDEST))
        try:
            yield paragraph
        finally:
            paragraph.end()

    def table(self, instances: Sequence[AsyncLLM]) -> None:
        """Print the loaded instances."""
        if not instances:
            self._line(f"{INDENT}Nothing is loaded.")
            return
        lines = [COLUMNS, *(row(llm) for llm in instances)]
        widths = [max(len(line[number]) for line in lines) for number in range(len(COLUMNS))]
        for line in lines:
            cells = (cell.ljust(size) for cell, size in zip(line, widths, strict=True))
            self._line(INDENT + "   ".join(cells).rstrip())

    def end(self, source: Path) -> None:
        """Print that the demo succeeded, and the path of its source."""
        self._line()
        self._line(f"Done. Source of this demo: {source}")

    def _line(self, text: str = "") -> None:
        print(printable(text), flush=True)


class Paragraph:
    """Text in pieces, wrapped at words; each piece is printed as soon as it arrives.

    :param width: columns of the terminal.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0

    def write(self, text: str) -> None:
        """Show the next piece."""
        # Control characters are replaced, so that a model cannot move the cursor.
        text = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
        for number, line in enumerate(text.split("\n")):
            if number:
                self.end()
            # A line is broken only where a word begins, because a word may come in several pieces.
            for word in line.replace(" ", "\0 ").split("\0"):
                self._write_word(word)
        sys.stdout.flush()

    def _write_word(self, word: str) -> None:
        if word.startswith(" ") and self._column + len(word) > self._width:
            self.end()
        if not self._column:
            word = INDENT + word.lstrip() if word.strip() else ""
        sys.stdout.write(word)
        self._column += len(word)

    def end(self) -> None:
        """End the line, if one was begun."""
        if self._column:
            sys.stdout.write("\n")
            sys.stdout.flush()
        self._column = 0


class _LineBar:
    def __init__(self, label: str) -> None:
        self._label = label
        self._shown = -1

    def show(self, fraction: float, note: str) -> None:
        tenth = int(fraction * 10)
        if tenth > self._shown:
            self._shown = tenth
            print(printable(f"{INDENT}{self._label}: {tenth * 10} % ({note})"), flush=True)


@contextmanager
def _lines(label: str) -> Iterator[Bar]:
    yield _LineBar(label)


def row(llm: AsyncLLM) -> tuple[str, ...]:
    """Return the table's row about an instance, in the order of `COLUMNS`."""
    ttl = "never" if llm.info.ttl is None else f"{llm.info.ttl:g} s"
    names = (printable(name, 200) for name in (llm.identifier, llm.info.model_key))
    return *names, ttl, f"{llm.info.context_length:,} tokens"

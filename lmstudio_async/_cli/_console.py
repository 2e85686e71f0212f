"""Output of the commands: tables, JSON and lines to standard output, notes to standard error."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from lmstudio_async._cli._progress_line import can_draw, print_above
from lmstudio_async._printable import printable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Column", "Console", "is_narrow", "make_table"]

#: Columns of the widest table in a pipe.
_WIDEST = 100_000

#: Columns of a terminal in which two long names have room.
_WIDE = 100


@attrs.frozen
class Column:
    """A column of a table.

    :param title: its heading.
    :param is_number: whether its cells are aligned to the right.
    :param is_short: whether its cells stay on one line, so that the columns with names get the room that there is.
    """

    title: str
    is_number: bool = False
    is_short: bool = False


@attrs.frozen
class Console:
    """Output of one command.

    :param is_json: whether the user wants JSON.
    :param is_quiet: whether the user wants no notes and no progress.
    """

    is_json: bool = False
    is_quiet: bool = False

    @property
    def width(self) -> int | None:
        """Columns of the terminal that standard output is; None if it is none."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    @property
    def draws_progress(self) -> bool:
        """Whether progress is drawn: a bar, or a few words in the last line of the terminal."""
        return not self.is_quiet and can_draw()

    @property
    def prints_progress(self) -> bool:
        """Whether progress is printed line by line: where it cannot be drawn, if ``LMSTUDIO_PROGRESS=1`` asks for it."""
        is_asked_for = os.environ.get("LMSTUDIO_PROGRESS", "").strip() == "1"
        return is_asked_for and not self.is_quiet and not can_draw()

    def line(self, text: str) -> None:
        """Print a line of the result."""
        print(printable(text), flush=True)

    def note(self, text: str) -> None:
        """Print a line that does not belong to the result, above the progress if that is drawn."""
        if not self.is_quiet:
            print_above(printable(text))

    def json(self, value: Any) -> None:
        """Print the value that is the whole result, as JSON."""
        print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)

    def json_line(self, value: Any) -> None:
        """Print one of several values as JSON, on a line of its own."""
        print(json.dumps(value, ensure_ascii=False), flush=True)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Print a table that fits a terminal; in a pipe, each row has one line.

        A column that is empty in every row is left out.
        """
        from rich.console import Console as RichConsole

        console = RichConsole(highlight=False, soft_wrap=False)
        table = make_table(columns, rows)
        if console.is_terminal:
            console.print(table)
            return
        needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
        console.width = max(console.width, needed)
        with console.capture() as text:
            console.print(table)
        # rich fills each line up to the width of the table.
        print("\n".join(line.rstrip() for line in text.get().rstrip("\n").split("\n")), flush=True)


def is_narrow(width: int | None) -> bool:
    """Return whether a terminal has too little room for two long names.

    :param width: its columns; None if the output is no terminal.
    """
    return width is not None and width < _WIDE


def make_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table without lines."""
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(cell) for cell in row] for row in rows]
    used = [number for number in range(len(columns)) if any(row[number] for row in cells)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number in used:
        table.add_column(
            columns[number].title,
            justify="right" if columns[number].is_number else "left",
            overflow="fold",
            no_wrap=columns[number].is_number or columns[number].is_short,
        )
    for row in cells:
        table.add_row(*(Text(row[number]) for number in used))
    return table

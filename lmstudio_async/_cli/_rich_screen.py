"""Output of the demo in a terminal, with rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from lmstudio_async import AsyncLLM
from lmstudio_async._cli._screen import COLUMNS, INDENT, WIDEST, Bar, Screen, row
from lmstudio_async._printable import printable

__all__ = ["RichScreen"]

LABEL_WIDTH = 22


class RichScreen(Screen):
    """Output with colours where the terminal has them, moving progress bars, and a table.

    :param console: the console to print on; None for standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        # On a wide terminal, lines that run across all of it are hard to read.
        self._console.width = min(self._console.width, WIDEST)

    def title(self, text: str) -> None:
        """Print the title of the demo."""
        self._console.print(Text(printable(text), "bold"))
        self._console.print()

    def fact(self, name: str, value: str) -> None:
        """Print a name and its value, before the first step."""
        line = Table.grid(padding=0)
        line.add_column(width=8, style="dim")
        line.add_column(overflow="fold")
        line.add_row(name, Text(printable(value)))
        self._console.print(line)

    def heading(self, text: str) -> None:
        """Print the heading of the next step."""
        self._console.print()
        self._console.print(Text(printable(text), "bold cyan"))

    def note(self, text: str) -> None:
        """Print a remark on the output before it."""
        self._console.print(Text(INDENT + printable(text), "dim"))

    def progress(self, label: str) -> AbstractContextManager[Bar]:
        """Show a progress bar."""
        return _live(self._console, label)

    def table(self, instances: Sequence[AsyncLLM]) -> None:
        """Print the loaded instances."""
        if not instances:
            self._console.print(f"{INDENT}Nothing is loaded.")
            return
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for name in COLUMNS:
            table.add_column(name, justify="right" if name in ("TTL", "context") else "left", overflow="fold")
        for llm in instances:
            table.add_row(*map(Text, row(llm)))
        self._console.print(Padding(table, (0, 0, 0, len(INDENT))))

    def end(self, source: Path) -> None:
        """Print that the demo succeeded, and the path of its source."""
        self._console.print()
        # Not wrapped, so that the path can be copied.
        self._console.print(
            Text.assemble(("Done. ", "bold green"), "Source of this demo: ", str(source)), soft_wrap=True
        )


class _LiveBar:
    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._task = progress.add_task(printable(label), total=1.0, note="")

    def show(self, fraction: float, note: str) -> None:
        self._progress.update(self._task, completed=fraction, note=note)


@contextmanager
def _live(console: Console, label: str) -> Iterator[Bar]:
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=32),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
    )
    with progress:
        yield _LiveBar(progress, INDENT + label.ljust(LABEL_WIDTH))

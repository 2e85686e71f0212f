"""Displays of a progress bar: rich, tqdm, or plain lines."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Display", "find_display"]


class Display(Protocol):
    """The bar of one operation. Its methods may raise, but for the constructor, which draws nothing.

    An interrupt may come within any of them, because bars are drawn in the user's thread.
    """

    def show(self, fraction: float, note: str) -> None:
        """Draw the bar."""

    def end(self) -> None:
        """Leave the bar as it is, and go to the next line. Legal at any time."""


@cache
def find_display(place: str) -> Callable[[str], Display]:
    """Import the library to draw with, and return a function that makes its display for a description.

    :param place: ``notebook``, ``terminal`` or ``lines``.
    """
    is_notebook = place == "notebook"
    # A library that is damaged or too old is as good as none.
    if place == "terminal":
        with suppress(Exception):
            _draw_with_rich()
            return _RichDisplay
    if place != "lines":
        with suppress(Exception):
            return partial(_TqdmDisplay, bar=_tqdm_bar(is_notebook=is_notebook), is_notebook=is_notebook)
    return partial(_LineDisplay, is_notebook=is_notebook)


def _text_file(*, is_notebook: bool) -> TextIO:
    # Notebooks show text in standard error as an error.
    return sys.stdout if is_notebook else sys.stderr


class _Stream:
    """Standard error, as it is now. If writing fails, the drawing ends, and nothing else.

    rich ends the whole program if its output cannot be written.
    """

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.is_broken = False

    def write(self, text: str) -> int:
        if not self.is_broken:
            try:
                self.file.write(text)
            except (OSError, ValueError):
                self.is_broken = True
        return len(text)

    def flush(self) -> None:
        if not self.is_broken:
            try:
                self.file.flush()
            except (OSError, ValueError):
                self.is_broken = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


# -- rich


def _draw_with_rich() -> None:
    """Draw a bar that no one sees, because rich imports parts of itself only when it draws."""
    progress = _RichBoard(io.StringIO()).progress
    progress.add_task("", total=1.0, note="")
    with progress:
        progress.refresh()


class _RichBoard:
    """The bars that rich draws at the same time, one below the other. It ends with the last of them."""

    def __init__(self, file: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
        from rich.table import Column

        class QuietConsole(Console):
            def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - rich passes it
                """Leave the cursor visible, so that a program which is killed need not restore it."""
                return False

        self.file = file
        self.members: set[_RichDisplay] = set()
        self.progress: Progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=32),
            TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
            TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=Column(no_wrap=True)),
            console=QuietConsole(file=_Stream(file), highlight=False),  # type: ignore[arg-type]
            # No thread draws; and what the program prints goes where it belongs.
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def print_above(self, number: TaskID) -> None:
        """Print a bar that has ended above the others, so that only running ones are drawn again."""
        row = self.progress.make_tasks_table([task for task in self.progress.tasks if task.id == number])
        self.progress.remove_task(number)
        self.progress.console.print(row)


_board: _RichBoard | None = None
#: Held during each drawing: rich has a lock of its own, and two locks need one order. Reentrant, because a bar may be
#: garbage-collected during a drawing, and then ends.
_board_lock = threading.RLock()


class _RichDisplay:
    def __init__(self, description: str) -> None:
        self._description = description
        self._board: _RichBoard | None = None
        self._task: TaskID | None = None

    def show(self, fraction: float, note: str) -> None:
        with _board_lock:
            progress = self._join().progress
            if self._task is None:
                self._task = progress.add_task(self._description, total=1.0, note=note)
            progress.update(self._task, completed=fraction, note=note)
            progress.refresh()

    def end(self) -> None:
        global _board  # noqa: PLW0603 - two boards would draw over each other
        with _board_lock:
            board = self._board
            if board is None:
                return
            board.members.discard(self)
            if board.members:
                if self._task is not None:
                    board.print_above(self._task)
            else:
                if _board is board:
                    _board = None
                board.progress.stop()

    def _join(self) -> _RichBoard:
        global _board  # noqa: PLW0603 - as above
        if self._board is None:
            if _board is None or _board.file is not sys.stderr:
                _board = _RichBoard(sys.stderr)
            self._board = _board
            self._board.members.add(self)
            self._board.progress.start()
        return self._board


# -- tqdm


def _tqdm_bar(*, is_notebook: bool) -> Any:
    """Return tqdm's class of bars: of widgets in notebooks that have them, else of text."""
    # As tqdm.auto chooses, without its warning if there are no widgets.
    has_widgets = is_notebook and importlib.util.find_spec("ipywidgets") is not None
    module = importlib.import_module("tqdm.notebook" if has_widgets else "tqdm.std")
    # Without the thread that watches for bars which are not updated.
    bar: Any = type("Bar", (module.tqdm,), {"monitor_interval": 0, "is_widget": has_widgets})
    # Imports multiprocessing.
    bar.get_lock()
    return bar


class _TqdmDisplay:
    def __init__(self, description: str, *, bar: Any, is_notebook: bool) -> None:
        self._file = _text_file(is_notebook=is_notebook)
        size: dict[str, Any] = {"dynamic_ncols": True}
        if not is_notebook and _has_no_size(self._file):
            size = {"ncols": 80, "nrows": 24}
        self._bar = bar(
            desc=description,
            total=100,
            bar_format="{desc}: {percentage:3.0f}%|{bar}|{postfix}",
            # Keeps the constructor from drawing, and is over when the first progress is drawn.
            delay=1e-9,
            file=self._file,
            **size,
        )

    def show(self, fraction: float, note: str) -> None:
        self._bar.n = round(100 * fraction, 1)
        self._bar.set_postfix_str(note, refresh=False)
        # With a lock of its own, refresh() would keep it after an interrupt, and the bars of other threads would wait.
        with self._bar.get_lock():
            self._bar.refresh(nolock=True)

    def end(self) -> None:
        bar = self._bar
        if bar.is_widget:
            bar.close()
            return
        with bar.get_lock():
            shown = str(bar)
            # Clear the bar and print it above the others, where no other bar is drawn over it.
            bar.leave = False
            bar.close()
            bar.write(shown, self._file, nolock=True)


def _has_no_size(file: TextIO) -> bool:
    """Return whether a terminal reports no columns or no lines, as some containers do: tqdm would draw nothing."""
    try:
        return 0 in os.get_terminal_size(file.fileno())
    except (AttributeError, OSError, ValueError):
        return False


# -- plain lines


class _LineDisplay:
    def __init__(self, description: str, *, is_notebook: bool) -> None:
        self._description = description
        self._file = _text_file(is_notebook=is_notebook)
        self._tenths = -1

    def show(self, fraction: float, note: str) -> None:
        tenths = int(10 * fraction + 1e-9)
        if tenths > self._tenths:
            self._tenths = tenths
            text = f"{self._description}: {10 * tenths} %{f' ({note})' if note else ''}"
            # One call, so that lines of several threads do not mix.
            self._file.write(f"{text}\n")
            self._file.flush()

    def end(self) -> None:
        """Do nothing: each line is complete."""

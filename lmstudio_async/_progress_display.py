"""Displays of a progress bar: rich, tqdm, or plain lines."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Display", "find_library", "make_display"]


class Display(Protocol):
    """The bar of one operation. Its methods may raise, but for the constructor, which draws nothing.

    An interrupt may come within any of them, because bars are drawn in the user's thread.
    """

    def show(self, fraction: float, note: str) -> None:
        """Draw the bar."""

    def end(self) -> None:
        """Leave the bar as it is, and go to the next line. Legal at any time."""


def make_display(place: str, description: str) -> Display:
    """Return a display for a place, ``notebook``, ``terminal`` or ``lines``."""
    library = find_library(place)
    if library == "rich":
        return _RichDisplay(description)
    if library == "tqdm":
        return _TqdmDisplay(description, is_notebook=place == "notebook")
    # Notebooks show standard error as an error.
    return _LineDisplay(description, sys.stdout if place == "notebook" else sys.stderr)


@cache
def find_library(place: str) -> str:
    """Import the library to draw with, and return its name; an empty text for none."""
    if place == "terminal" and _is_importable("rich.progress") and _can_draw_with_rich():
        return "rich"
    return "tqdm" if place != "lines" and _is_importable(_tqdm_module(place == "notebook")) else ""


def _can_draw_with_rich() -> bool:
    """Draw a bar that no one sees, because rich imports parts of itself only when it draws."""
    try:
        progress = _RichBoard(io.StringIO()).progress
        progress.add_task("", total=1.0, note="")
        with progress:
            progress.refresh()
    except Exception:  # noqa: BLE001 - as for a library that cannot be imported
        return False
    return True


def _is_importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except Exception:  # noqa: BLE001 - a library that is damaged or too old is as good as none
        return False
    return True


def _tqdm_module(is_notebook: bool) -> str:
    # As tqdm.auto chooses, without its warning if there are no widgets.
    return "tqdm.notebook" if is_notebook and importlib.util.find_spec("ipywidgets") else "tqdm.std"


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


class _RichBoard:
    """All bars that rich draws at the same time, one below the other. It ends with the last of them."""

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
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=Column(no_wrap=True)),
            console=QuietConsole(file=_Stream(file), highlight=False),  # type: ignore[arg-type]
            # No thread draws; and what the program prints goes where it belongs.
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )


_board: _RichBoard | None = None
#: Reentrant, because a bar that is garbage-collected ends.
_board_lock = threading.RLock()


class _RichDisplay:
    def __init__(self, description: str) -> None:
        self._description = description
        self._board: _RichBoard | None = None
        self._task: TaskID | None = None

    def show(self, fraction: float, note: str) -> None:
        progress = self._join().progress
        if self._task is None:
            self._task = progress.add_task(self._description, total=1.0, note=note)
        progress.update(self._task, completed=fraction, note=note)
        progress.refresh()

    def end(self) -> None:
        global _board  # noqa: PLW0603 - two boards would draw over each other
        with _board_lock:
            if self._board is not None:
                self._board.members.discard(self)
                if not self._board.members:
                    if _board is self._board:
                        _board = None
                    self._board.progress.stop()

    def _join(self) -> _RichBoard:
        global _board  # noqa: PLW0603 - as above
        with _board_lock:
            if self._board is None:
                if _board is None or _board.file is not sys.stderr:
                    _board = _RichBoard(sys.stderr)
                self._board = _board
                self._board.members.add(self)
                self._board.progress.start()
            return self._board


# -- tqdm


class _TqdmDisplay:
    def __init__(self, description: str, *, is_notebook: bool) -> None:
        module = importlib.import_module(_tqdm_module(is_notebook))
        # Without its thread, which watches for bars that are not updated.
        bar = type("Bar", (module.tqdm,), {"monitor_interval": 0})
        # The notebook's own class chooses its file. In notebooks, text in standard error looks like an error.
        text_file: Any = sys.stdout if is_notebook else _Stream(sys.stderr)
        has_no_size = not is_notebook and _has_no_size(sys.stderr)
        self._bar = bar(
            desc=description,
            total=100,
            bar_format="{desc}: {percentage:3.0f}%|{bar}|{postfix}",
            ncols=80 if has_no_size else None,
            dynamic_ncols=not has_no_size,
            # Do not draw in the constructor. No bar is drawn later than this.
            delay=1e-9,
            file=None if module.__name__ == "tqdm.notebook" else text_file,
        )

    def show(self, fraction: float, note: str) -> None:
        self._bar.n = round(100 * fraction, 1)
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.refresh()

    def end(self) -> None:
        self._bar.close()


def _has_no_size(file: TextIO) -> bool:
    """Return whether a terminal reports no columns or no lines, as some containers do: tqdm would draw nothing."""
    try:
        return 0 in os.get_terminal_size(file.fileno())
    except (AttributeError, OSError, ValueError):
        return False


# -- plain lines


class _LineDisplay:
    def __init__(self, description: str, file: TextIO) -> None:
        self._description = description
        self._file = file
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

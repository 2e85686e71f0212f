"""Display of a load on standard error: a bar in a terminal, and lines for evictions."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lmstudio_async._cli._units import size_text
from lmstudio_async._printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from lmstudio_async import LoadProgress
    from lmstudio_async._cli._console import Console

__all__ = ["LoadDisplay"]

#: Columns of a terminal in which the elapsed time has room beside the bar.
_WIDTH_FOR_TIME = 60

_PHASES = {"resolved": "starting", "evicting": "evicting", "loading": "loading", "loaded": "loaded"}


class LoadDisplay:
    """The display of one load, which ends with the block and leaves only the lines of the evictions.

    :param key: the model key, as the user gave it.
    """

    def __init__(self, console: Console, key: str) -> None:
        self._console = console
        self._key = key
        self._began = time.monotonic()
        self._phases: set[str] = set()
        self._evicted: set[str] = set()
        self._size = 0
        self._bar: Progress | None = None if console.is_quiet else _bar()
        self._task: TaskID | None = None

    @property
    def has_loaded(self) -> bool:
        """Whether the instance was not there before."""
        return self._phases > {"loaded"}

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(printable(self._key, 40), total=1.0, phase="waiting", rate="")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: LoadProgress) -> None:
        """Show a progress of the load."""
        self._phases.add(progress.phase)
        info = progress.info
        if progress.phase == "evicting" and info is not None:
            name = getattr(info, "identifier", "") or info.model_key
            if name not in self._evicted:
                self._evicted.add(name)
                self._console.note(f"Evicting {name} to make room.")
        elif info is not None:
            self._size = info.size_bytes
        if progress.ambiguous and info is not None:
            self._console.note(
                f"{self._key} matches several models: {', '.join(progress.ambiguous)}. Loading {info.model_key}."
            )
        if self._bar is not None and self._task is not None:
            rate = self._rate(progress.fraction) if progress.phase == "loading" else ""
            phase = _PHASES.get(progress.phase, progress.phase)
            self._bar.update(self._task, completed=progress.fraction, phase=printable(phase), rate=rate)

    def summary(self) -> str:
        """Return the duration of the load and its rate: ``3.2 s (2.50 GB, 781 MB/s)``."""
        seconds = time.monotonic() - self._began
        size = f" ({size_text(self._size)}, {self._rate(1.0)})" if self._size else ""
        return f"{seconds:,.1f} s{size}"

    def _rate(self, fraction: float) -> str:
        seconds = time.monotonic() - self._began
        return f"{size_text(self._size * fraction / seconds)}/s" if self._size and seconds > 0 else ""


def _bar() -> Progress | None:
    """Return a bar on standard error, or None if that is no terminal that can move its cursor."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column as RichColumn

    console = RichConsole(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    has_room = console.width >= _WIDTH_FOR_TIME
    # Standard output is not redirected, because it has the result, and may be a file.
    return Progress(
        TextColumn(
            "{task.description}", markup=False, table_column=RichColumn(no_wrap=True, overflow="ellipsis")
        ),
        TextColumn("{task.fields[phase]}", style="dim", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", style="dim", markup=False),
        *([TimeElapsedColumn()] if has_room else []),
        console=console,
        transient=True,
        redirect_stdout=False,
    )

"""The progress bar of a load, with its phases and its rate, on standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from lmstudio_async._printable import printable

if TYPE_CHECKING:
    from lmstudio_async import AsyncOperation, LoadProgress
    from lmstudio_async._cli._console import Console

__all__ = ["follow_load", "load_bar"]

HandleT = TypeVar("HandleT")

#: Characters that are shown of a name, so that the bar fits into one line of 80 columns.
_LONGEST_NAME = 28


async def follow_load(
    load: AsyncOperation[LoadProgress, HandleT], console: Console, *, stays: bool = False
) -> HandleT:
    """Run a load to its end with a bar, and return its handle. Cancellation of the task cancels the load.

    :param load: a stream of ``client.llm`` or ``client.embedding``, which has not started.
    :param stays: see `load_bar`.
    """
    async with load:
        with load_bar(console, stays=stays) as show:
            async for progress in load:
                if progress.phase == "resolved" and progress.ambiguous and progress.info is not None:
                    others = ", ".join(progress.ambiguous)
                    console.note(f"Loading {progress.info.model_key}. The name also matches: {others}.")
                show(progress)
        return await load.wait_for_result()


@contextmanager
def load_bar(console: Console, *, stays: bool = False) -> Iterator[Callable[[LoadProgress], None]]:
    """Draw the progress of a load, if standard error is a terminal and the user wants bars.

    The bar appears when the server loads or evicts, so that an instance which is there already has none.

    :param stays: whether the bar stays after the load. By default it disappears, because an answer follows.
    :return: a function to call with each item of the stream.
    """
    if console.is_quiet or not _can_draw():
        yield lambda _: None
        return
    bar = _Bar(stays=stays)
    try:
        yield bar.show
    finally:
        bar.end()


def _can_draw() -> bool:
    # The variable is that of `progress_bar`. A dumb terminal cannot move its cursor.
    is_wanted = os.environ.get("LMSTUDIO_PROGRESS", "").strip() != "0"
    return is_wanted and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Bar:
    def __init__(self, *, stays: bool) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
        from rich.table import Column

        class QuietConsole(RichConsole):
            def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - rich passes it
                """Leave the cursor visible, because a program that is killed does not restore it."""
                return False

        one_line = Column(no_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=one_line),
            BarColumn(bar_width=24),
            TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
            TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=Column(no_wrap=True)),
            console=QuietConsole(stderr=True, highlight=False),
            transient=not stays,
            # No thread draws, and the output of the command goes where it belongs.
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=1.0, note="")
        self._name = ""
        self._began: float | None = None
        self._is_drawn = False

    def show(self, progress: LoadProgress) -> None:
        """Draw an item of the stream."""
        if progress.phase == "resolved" or (progress.phase == "loaded" and not self._is_drawn):
            return
        if progress.phase == "loading":
            self._began = time.monotonic() if self._began is None else self._began
        self._name = _name(progress) or self._name
        self._progress.update(
            self._task,
            completed=progress.fraction,
            description=f"{progress.phase} {self._name}",
            note=_note(progress, self._began),
        )
        if self._is_drawn:
            self._progress.refresh()
        else:
            self._is_drawn = True
            self._progress.start()

    def end(self) -> None:
        """Erase the bar, or leave it as it is."""
        if self._is_drawn:
            self._progress.stop()


def _name(progress: LoadProgress) -> str:
    info = progress.info
    if info is None:
        return ""
    # With `evicting` and `loaded` it is an instance.
    name = printable(str(getattr(info, "identifier", "") or info.model_key))
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _note(progress: LoadProgress, began: float | None) -> str:
    """Return the rate of a load and the time that it may still take, as far as they are known."""
    seconds = 0.0 if began is None else time.monotonic() - began
    if progress.info is None or seconds < 0.1 or not progress.fraction or progress.phase == "evicting":
        return ""
    rate = progress.info.size_bytes * progress.fraction / seconds
    shown = f"{rate / 1e9:.1f} GB/s" if rate >= 1e9 else f"{rate / 1e6:,.0f} MB/s"
    left = seconds * (1 - progress.fraction) / progress.fraction
    return f"{shown}, {left:.0f} s left" if progress.phase == "loading" else f"{shown}, {seconds:.1f} s"

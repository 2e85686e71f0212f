"""The progress bar of a download, with its size, speed and time left, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmstudio_async._cli._units import duration_text, size_text
from lmstudio_async._printable import printable

if TYPE_CHECKING:
    from lmstudio_async import AsyncDownloadStream, DownloadProgressUpdate
    from lmstudio_async._cli._console import Console

__all__ = ["follow_download"]

#: Characters that are shown of a name, so that the bar fits into one line of 80 columns, and in a wide terminal.
_LONGEST_NAME = 20
_LONGEST_WIDE = 60
_WIDE = 120


async def follow_download(download: AsyncDownloadStream, console: Console, name: str) -> str:
    """Run a download to its end with a bar, and return the model key. Cancellation of the task cancels the download.

    In a terminal a bar is drawn, anywhere else one line is printed; neither if the model is there already.

    :param download: the stream, which has not started.
    :param name: the name to show.
    """
    async with download:
        with _bar(console, name) as show:
            async for update in download:
                show(update)
            return await download.wait_for_result()


@contextmanager
def _bar(console: Console, name: str) -> Iterator[Callable[[DownloadProgressUpdate], None]]:
    if not console.is_quiet and sys.stderr.isatty():
        bar = _Bar(name)
        try:
            yield bar.show
            bar.succeed()
        finally:
            bar.end()
        return
    is_first = True

    def show(update: DownloadProgressUpdate) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            console.note(f"Downloading {name}, {size_text(update.total_bytes)} ...")

    yield show


class _Bar:
    def __init__(self, name: str) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
        from rich.table import Column

        class QuietConsole(RichConsole):
            def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - rich passes it
                """Leave the cursor visible, because a program that is killed does not restore it."""
                return False

        console = QuietConsole(stderr=True, highlight=False)
        one_line = Column(no_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=one_line),
            BarColumn(bar_width=12),
            TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            # No thread draws, and the output of the command goes where it belongs.
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        shown = printable(name).rpartition("/")[2]
        longest = _LONGEST_WIDE if console.width >= _WIDE else _LONGEST_NAME
        shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
        self._task = self._progress.add_task(shown, total=1.0, note="")
        self._total = 0
        self._is_drawn = False

    def show(self, update: DownloadProgressUpdate) -> None:
        """Draw a progress. The bar appears with the first one."""
        if not self._is_drawn:
            self._is_drawn = True
            self._progress.start()
        self._total = update.total_bytes
        self._progress.update(self._task, completed=update.fraction, note=_note(update))
        self._progress.refresh()

    def succeed(self) -> None:
        """Draw the end of a download."""
        if self._is_drawn:
            self._progress.update(self._task, completed=1.0, note=size_text(self._total))
            self._progress.refresh()

    def end(self) -> None:
        """Leave the bar as it is."""
        if self._is_drawn:
            self._progress.stop()


def _note(update: DownloadProgressUpdate) -> str:
    """Return the numbers beside the bar: 45 of 105 MB, 12 MB/s, 5 s left."""
    if not update.total_bytes:
        return size_text(update.downloaded_bytes)
    if update.phase == "finalizing" or update.downloaded_bytes >= update.total_bytes:
        return f"{size_text(update.total_bytes)}, checking" if update.phase == "finalizing" else ""
    note = f"{_of(update.downloaded_bytes, update.total_bytes)}"
    if update.speed_bytes_per_second <= 0:
        return note
    left = (update.total_bytes - update.downloaded_bytes) / update.speed_bytes_per_second
    return f"{note}, {size_text(update.speed_bytes_per_second)}/s, {duration_text(left)} left"


def _of(done: float, total: float) -> str:
    done_text, total_text = size_text(done), size_text(total)
    number, _, unit = done_text.rpartition(" ")
    return f"{number} of {total_text}" if total_text.endswith(unit) else f"{done_text} of {total_text}"

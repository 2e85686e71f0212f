"""The progress bar of a download, with its size, speed and time left, on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import attrs

from lmstudio_async._cli._progress_line import ProgressLine, bar_text
from lmstudio_async._cli._units import duration_text, size_text

if TYPE_CHECKING:
    from lmstudio_async import AsyncDownloadStream, DownloadProgressUpdate
    from lmstudio_async._cli._console import Console

__all__ = ["follow_download"]

#: Seconds without progress after which the last speed says nothing any more.
STALL_SECONDS = 4.0


async def follow_download(download: AsyncDownloadStream, console: Console, name: str) -> str:
    """Run a download to its end with a bar, and return the model key. Cancellation of the task cancels the download.

    Where no bar is drawn, one note is printed; neither if the model is there already.

    :param download: the stream, which has not started.
    :param name: the name to show.
    """
    # Without the owner, which the command or a note above the bar has.
    bar = _Bar(name.rpartition("/")[2]) if console.draws_progress else None
    failure: Exception | None = None
    async with download:
        try:
            async with anyio.create_task_group() as tasks:
                if bar is not None:
                    tasks.start_soon(bar.drop_old_speeds)
                try:
                    await _show(download, console, name, bar)
                except Exception as error:  # noqa: BLE001 - raised below, because the task group would wrap it
                    failure = error
                tasks.cancel_scope.cancel()
            if failure is not None:
                raise failure
            key = await download.wait_for_result()
            if bar is not None:
                bar.complete()
        finally:
            # After an interrupt the bar shows how much there is already.
            if bar is not None:
                bar.keep()
    return key


async def _show(download: AsyncDownloadStream, console: Console, name: str, bar: _Bar | None) -> None:
    from lmstudio_async import progress_bar

    lines = progress_bar(name[-40:]) if console.prints_progress else None
    is_told = False
    async for update in download:
        if bar is not None:
            bar.show(update)
        elif lines is not None:
            lines(update)
        elif not is_told:
            is_told = True
            console.note(f"Downloading {name}, {size_text(update.total_bytes)} ...")


class _Bar:
    """The bar of one download.

    :param label: the name to show.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._line = ProgressLine()
        self._latest: DownloadProgressUpdate | None = None
        self._news = anyio.Event()

    def show(self, update: DownloadProgressUpdate) -> None:
        """Draw the latest progress."""
        self._latest = update
        self._news.set()
        self._draw(update.fraction, _notes(update))

    async def drop_old_speeds(self) -> None:
        """Draw the progress without speed and time left whenever the server sends none for a while."""
        while True:
            with anyio.move_on_after(STALL_SECONDS) as pause:
                await self._news.wait()
            if pause.cancelled_caught and self._latest is not None:
                self._draw(
                    self._latest.fraction, _notes(attrs.evolve(self._latest, speed_bytes_per_second=0.0))
                )
                await self._news.wait()
            self._news = anyio.Event()

    def complete(self) -> None:
        """Draw the end of the download, unless the model was there already."""
        if self._latest is not None:
            self._draw(1.0, (size_text(self._latest.total_bytes),))

    def keep(self) -> None:
        """Leave the bar as it is."""
        self._line.keep()

    def _draw(self, fraction: float, notes: tuple[str, ...]) -> None:
        self._line.show(bar_text(self._label, fraction, notes, self._line.width))


def _notes(update: DownloadProgressUpdate) -> tuple[str, ...]:
    """Return the numbers beside the bar, in several lengths: ``45 of 105 MB, 12 MB/s, 5 s left``."""
    done, total, speed = update.downloaded_bytes, update.total_bytes, update.speed_bytes_per_second
    if not total:
        return (size_text(done),)
    if update.phase == "finalizing":
        return f"{size_text(total)}, checking", "checking"
    if done >= total:
        return ()
    if speed <= 0:
        return (_of(done, total),)
    left = f"{duration_text((total - done) / speed)} left"
    return f"{_of(done, total)}, {size_text(speed)}/s, {left}", f"{_of(done, total)}, {left}", left


def _of(done: float, total: float) -> str:
    done_text, total_text = size_text(done), size_text(total)
    number, _, unit = done_text.rpartition(" ")
    return f"{number} of {total_text}" if total_text.endswith(unit) else f"{done_text} of {total_text}"

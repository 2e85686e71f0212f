"""The progress bar of a download, with its size, speed and time left, on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstudio_async._cli._progress_line import ProgressLine, bar_text
from lmstudio_async._cli._units import duration_text, size_text

if TYPE_CHECKING:
    from lmstudio_async import AsyncDownloadStream, DownloadProgressUpdate
    from lmstudio_async._cli._console import Console

__all__ = ["follow_download"]


async def follow_download(download: AsyncDownloadStream, console: Console, name: str) -> str:
    """Run a download to its end with a bar, and return the model key. Cancellation of the task cancels the download.

    Where no bar is drawn, one note is printed; neither if the model is there already.

    :param download: the stream, which has not started.
    :param name: the name to show.
    """
    from lmstudio_async import progress_bar

    line = ProgressLine() if console.draws_progress else None
    lines = progress_bar(name[-40:]) if console.prints_progress else None
    # Without the owner, which the command or a note above the bar has.
    label = name.rpartition("/")[2]
    latest: DownloadProgressUpdate | None = None
    async with download:
        try:
            async for update in download:
                if line is not None:
                    line.show(bar_text(label, update.fraction, _notes(update), line.width))
                elif lines is not None:
                    lines(update)
                elif latest is None:
                    console.note(f"Downloading {name}, {size_text(update.total_bytes)} ...")
                latest = update
            key = await download.wait_for_result()
            if line is not None and latest is not None:
                line.show(bar_text(label, 1.0, (size_text(latest.total_bytes),), line.width))
        finally:
            # After an interrupt the bar shows how much there is already.
            if line is not None:
                line.keep()
    return key


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

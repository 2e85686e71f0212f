"""Progress bars for ``on_progress=``: when one is drawn, and for which operation."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lmstudio_async._arguments import check_text
from lmstudio_async._callbacks import ScopedCallback
from lmstudio_async._printable import printable
from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async._download import DownloadProgressUpdate
    from lmstudio_async._load_feed import LoadProgress
    from lmstudio_async._progress_display import Display

__all__ = ["ProgressBar", "progress_bar"]

#: Characters that are shown of a description, so that a bar fits into one line.
_LONGEST_DESCRIPTION = 40

#: Seconds between two updates of the numbers beside a bar. The bar itself is drawn again for each percent.
_NOTE_SECONDS = 0.25

logger = logging.getLogger("lmstudio_async")


def progress_bar(description: str | None = None) -> ProgressBar:
    """Return a callback for ``on_progress=`` that draws a progress bar.

    In a terminal it is drawn on standard error, with rich if that is installed, else with tqdm, else as a line for every
    10 %. In a notebook it is drawn into the cell, with tqdm if that is installed, else as lines. Anywhere else nothing is
    drawn, so that logs and pipes stay clean. The environment variable ``LMSTUDIO_PROGRESS=0`` draws nothing anywhere, and
    ``LMSTUDIO_PROGRESS=1`` prints the lines also where standard error is no terminal.

    Each load or download has a bar of its own, which ends with it, also after an error, a cancellation or Ctrl-C; so one
    callback may serve several, one after the other or at once. A bar that cannot be drawn never fails a load.
    Other text in the terminal, such as a log, begins in the line of a running bar, which goes on below it.

    The callback may also be called with the items of a stream, in a ``with`` block that ends the bar.

    :param description: text before the bar, at most 40 characters of it, such as the name of the model. None for
        ``Loading`` or ``Downloading``.
    :return: the callback.
    :raises LMStudioValueError: if the description is not a text.

    ::

        llm = await client.llm.load_new_instance("qwen3-4b", on_progress=lms.progress_bar("Qwen 3"))

        with lms.progress_bar("another one") as bar:
            async for progress in client.llm.load_new_instance_stream("qwen3-4b"):
                bar(progress)
    """
    return ProgressBar(None if description is None else check_text(description, "description"))


class ProgressBar(ScopedCallback):
    """A callback for ``on_progress=`` that draws a progress bar, as returned by `progress_bar`.

    :param description: text before the bar; None for ``Loading`` or ``Downloading``.
    """

    def __init__(self, description: str | None) -> None:
        self._description = description
        self._direct: _Use | None = None
        self._is_complete = False

    def __call__(self, progress: float | LoadProgress | DownloadProgressUpdate) -> None:
        """Draw a progress outside of a load or download that has this callback.

        :param progress: a fraction from 0.0 to 1.0, or the item of a stream. A lower one than before begins a new bar.
        :raises LMStudioValueError: if it is neither.
        """
        fraction, note, kind = _read(progress)
        if self._direct is not None and fraction < self._direct.fraction:
            self._end_direct(succeeded=False)
        if fraction >= 1.0 and self._direct is None and self._is_complete:
            # The same end again, such as the final phase of a download.
            return
        if self._direct is None:
            self._direct = _Use(self._description)
        self._direct.advance(fraction, note, kind)
        self._is_complete = fraction >= 1.0
        if self._is_complete:
            self._end_direct(succeeded=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # As it is, because the block may have been left early.
        self._end_direct(succeeded=False)

    def __del__(self) -> None:
        if getattr(self, "_direct", None) is not None:
            self._end_direct(succeeded=False)

    def __repr__(self) -> str:
        return f"progress_bar({'' if self._description is None else repr(self._description)})"

    def _end_direct(self, *, succeeded: bool) -> None:
        use, self._direct = self._direct, None
        if use is not None:
            use.end(succeeded=succeeded)

    @property
    def is_prepared(self) -> bool:
        return _place() is None or "lmstudio_async._progress_display" in sys.modules

    def prepare(self) -> None:
        try:
            from lmstudio_async._progress_display import find_display

            if place := _place():
                find_display(place)
        except Exception:
            logger.debug("could not import a library for progress bars", exc_info=True)

    @contextmanager
    def used_once(self) -> Iterator[Callable[..., object]]:
        use = _Use(self._description)
        succeeded = False
        try:
            yield lambda progress: use.advance(*_read(progress))
            succeeded = True
        finally:
            use.end(succeeded=succeeded)


class _Use:
    """The bar of one operation. It appears with the first progress."""

    def __init__(self, description: str | None) -> None:
        self.fraction = 0.0
        self._description = description
        self._kind = ""
        self._display: Display | None = None
        self._place = _place()
        self._shown = (-1, "")
        self._shown_at = 0.0

    def advance(self, fraction: float, note: str, kind: str) -> None:
        """Draw a progress, if there is something new to see.

        :param note: the numbers to show beside the bar.
        :param kind: the kind of work, for a bar without description.
        """
        if kind != self._kind and self._display is not None:
            # The load after its download.
            self._end_display(succeeded=True)
            self._shown = (-1, "")
        self.fraction, self._kind = fraction, kind
        if self._place is None:
            return
        percent, now = math.floor(100 * fraction + 1e-9), time.monotonic()
        shown_percent, shown_note = self._shown
        if percent != shown_percent or (note != shown_note and now - self._shown_at >= _NOTE_SECONDS):
            self._shown, self._shown_at = (percent, note), now
            self._draw(fraction, note, kind)

    def end(self, *, succeeded: bool) -> None:
        """End the bar: full if the operation succeeded, as it is if not."""
        self._end_display(succeeded=succeeded)
        self._place = None

    def _end_display(self, *, succeeded: bool) -> None:
        display, self._display = self._display, None
        if display is not None:
            try:
                if succeeded and self.fraction < 1.0:
                    display.show(1.0, "")
                display.end()
            except Exception:
                logger.debug("could not end a progress bar", exc_info=True)

    def _draw(self, fraction: float, note: str, kind: str) -> None:
        try:
            if self._display is None:
                from lmstudio_async._progress_display import find_display

                assert self._place is not None
                shown = printable(self._description or kind)
                if len(shown) > _LONGEST_DESCRIPTION:
                    shown = f"{shown[: _LONGEST_DESCRIPTION - 1]}…"
                self._display = find_display(self._place)(shown)
            self._display.show(fraction, note)
        except Exception:
            logger.debug("could not draw a progress bar", exc_info=True)
            self.end(succeeded=False)


def _place() -> str | None:
    """Return where to draw: ``notebook``, ``terminal``, ``lines`` for one that cannot move its cursor, or None."""
    wish = os.environ.get("LMSTUDIO_PROGRESS", "").strip()
    if wish == "0":
        return None
    if _is_notebook():
        return "notebook"
    try:
        is_terminal = sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        is_terminal = False
    if is_terminal:
        return "lines" if os.environ.get("TERM") == "dumb" else "terminal"
    return "lines" if wish == "1" else None


def _is_notebook() -> bool:
    # IPython in a terminal has no kernel.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _read(progress: object) -> tuple[float, str, str]:
    """Return the fraction of a progress, the numbers to show beside the bar, and the kind of work."""
    done = getattr(progress, "downloaded_bytes", None)
    fraction = getattr(progress, "fraction", progress)
    if not isinstance(fraction, (int, float)):
        raise LMStudioValueError(
            f"a progress bar takes a fraction from 0.0 to 1.0, or an item of a stream, not {progress!r:.80}"
        )
    # The comparisons are false for NaN.
    fraction = float(fraction) if 0.0 < fraction < 1.0 else 1.0 if fraction >= 1.0 else 0.0
    if done is None:
        return fraction, "", "Loading"
    total, speed = getattr(progress, "total_bytes", 0), getattr(progress, "speed_bytes_per_second", 0.0)
    note = f"{done / 1e6:.1f}" + (f" of {total / 1e6:.1f} MB" if total else " MB")
    return fraction, note + (f", {speed / 1e6:.1f} MB/s" if speed else ""), "Downloading"

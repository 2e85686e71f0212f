"""The warnings and errors of the SDK's loggers as notes of a command."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lmstudio_async._cli._progress_line import print_above
from lmstudio_async._cli._system_errors import system_error_text
from lmstudio_async._printable import printable_lines

if TYPE_CHECKING:
    from lmstudio_async._cli._console import Console

__all__ = ["log_notes", "told_by_the_command"]

#: Seconds in which the same note appears once.
_ONCE_IN = 60.0
#: Notes that are remembered. More different ones within a minute are not worth a longer memory.
_MOST_NOTES = 200

logger = logging.getLogger("lmstudio_async")

#: The `event` of records that the command that runs prints in its own words.
_told: list[str] = []


@contextmanager
def log_notes(console: Console) -> Iterator[None]:
    """Print the records of the SDK's loggers as notes until the context ends.

    Without a handler, Python would print them as they are into a line that is drawn. If ``LMSTUDIO_LOG`` asks for a log,
    all records are printed, with their time and level.
    """
    handler = _NoteHandler(console)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def told_by_the_command(event: str) -> Iterator[None]:
    """Make no notes of an event until the context ends, because the command prints it in its own words.

    :param event: the field `event` of the records.
    """
    _told.append(event)
    try:
        yield
    finally:
        _told.remove(event)


class _NoteHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._is_quiet = console.is_quiet
        self._line_of_log = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._printed: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        # Standard error cannot be written, or the record cannot be formatted: no reason to end the command.
        with suppress(Exception):
            if text := self._text(record):
                print_above(printable_lines(text, 20_000))

    def _text(self, record: logging.LogRecord) -> str:
        # LMSTUDIO_LOG has lowered the level.
        if logger.isEnabledFor(logging.INFO):
            return self._line_of_log.format(record)
        is_error = record.levelno >= logging.ERROR
        if getattr(record, "event", None) in _told or (self._is_quiet and not is_error):
            return ""
        text = f"{'Error' if is_error else 'Warning'}: {record.getMessage()}"
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            if isinstance(error, OSError) and error.strerror:
                text += f": {system_error_text(error)}"
            else:
                text += f": {type(error).__name__}: {error}"
        now = time.monotonic()
        if now - self._printed.get(text, -_ONCE_IN) < _ONCE_IN:
            return ""
        if len(self._printed) >= _MOST_NOTES:
            self._printed.clear()
        self._printed[text] = now
        return text

"""The log on stderr that the environment variable ``LMSTUDIO_LOG`` turns on, for programs without a log of their own.

Imported by clients only if the variable is set.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import IO, Any

from lmstudio_async._printable import printable

__all__ = ["LOG_VARIABLE", "set_up_log"]

LOG_VARIABLE = "LMSTUDIO_LOG"
_LEVELS = {"info": logging.INFO, "debug": logging.DEBUG}

logger = logging.getLogger("lmstudio_async")


class _StderrHandler(logging.StreamHandler[Any]):
    """Writes to the present `sys.stderr`, which notebooks and tests replace, while no other handler does its work."""

    def __init__(self) -> None:
        # Not the constructor of the base class, which would set the stream.
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    @property
    def stream(self) -> IO[str]:
        return sys.stderr

    def filter(self, record: logging.LogRecord) -> Any:
        # The program may set up its own log after its first client. Then each line is written there only.
        return not _has_own_handler() and super().filter(record)


_handler = _StderrHandler()

#: The value of the variable that was applied or refused last, and the level that it has set.
_latest, _level = "", logging.NOTSET


def set_up_log() -> None:
    """Turn the log on as ``LMSTUDIO_LOG`` says: ``info`` or ``debug``. Safe to repeat.

    The level is set unless the program has set one for the logger ``lmstudio_async``. Lines are written to stderr while
    neither this logger nor the root logger has another handler. A value that is neither causes a warning.
    """
    global _latest, _level  # noqa: PLW0603 - like the logger, these belong to the process
    value = os.environ.get(LOG_VARIABLE, "").strip()
    if value in ("", _latest):
        return
    _latest = value
    level = _LEVELS.get(value.lower())
    if level is None:
        logger.warning(
            "%s must be 'info' or 'debug', not %s: the log stays as it is.",
            LOG_VARIABLE,
            printable(repr(value), 80),
        )
        return
    if logger.level in (logging.NOTSET, _level):
        logger.setLevel(level)
        _level = level
    logger.addHandler(_handler)


def _has_own_handler() -> bool:
    """Return whether a handler of the program writes the records of this SDK."""
    handlers = [*logger.handlers, *(logging.getLogger().handlers if logger.propagate else ())]
    return any(each is not _handler and not isinstance(each, logging.NullHandler) for each in handlers)

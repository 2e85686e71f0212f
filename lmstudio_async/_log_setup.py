"""The log on stderr that the environment variable ``LMSTUDIO_LOG`` turns on, for programs without a log of their own.

Imported only if the variable is set.
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


def set_up_log() -> None:
    """Turn the log on as ``LMSTUDIO_LOG`` says: ``info`` or ``debug``. Safe to repeat.

    The level is set unless the program has set one for the logger ``lmstudio_async``. A handler is added unless this
    logger or the root logger has one. A value that is neither causes a warning, once.
    """
    value = os.environ.get(LOG_VARIABLE, "").strip()
    level = _LEVELS.get(value.lower())
    if not value or value in _seen:
        return
    _seen.add(value)
    if level is None:
        logger.warning(
            "%s must be 'info' or 'debug', not %s: the log stays as it is.",
            LOG_VARIABLE,
            printable(repr(value), 80),
        )
        return
    if logger.level == logging.NOTSET:
        logger.setLevel(level)
    if not _has_own_handler() and not logger.handlers:
        logger.addHandler(_StderrHandler())


def _has_own_handler() -> bool:
    """Return whether the program has a handler of its own for the records of this SDK."""
    handlers = [*logger.handlers, *logging.getLogger().handlers]
    return any(not isinstance(each, _StderrHandler) for each in handlers)


#: Values that have been applied or refused. Only a program that changes its own environment has more than one.
_seen: set[str] = set()

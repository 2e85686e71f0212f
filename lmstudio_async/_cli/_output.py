"""Standard output and standard error that cannot be written any more."""

from __future__ import annotations

import contextlib
import os
from typing import TextIO

__all__ = ["discard_output", "flush_or_discard"]


def discard_output(stream: TextIO) -> None:
    """Discard the buffered and all further output of a stream, because the interpreter would fail to flush it.

    :param stream: standard output or standard error.
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def flush_or_discard(stream: TextIO | None) -> None:
    """Write the buffered output of a stream, or discard it: unwritable output is not a failure of the program.

    :param stream: standard error; None if there is none.
    """
    if stream is not None:
        try:
            stream.flush()
        except (OSError, ValueError):
            discard_output(stream)

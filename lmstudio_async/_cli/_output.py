"""Standard output that takes nothing any more."""

from __future__ import annotations

import contextlib
import os
from typing import TextIO

__all__ = ["discard_output"]


def discard_output(stream: TextIO) -> None:
    """Send what a stream still holds, and all that comes, nowhere: else the interpreter would fail to flush it.

    :param stream: standard output or standard error.
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)

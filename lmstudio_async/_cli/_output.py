"""Standard output and standard error that cannot be written any more."""

from __future__ import annotations

import contextlib
import os
import select
from typing import TextIO

__all__ = ["check_reader", "discard_output", "flush_or_discard"]


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


def check_reader(stream: TextIO) -> None:
    """Check that a pipe still has a reader, which a command that writes rarely would notice only at its next line.

    Does nothing for a file or a terminal, nor on Windows, where only a write tells.

    :param stream: standard output.
    :raises BrokenPipeError: the reader has closed the pipe.
    """
    if not hasattr(select, "poll"):
        return
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # it is no file, as in tests
        return
    poll = select.poll()
    poll.register(number, 0)
    # For the writing side of a pipe, this is the only condition of an error.
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError

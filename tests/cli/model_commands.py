"""Helpers for the commands that list, download and delete models: runs of them, in pipes and in a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import attrs

from tests.progress_bar.terminals import read_until

__all__ = ["InTerminal", "Outcome", "in_terminal", "lmsa"]


class Outcome(NamedTuple):
    """The end of a command.

    :ivar out: its standard output.
    :ivar err: its standard error.
    """

    code: int
    out: str
    err: str


def _start(arguments: tuple[str, ...], *, stdin: int, stderr: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "lmstudio_async", *arguments]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("LMSTUDIO_HOST", "NO_COLOR")
    }
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        encoding="utf-8",
        env={**environment, "TERM": "xterm"},
    )


def lmsa(*arguments: str) -> Outcome:
    """Run a command without a terminal."""
    with _start(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "Traceback" not in err
    return Outcome(process.returncode, out, err)


@attrs.frozen
class InTerminal:
    """A command that runs in a terminal. Its standard output is a pipe.

    :ivar process: the command.
    """

    process: subprocess.Popen[str]
    _terminal: int

    def shows(self, mark: str) -> str:
        """Wait until the command shows a text in the terminal, and return everything since the last call."""
        return read_until(self._terminal, mark.encode()).decode()

    def type(self, text: str) -> None:
        """Type a text and Enter."""
        os.write(self._terminal, f"{text}\n".encode())

    def end(self) -> Outcome:
        """Wait for the end of the command. Its standard error is the rest of what it shows, without colours."""
        shown = re.sub(r"\x1b\[[\d;]*m", "", read_until(self._terminal, None).decode())
        out, _ = self.process.communicate(timeout=60)
        assert "Traceback" not in shown
        return Outcome(self.process.returncode, out, shown)


@contextmanager
def in_terminal(*arguments: str) -> Iterator[InTerminal]:
    """Run a command in a terminal of 80 columns, and kill it at the end of the block."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        with _start(arguments, stdin=theirs, stderr=theirs) as process:
            os.close(theirs)
            try:
                yield InTerminal(process, ours)
            finally:
                process.kill()
    finally:
        os.close(ours)

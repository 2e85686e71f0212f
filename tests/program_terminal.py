"""A program in a pseudo-terminal, with the keys that a user types and the text on the screen."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["CTRL_C", "CTRL_D", "ENTER", "ProgramTerminal", "program_in_terminal"]

ENTER = "\r"
CTRL_C = "\x03"
CTRL_D = "\x04"

#: Colours, movements of the cursor, and other sequences.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78])")

_SECONDS = 50

_VARIABLES = {
    "TERM": "xterm-256color",
    # This terminal does not report the position of its cursor.
    "PROMPT_TOOLKIT_NO_CPR": "1",
}

#: Makes standard input the terminal of the session, because Ctrl-C would be no signal otherwise, and runs a program.
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class ProgramTerminal:
    """A program that runs in a terminal.

    :param process: the program.
    :param number: the side of its terminal that has the screen and the keyboard.
    :param seconds: time that a step may take.
    """

    def __init__(self, process: subprocess.Popen[bytes], number: int, seconds: float = _SECONDS) -> None:
        self.process = process
        self._number = number
        self._seconds = seconds
        self._raw = b""
        self._read = 0

    @property
    def shown(self) -> str:
        """All text so far, without colours and movements of the cursor."""
        return _SEQUENCE.sub("", self.raw).replace("\r\n", "\n")

    @property
    def raw(self) -> str:
        """All that the program has written to the terminal so far."""
        return self._raw.decode("utf-8", "replace")

    def type(self, text: str) -> None:
        """Type a text, or a key."""
        os.write(self._number, text.encode())

    def wait_for(self, text: str) -> str:
        """Wait for a text after the one of the last call, and return the text before it."""
        end = time.monotonic() + self._seconds
        while (found := self.shown.find(text, self._read)) < 0:
            assert self._receive(end), f"no {text!r} in {self.shown[self._read :]!r}"
        before = self.shown[self._read : found]
        self._read = found + len(text)
        return before

    def wait_for_end(self) -> int:
        """Wait for the end of the program, and return its exit code."""
        end = time.monotonic() + self._seconds
        while self._receive(end):
            pass
        return self.process.wait(self._seconds)

    def read_output(self) -> str:
        """Read standard output, which is a pipe, to its end."""
        assert self.process.stdout is not None
        return self.process.stdout.read().decode()

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection does."""
        os.close(self._number)
        self._number = -1

    def close(self) -> None:
        """Kill the program, if it still runs."""
        self.process.kill()
        self.process.wait()
        if self._number >= 0:
            os.close(self._number)

    def _receive(self, end: float) -> bool:
        assert select.select([self._number], [], [], max(0, end - time.monotonic()))[0], self.shown
        try:
            more = os.read(self._number, 65536)
        except OSError:  # the program has ended
            return False
        self._raw += more
        return bool(more)


@contextmanager
def program_in_terminal(
    program: Sequence[str],
    environment: Mapping[str, str],
    *,
    columns: int = 80,
    rows: int = 24,
    has_output: bool = True,
    folder: Path | None = None,
    seconds: float = _SECONDS,
) -> Iterator[ProgramTerminal]:
    """Start a program in a terminal, and kill it at the end of the block.

    The terminal controls the program's session, as that of a user does: Ctrl-C and a hang-up are signals.

    :param program: path and arguments of the program.
    :param environment: its variables, besides those of a terminal.
    :param columns: width of the terminal.
    :param rows: height of the terminal.
    :param has_output: whether standard output is the terminal too, and not a pipe.
    :param folder: working directory; None for that of this process.
    :param seconds: time that a step may take.
    """
    import fcntl  # Windows has neither.
    import termios

    ours, theirs = os.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *program],
            stdin=theirs,
            stdout=theirs if has_output else subprocess.PIPE,
            stderr=theirs,
            start_new_session=True,
            cwd=folder,
            env={**_VARIABLES, **environment},
        )
    finally:
        os.close(theirs)
    with process:
        terminal = ProgramTerminal(process, ours, seconds)
        try:
            yield terminal
        finally:
            terminal.close()

"""Helpers for commands on a server: what a command prints on each output, in pipes and in a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal

from lmstudio_async import EmbeddedServer
from lmstudio_async._cli import main
from lmstudio_async.embedded import serve

__all__ = [
    "Outcome",
    "Running",
    "TerminalScreen",
    "exit_code",
    "in_terminal",
    "in_thread",
    "outcome",
    "read_line",
    "running",
    "served_at",
]

#: Seconds that any step of a command may take.
PATIENCE = 60

#: Makes standard input the terminal of the process's session, whose Ctrl-C it then gets, and runs a program.
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Outcome(NamedTuple):
    """The end of a command.

    :param code: its exit code.
    :param output: its standard output.
    :param errors: its standard error.
    """

    code: int
    output: str
    errors: str

    def json(self) -> Any:
        """Return its output, which is one JSON value."""
        return json.loads(self.output)


class Running:
    """A command that runs, with a pipe for each output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self.output, self.errors = process.stdout, process.stderr

    def interrupt(self, number: int = signal.SIGINT) -> Outcome:
        """Interrupt it as Ctrl-C does, and wait for its end. The outputs are those since the last read."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> Outcome:
        """Wait for its end."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return Outcome(self.process.returncode, output, errors)


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[Running]:
    """Start a command, and kill it at the end of the block."""
    with _started(arguments, environment, subprocess.PIPE, subprocess.PIPE) as process:
        yield Running(process)


def outcome(*arguments: str, **environment: str) -> Outcome:
    """Run a command to its end."""
    with running(*arguments, **environment) as command:
        return command.end()


def exit_code(*arguments: str) -> int:
    """Run a command in this process, for tests that look only at its messages; return its exit code."""
    return main(arguments)


def read_line(stream: IO[str], text: str = "") -> str:
    """Return the next line with the text."""
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"no line has {text!r}")


class TerminalScreen:
    """A terminal in which a command runs.

    :param descriptor: the side of the pseudo-terminal that has the screen and the keyboard.
    """

    def __init__(self, descriptor: int, process: subprocess.Popen[str]) -> None:
        self.descriptor = descriptor
        self.process = process
        self.shown = ""

    def read_until(self, text: str) -> str:
        """Wait for a text, and return all that was drawn since the last call, with the control sequences."""
        before = len(self.shown)
        while text not in self.shown[before:]:
            assert self._read(), f"no {text!r} in {self.shown[before:]!r}"
        return self.shown[before:]

    def read_to_end(self) -> int:
        """Read until the command has ended; return its exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C."""
        os.write(self.descriptor, b"\x03")

    def lines(self) -> list[str]:
        """Return the lines that were drawn, without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown).replace("\r", "").split("\n")

    def _read(self) -> bool:
        assert select.select([self.descriptor], [], [], PATIENCE)[0], self.shown
        try:
            more = os.read(self.descriptor, 65536)
        except OSError:  # the command has ended
            more = b""
        self.shown += more.decode("utf-8", "replace")
        return bool(more)


@contextmanager
def in_terminal(
    *arguments: str, columns: int = 80, rows: int = 24, has_output: bool = True, **environment: str
) -> Iterator[TerminalScreen]:
    """Start a command in a terminal, and kill it at the end of the block.

    :param has_output: whether its standard output is the terminal too, and not a pipe.
    """
    import fcntl  # Windows has neither.
    import termios

    screen, terminal = os.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        variables = {"TERM": "xterm-256color", **environment}
        with _started(arguments, variables, terminal if has_output else subprocess.PIPE, terminal) as process:
            os.close(terminal)
            terminal = -1
            yield TerminalScreen(screen, process)
    finally:
        os.close(screen)
        if terminal >= 0:
            os.close(terminal)


@contextmanager
def _started(
    arguments: tuple[str, ...], environment: dict[str, str], output: int, errors: int
) -> Iterator[subprocess.Popen[str]]:
    is_terminal = errors != subprocess.PIPE
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    program = [sys.executable, "-W", "error", "-m", "lmstudio_async", *arguments]
    with subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *program] if is_terminal else program,
        stdin=errors if is_terminal else subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        text=True,
        encoding="utf-8",
        env={**inherited, **environment},
        start_new_session=is_terminal,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def served_at(server: EmbeddedServer, port: int = 0) -> Iterator[int]:
    """Run a server in a thread of its own, at a port that the caller chooses; return the port."""

    async def serve_it(*, task_status: TaskStatus[int]) -> None:
        async with server:
            await serve(server, port=port, ready=lambda host, port: task_status.started(port))

    with start_blocking_portal() as portal:
        serving, port = portal.start_task(serve_it)
        try:
            yield port
        finally:
            serving.cancel()


def in_thread(function: Any, *arguments: Any) -> threading.Thread:
    """Call a function in a thread, which is started."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread

"""Helpers to run the command in a process of its own, as a user does: in pipes, in a terminal, and as a server.

They agree on four points:

- Each output has its own pipe, because a program that reads standard output must not find messages in it.
- A warning is an error (`-W error`), because a warning of Python tells the user of a command nothing.
- No command may end with a traceback; the helpers check it.
- The variables that describe the terminal of the tests are taken out of the environment, because the command in a
  test has another terminal, or none. All others stay: the tests set them, and `tests/conftest.py` removes those that
  name a server or models.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from tests.program_terminal import ProgramTerminal, program_in_terminal

__all__ = [
    "Command",
    "Outcome",
    "command_in_terminal",
    "environment_without_terminal",
    "outcome_without_traceback",
    "read_line",
    "read_until",
    "run",
    "serving",
    "start",
]

#: Seconds that a step of a command may take: less than a test, so that the command's failure is the one reported.
_SECONDS = 50

_PROGRAM = (sys.executable, "-W", "error", "-m", "lmstudio_async")

_OF_TERMINAL = ("COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "TERM")


class Outcome(NamedTuple):
    """The end of a command.

    :param code: its exit code.
    :param out: its standard output.
    :param err: its standard error.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on the standard output of a command that has succeeded."""
        assert self.code == 0, self
        return json.loads(self.out)


class Command:
    """A command that runs, with a pipe for each output.

    :ivar out: its standard output.
    :ivar err: its standard error.

    :param process: the command.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        # An output on a full disk has nothing to read.
        self.out: IO[str] = process.stdout or io.StringIO()
        self.err: IO[str] = process.stderr or io.StringIO()

    def interrupt(self, number: int = signal.SIGINT) -> Outcome:
        """Interrupt it as Ctrl-C does, and wait for its end. The outputs are those since the last read."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> Outcome:
        """Wait for its end. The outputs are those since the last read."""
        # Popen.communicate() would lose the text that is in the buffers of the streams.
        out, err = self.out.read(), self.err.read()
        return outcome_without_traceback(self.process.wait(_SECONDS), out, err)


def run(*arguments: str, stdin: str | bytes = "", **environment: str) -> Outcome:
    """Run a command to its end.

    :param stdin: the text in the pipe on its standard input.
    :param environment: variables besides those of this process.
    """
    done = subprocess.run(
        [*_PROGRAM, *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=_SECONDS,
        env=environment_without_terminal() | environment,
        check=False,
    )
    # In bytes, because a text would have other line ends than those of the command.
    out, err = (output.decode().replace(os.linesep, "\n") for output in (done.stdout, done.stderr))
    return outcome_without_traceback(done.returncode, out, err)


@contextmanager
def start(
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    full: Literal["stdout", "stderr"] | None = None,
    **environment: str,
) -> Iterator[Command]:
    """Start a command, and kill it at the end of the block.

    :param stdin: its standard input, as `subprocess` takes it.
    :param full: the output that is on a full disk and not a pipe.
    :param environment: variables besides those of this process.
    """
    with (
        open("/dev/full" if full else os.devnull, "w") as disk,
        subprocess.Popen(
            [*_PROGRAM, *arguments],
            stdin=stdin,
            stdout=disk if full == "stdout" else subprocess.PIPE,
            stderr=disk if full == "stderr" else subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment_without_terminal() | environment,
        ) as process,
    ):
        try:
            yield Command(process)
        finally:
            process.kill()


@contextmanager
def serving(models: Path, *options: str, port: str = "0") -> Iterator[tuple[str, Command]]:
    """Run ``serve`` in a process of its own.

    :param options: more options of the command.
    :param port: its port; a free one by default.
    :return: its address, and the command, which is killed at the end of the block.
    """
    with start("serve", "--models", str(models), "--port", port, *options) as command:
        found = re.search(r"http://(\S+) with", read_line(command.out, "Serving at"))
        assert found is not None
        yield found[1], command


@contextmanager
def command_in_terminal(
    *arguments: str, columns: int = 80, rows: int = 24, has_output: bool = True, **environment: str
) -> Iterator[ProgramTerminal]:
    """Start a command in a terminal, and kill it at the end of the block.

    :param columns: width of the terminal.
    :param rows: height of the terminal.
    :param has_output: whether standard output is the terminal too, and not a pipe.
    :param environment: variables besides those of this process.
    """
    variables = environment_without_terminal() | environment
    with program_in_terminal(
        [*_PROGRAM, *arguments], variables, columns=columns, rows=rows, has_output=has_output
    ) as terminal:
        yield terminal
    assert "Traceback" not in terminal.shown, terminal.shown


def read_line(stream: IO[str], text: str = "") -> str:
    """Return the next line that has a text."""
    return _read_lines(stream, text)[-1]


def read_until(stream: IO[str], text: str) -> str:
    """Return the output of a command up to the line that has a text, and this line."""
    return "".join(_read_lines(stream, text))


def _read_lines(stream: IO[str], text: str) -> list[str]:
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"the command ended without {text!r} in this output:\n{''.join(lines)}")


def outcome_without_traceback(code: int, out: str, err: str) -> Outcome:
    """Return an outcome, after a check that it has no traceback."""
    outcome = Outcome(code, out, err)
    assert "Traceback" not in out + err, outcome
    return outcome


def environment_without_terminal() -> dict[str, str]:
    """Return the environment of this process, without the variables that describe its terminal."""
    return {name: value for name, value in os.environ.items() if name not in _OF_TERMINAL}

"""Commands that run to their end, with standard output and standard error apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

__all__ = ["Outcome", "invoke", "started"]

_PROGRAM = [sys.executable, "-W", "error", "-m", "lmstudio_async"]


@attrs.frozen
class Outcome:
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
        """The one JSON value on standard output."""
        assert self.code == 0, self
        return json.loads(self.out)


def invoke(*arguments: str, stdin: str | bytes = "", **environment: str) -> Outcome:
    """Run a command to its end.

    :param stdin: the text in the pipe on its standard input.
    """
    done = subprocess.run(
        [*_PROGRAM, *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=50,
        env={**os.environ, **environment},
        check=False,
    )
    outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in outcome.err, outcome.err
    return outcome


@contextmanager
def started(*arguments: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command with pipes for its output, and kill it at the end of the block."""
    with subprocess.Popen(
        [*_PROGRAM, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()

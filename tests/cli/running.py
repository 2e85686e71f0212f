"""Runs the command line in processes of its own, as a user does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["command", "interrupt", "read_until", "run"]


@contextmanager
def command(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command, and end it in the end, whatever happens."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "lmstudio_async", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command to its end: its exit code and its output."""
    with command(*arguments, **environment) as process:
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read its output up to the line that has the text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"it ended without {text!r}:\n{''.join(lines)}")


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    """Do what Ctrl-C does, and give the output from then on."""
    process.send_signal(number)
    return process.communicate(timeout=30)[0]

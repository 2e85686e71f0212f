"""Helpers to run the command line in a process of its own, as a user does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

__all__ = ["command", "interrupt", "read_until", "run", "serving"]


@contextmanager
def command(
    *arguments: str, full: Literal["stdout", "stderr"] | None = None, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a command, and kill it at the end of the block.

    :param full: the output that is on a full disk; the returned process then has a pipe for the other output.
    """
    with (
        open("/dev/full" if full else os.devnull, "w") as disk,
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "lmstudio_async", *arguments],
            stdout=disk if full == "stdout" else subprocess.PIPE,
            stderr=disk if full == "stderr" else subprocess.PIPE if full else subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **environment},
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def serving(models: Path, port: str = "0") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``serve`` in a process of its own.

    :param port: its port; a free one by default.
    :return: its address, and the process, which is killed at the end of the block.
    """
    with command("serve", "--models", str(models), "--port", port) as process:
        found = re.search(r"http://(\S+) with", read_until(process, "Serving at"))
        assert found is not None
        yield found[1], process


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command to its end; return its exit code and its output."""
    with command(*arguments, full=None, **environment) as process:
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read the output of a command up to the line that has the text."""
    output = process.stdout or process.stderr
    assert output is not None
    lines = []
    for line in output:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"the command ended without {text!r} in its output:\n{''.join(lines)}")


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    """Interrupt a command as Ctrl-C does, and return its output from then on."""
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    return output or errors or ""

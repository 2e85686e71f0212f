"""The command in a pseudo-terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.program_terminal import ProgramTerminal, program_in_terminal

__all__ = ["command_in_terminal"]


@contextmanager
def command_in_terminal(
    *arguments: str, columns: int = 80, environment: Mapping[str, str] | None = None
) -> Iterator[ProgramTerminal]:
    """Start a command in a terminal, and kill it at the end of the block.

    :param columns: width of the terminal.
    :param environment: variables besides those of this process.
    """
    program = [sys.executable, "-W", "error", "-m", "lmstudio_async", *arguments]
    inherited = {name: value for name, value in os.environ.items() if name != "TERM"}
    with program_in_terminal(program, {**inherited, **(environment or {})}, columns=columns) as terminal:
        yield terminal

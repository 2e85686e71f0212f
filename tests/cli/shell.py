"""Lines for a shell, in which `lmsa` is the command, in the home folder of a new user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cli.commands import Outcome, environment_without_terminal, outcome_without_traceback
from tests.program_terminal import ProgramTerminal, program_in_terminal

__all__ = ["Shell"]

#: Variables that would name other folders than those below the home folder, or other places.
_OTHERS = (
    *("XDG_DATA_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN"),
    "LMSTUDIO_HOST",
)


class Shell:
    """A shell of a user, who has no LM Studio and no models.

    :ivar home: the home folder.
    :ivar environment: the environment of the lines.

    :param folder: an empty folder for the script and the home folder.
    :param environment: variables besides those of this process.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        scripts = folder / "scripts"
        scripts.mkdir()
        script = scripts / "lmsa"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m lmstudio_async "$@"\n')
        script.chmod(0o755)
        self.home = folder / "home"
        self.home.mkdir()
        inherited = {
            name: value for name, value in environment_without_terminal().items() if name not in _OTHERS
        }
        path = os.pathsep.join([str(scripts), os.environ.get("PATH", os.defpath)])
        self.environment = {**inherited, "PATH": path, "HOME": str(self.home), **(environment or {})}

    def use_home(self, home: Path) -> None:
        """Make another folder the home folder."""
        self.home = home
        self.environment["HOME"] = str(home)

    def run(self, line: str) -> Outcome:
        """Run a line to its end, without a terminal, in the home folder."""
        done = subprocess.run(
            ["sh", "-c", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.home,
            env=self.environment,
            timeout=60,
            check=False,
        )
        return outcome_without_traceback(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextmanager
    def in_terminal(self, line: str) -> Iterator[ProgramTerminal]:
        """Start a line in a terminal, and kill it at the end of the block."""
        # Unless sh becomes the command, it would stay between the test and the command.
        program = ["sh", "-c", line if "|" in line else f"exec {line}"]
        with program_in_terminal(program, self.environment, folder=self.home) as terminal:
            yield terminal
        assert "Traceback" not in terminal.shown, terminal.shown

"""Programs in their own processes that print milestones, for tests that end or interrupt a whole interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import SEARCH_PATH

__all__ = ["Program", "program"]

#: Beginning of programs that import the SDK themselves, at a later point.
HEAD_WITHOUT_IMPORTS = '''
import signal, sys, threading

def say(*what):
    print(*what, flush=True)

def threads_left():
    """The number of threads, once all that are ending have ended: anyio does not join its worker threads."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(20)
    return threading.active_count()
'''

#: Beginning of most programs.
HEAD = (
    f"""{HEAD_WITHOUT_IMPORTS}
import time
import lmstudio_sync as lms
from tests.sync.quiet_server import QuietServer, client_of
"""
    '''
def pause():
    """Wait for a Ctrl-C. signal.pause() alone would miss one that comes just before it, and wait for ever."""
    while True:
        time.sleep(0.1)

def say_when_waiting():
    """Say so as soon as the main thread is in a blocking call."""
    main = threading.main_thread().ident
    def look():
        while sys._current_frames()[main].f_code.co_qualname != "_BlockingCall.wait":
            pass
        say("waiting")
    threading.Thread(target=look, daemon=True).start()
'''
)


class Program:
    """A running program; each line that it prints is a milestone."""

    def __init__(
        self, code: str | Path, *arguments: object, warnings: str = "default", imports: bool = True
    ) -> None:
        head = HEAD if imports else HEAD_WITHOUT_IMPORTS
        what = [str(code)] if isinstance(code, Path) else ["-c", head + textwrap.dedent(code)]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                warnings,
                *what,
                *map(str, arguments),
            ],
            env=os.environ | {"PYTHONPATH": SEARCH_PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Kill a program that hangs; this also ends its pipes.
        self._watchdog = threading.Timer(60, self._process.kill)
        self._watchdog.start()

    def wait_for(self, milestone: str) -> None:
        """Read the output until the program prints the milestone."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == milestone:
                return
        raise AssertionError(f"the program ended before {milestone!r}: {self.errors()}")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def finish(self) -> tuple[int, list[str]]:
        """Wait for the end of the program; return its exit code and the rest of its milestones."""
        assert self._process.stdout is not None
        rest = [line.strip() for line in self._process.stdout]
        return self._process.wait(), rest

    def errors(self) -> str:
        """Return the stderr of the program, once it has ended."""
        assert self._process.stderr is not None
        return self._process.stderr.read()

    def close(self) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def program(
    code: str | Path, *arguments: object, warnings: str = "default", imports: bool = True
) -> Iterator[Program]:
    """Run a program, or a script, for as long as the block lasts.

    :param imports: whether to begin with `HEAD`, which imports the SDK, instead of `HEAD_WITHOUT_IMPORTS`.
    """
    running = Program(code, *arguments, warnings=warnings, imports=imports)
    try:
        yield running
    finally:
        running.close()

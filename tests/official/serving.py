"""`lmsa serve` in a process of its own, with access to its log and its worker processes."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["Served", "served", "wait_for_exit", "watches_processes"]

SECONDS = 20

watches_processes = pytest.mark.skipif(
    sys.platform != "linux", reason="the test finds and awaits child processes with /proc and pidfd of Linux"
)


class Served:
    """A running server.

    :ivar address: its host and port.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        assert process.stdout is not None
        ready = process.stdout.readline()
        address = re.match(r"Serving at http://(\S+) with ", ready)
        assert address is not None, f"{ready}{self.complaints()}"
        self.address = address[1]

    def complaints(self) -> str:
        """Return the log: warnings about messages of clients, and warnings of clients about its messages."""
        lines = self._log.read_text().splitlines(keepends=True)
        # Some tests ask for a GPU, which the machine need not have.
        return "".join(line for line in lines if "was to use a GPU" not in line)

    def workers(self) -> set[int]:
        """Return the processes that the server has started."""
        return _running_children({self._process.pid})

    def send_signal(self, number: int) -> None:
        """Send the server a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until the server has ended; return its exit code."""
        return self._process.wait(SECONDS)


@contextmanager
def served(models: Path, *options: str) -> Iterator[Served]:
    """Run a server for the block, and check that it leaves neither processes nor files behind."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as temporary:
        log = Path(folder, "log")
        command = [
            sys.executable,
            "-m",
            "lmstudio_async",
            "serve",
            "--models",
            str(models),
            "--port",
            "0",
            *options,
        ]
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "TMPDIR": temporary},
            ) as process,
        ):
            try:
                server = Served(process, log)
                yield server
                workers = server.workers()
                process.send_signal(signal.SIGTERM)
                assert server.wait() == 0
                wait_for_exit(workers)
                assert os.listdir(temporary) == []
            finally:
                process.kill()


def wait_for_exit(processes: Iterable[int]) -> None:
    """Wait until processes have ended, which need not be children of this one."""
    for process in processes:
        try:
            watch = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        try:
            ended, _, _ = select.select([watch], [], [], SECONDS)
            assert ended, f"the process {process} still runs"
        finally:
            os.close(watch)


def _running_children(parents: set[int]) -> set[int]:
    """Return all running descendants of some processes."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *_ = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue  # the process has ended meanwhile
        if int(parent) in parents and state != "Z":
            found.add(int(folder.name))
    return found | _running_children(found) if found else found

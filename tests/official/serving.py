"""`python -m lmstudio_async serve` as its users start it: a process of its own, with what it says and what it starts."""

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

PATIENCE = 20

watches_processes = pytest.mark.skipif(
    sys.platform != "linux", reason="what a process has started is found and waited for as on Linux"
)


class Served:
    """A server that runs.

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
        """What it has logged: warnings about what clients send, and clients' warnings about what it sends."""
        return self._log.read_text()

    def workers(self) -> set[int]:
        """The processes that it has started."""
        return _running_children({self._process.pid})

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        return self._process.wait(PATIENCE)


@contextmanager
def served(models: Path, *options: str) -> Iterator[Served]:
    """A server that ends with the block, and leaves neither processes nor files behind."""
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
    """Wait until processes have ended, whoever started them."""
    for process in processes:
        try:
            watch = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        try:
            ended, _, _ = select.select([watch], [], [], PATIENCE)
            assert ended, f"the process {process} still runs"
        finally:
            os.close(watch)


def _running_children(parents: set[int]) -> set[int]:
    """All that descend from some processes, but those that have ended."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *_ = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(parent) in parents and state != "Z":
            found.add(int(folder.name))
    return found | _running_children(found) if found else found

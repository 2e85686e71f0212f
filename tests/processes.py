"""The processes of the embedded server: whether they are there, and what memory they have."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from lmstudio_async.embedded._engine._worker import Loading, ReadAhead, read_event
from lmstudio_async.embedded._engine._worker_process import WorkerProcess

__all__ = ["hold_loads", "is_running", "memory_mb", "needs_proc", "wait_gone", "workers"]

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")


def workers(of: int | None = None) -> set[int]:
    """The worker processes of a process (this one, unless told otherwise): those that nobody has waited for too."""
    parent = os.getpid() if of is None else of
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            rest = (folder / "stat").read_text().rpartition(") ")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        # One that is about to start has no command line yet, and a zombie, which is left over too, has none any more.
        if int(rest[1]) == parent and (not command or b"_worker.py" in command):
            found.add(int(folder.name))
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process, if only one that nobody has asked how it ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def memory_mb(process: int | str = "self") -> float:
    """Memory that a process really has to itself: pages of files, which others may have too, do not count."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise LookupError(process)


def hold_loads(
    monkeypatch: pytest.MonkeyPatch, is_far_enough: Callable[[int], bool] = lambda worker: True
) -> None:
    """Have each worker stand still as soon as the server hears that its load moves: it never comes to its end.

    :param is_far_enough: whether that worker's load has come far enough for it; it is asked at each move.
    """
    receive = WorkerProcess.receive

    async def receive_and_stand_still(worker: WorkerProcess) -> list[str] | None:
        lines = await receive(worker)
        for event in map(read_event, lines or ()):
            if isinstance(event, ReadAhead | Loading) and event.fraction and is_far_enough(worker.pid):
                # It may have been killed after it had said this.
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGSTOP)
        return lines

    monkeypatch.setattr(WorkerProcess, "receive", receive_and_stand_still)


async def wait_gone(process: int) -> None:
    """Wait until a process has ended. One that has been waited for before is gone as well."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(20):
            await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)

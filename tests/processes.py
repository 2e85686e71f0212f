"""The processes of the embedded server: whether they run, and how much memory they have."""

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
    """Return the worker processes of a process (by default of this one), zombies included."""
    parent = os.getpid() if of is None else of
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            rest = (folder / "stat").read_text().rpartition(") ")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        # A process that is about to start has no command line yet, and a zombie, which is left over too, has none any more.
        if int(rest[1]) == parent and (not command or b"_worker.py" in command):
            found.add(int(folder.name))
    return found


def is_running(pid: int) -> bool:
    """Return whether a process exists, if only as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def memory_mb(process: int | str = "self") -> float:
    """Return the private memory of a process in MB, without pages of files, because other processes may share them."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise LookupError(process)


def hold_loads(
    monkeypatch: pytest.MonkeyPatch, is_far_enough: Callable[[int], bool] = lambda worker: True
) -> None:
    """Stop each worker process as soon as its load reports progress, so that the load never ends.

    :param is_far_enough: called with the worker's process ID at each progress; returns whether to stop the worker.
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
    """Wait until a process has ended. A process that has been waited for before counts as ended."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(20):
            await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)

"""The worker processes of the embedded server: their state and memory, how to stop them, and loads that a test holds."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import anyio
import anyio.lowlevel
import pytest

import lmstudio_async
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._engine._worker import Loading, ReadAhead, read_event
from lmstudio_async.embedded._engine._worker_process import WorkerProcess

__all__ = [
    "SEARCH_PATH",
    "HeldLoads",
    "go_on",
    "hold_loads",
    "is_running",
    "is_stopped",
    "memory_mb",
    "needs_proc",
    "stop",
    "wait_gone",
    "worker_pids",
    "workers",
]

#: ``PYTHONPATH`` of a subprocess. The installed package comes before the one in the source tree, which has the tests.
SEARCH_PATH = os.pathsep.join(
    [str(Path(lmstudio_async.__file__).parent.parent), str(Path(__file__).parent.parent)]
)

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


def worker_pids(server: EmbeddedServer) -> list[int]:
    """Return the process IDs of the workers of a server in this process, on any system."""
    return [instance.engine.pid for instance in server._state.instances.loaded()]


def is_running(pid: int) -> bool:
    """Return whether a process exists, if only as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_stopped(pid: int) -> bool:
    """Return whether all threads of a process are stopped."""
    try:
        stats = [(thread / "stat").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return False
    return all(stat.rpartition(") ")[2].startswith("T") for stat in stats)


async def stop(pid: int) -> None:
    """Stop a process, and wait until all its threads are stopped, because one could still work for a moment."""
    os.kill(pid, signal.SIGSTOP)
    while not is_stopped(pid):
        await anyio.lowlevel.checkpoint()


def go_on(pid: int) -> None:
    """Continue a stopped process, if it still exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def memory_mb(process: int | str = "self") -> float:
    """Return the private memory of a process in MB, without pages of files, because other processes may share them."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise LookupError(process)


class HeldLoads:
    """Loads of the embedded servers of this process that stay at their first progress until `let_go`.

    The worker process of a held load is stopped, and the server receives none of its later messages.

    :param receive: `WorkerProcess.receive`.
    :param is_far_enough: called with the worker's process ID at each progress; returns whether to hold the load there.
    """

    def __init__(
        self,
        receive: Callable[[WorkerProcess], Awaitable[list[str] | None]],
        is_far_enough: Callable[[int], bool],
    ) -> None:
        self._receive = receive
        self._is_far_enough = is_far_enough
        self._holds_new_ones = self._holds_old_ones = True
        self._new: SimpleQueue[int] = SimpleQueue()
        #: The messages that a held worker sent after the progress at which it is held, by process ID.
        self._later: dict[int, list[str]] = {}

    def get(self) -> int:
        """Block until one more load is held, by a server in another thread; return the process ID of its worker."""
        return self._new.get(timeout=20)

    async def next(self) -> int:
        """Wait until one more load is held, by a server in any thread; return the process ID of its worker."""
        with anyio.fail_after(20):
            # Not an event, because the server may run in another thread.
            while self._new.empty():  # noqa: ASYNC110
                await anyio.sleep(0.001)
        return self._new.get()

    def hold_no_more(self) -> None:
        """Let new loads run. The held ones stay where they are."""
        self._holds_new_ones = False

    def let_go(self) -> None:
        """Let all loads go on."""
        self._holds_new_ones = self._holds_old_ones = False
        for worker in tuple(self._later):
            go_on(worker)

    async def receive(self, worker: WorkerProcess) -> list[str] | None:
        """Receive messages from a worker, as `WorkerProcess.receive` does, up to the progress at which it is held."""
        if worker.pid in self._later:
            while self._holds_old_ones and worker.returncode is None:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            later = self._later.pop(worker.pid)
            if self._holds_old_ones:
                # The worker has ended while it was held. Drop the messages that it sent before the signal stopped it.
                while await self._receive(worker) is not None:
                    pass
                return None
            if later:
                return later
        lines = await self._receive(worker)
        for index, line in enumerate(lines or ()):
            event = read_event(line)
            is_progress = isinstance(event, ReadAhead | Loading) and event.fraction
            if lines and is_progress and self._holds_new_ones and self._is_far_enough(worker.pid):
                # The worker may have ended after this message.
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGSTOP)
                self._later[worker.pid] = lines[index + 1 :]
                self._new.put(worker.pid)
                return lines[: index + 1]
        return lines


def hold_loads(
    monkeypatch: pytest.MonkeyPatch, is_far_enough: Callable[[int], bool] = lambda worker: True
) -> HeldLoads:
    """Hold each load that begins from now on: see `HeldLoads`, and the fixture ``held_loads``."""
    held = HeldLoads(WorkerProcess.receive, is_far_enough)

    async def receive(worker: WorkerProcess) -> list[str] | None:
        return await held.receive(worker)

    monkeypatch.setattr(WorkerProcess, "receive", receive)
    return held


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

"""Detection of a stalled worker process while a task waits for it.

A worker that is stopped, or that waits for a disk or a driver which is gone, is alive but sends nothing. A worker that
computes for a long time sends nothing either. The CPU time of the process, the bytes that it reads, and the responses
of its HTTP server tell the two apart.

`Pulse` counts observations and not seconds: while the machine was suspended, or the server itself was stopped, no
observation was made, and the workers had no chance to run either.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

import anyio
import anyio.to_thread

from lmstudio_async.embedded._timing import DEFAULT_TIMING

__all__ = ["ObservedWorker", "Pulse"]

# Seconds between two observations, and the fewest observations that detect a stall.
_LOOK_SECONDS: Final = 5.0
_LEAST_LOOKS: Final = 6
# Thresholds for a sign of work: idle threads of a worker sometimes use one clock tick (10 ms) and read a few bytes.
_LEAST_TICKS: Final = 2
_LEAST_BYTES: Final = 4096

_STALLED_STATES: Final = {
    "T": "its process is stopped, as by SIGSTOP",
    "t": "its process is stopped by a debugger",
    "D": "its process waits for a disk or a driver that does not answer",
}


class ObservedWorker(Protocol):
    """A worker process, as far as its traffic with the server shows that it works."""

    @property
    def heard(self) -> int:
        """The number of pieces of output received so far."""

    @property
    def is_awaited(self) -> bool:
        """Whether a task is waiting for the worker now."""

    async def wait_used(self) -> None:
        """Wait until a request to the worker is in progress."""

    async def answers(self) -> bool:
        """Return whether its HTTP server answers; this may wait forever.

        :raises OSError: this process can open no more connections.
        """


class Pulse:
    """The stall detection for the engine of one instance, also across restarts of its process.

    :param load_seconds: seconds for which a worker may stall during a load, or while only its HTTP server answers.
    :param answer_seconds: seconds for which a worker may stall while a request waits for its answer.
    :param kill_seconds: seconds that a killed worker may take to end.
    :ivar is_felt: false from an observation without a sign of life to the next one with a sign of life.
    """

    def __init__(
        self,
        *,
        load_seconds: float = 300.0,
        answer_seconds: float = 30.0,
        kill_seconds: float = DEFAULT_TIMING.kill_seconds,
    ) -> None:
        self.load_seconds = load_seconds
        self.answer_seconds = answer_seconds
        self.kill_seconds = kill_seconds
        self.is_felt = True
        # Use a thread of its own, because all shared threads may be waiting for the same disk as the stalled worker.
        self._thread = anyio.CapacityLimiter(1)

    async def wait_stall(self, pid: int, worker: ObservedWorker, seconds: float) -> str:
        """Wait until a worker has stalled for a number of seconds while a task waited for it.

        Makes no observation as long as the worker is not used.

        :return: a description of the stalled process for a message.
        """
        interval = min(_LOOK_SECONDS, seconds / _LEAST_LOOKS)
        most_silent = math.ceil(seconds / interval)
        # The longer timeout applies while only the HTTP server answers: then the engine may hang in a driver, or it may
        # compute on a GPU without any work for the CPU.
        most_idle = math.ceil(max(seconds, self.load_seconds) / interval)
        self.is_felt = True
        silent = idle = 0
        while silent < most_silent and idle < most_idle:
            if silent == 0:
                await worker.wait_used()
                heard, looked_at = worker.heard, anyio.current_time()
                signs = await self._look_at(pid)
            await anyio.sleep_until(looked_at + interval)
            looked_at = anyio.current_time()
            before, signs = signs, await self._look_at(pid)
            if not worker.is_awaited or worker.heard != heard or signs.show_work_since(before):
                silent = idle = 0
            else:
                # If the system has no statistics of processes, a response is the only sign of life that there can be.
                idle += signs.is_known
                silent = 0 if await _answers(worker, signs, interval) else silent + 1
            self.is_felt = not silent
        return signs.stall_reason()

    async def _look_at(self, pid: int) -> _Signs:
        try:
            return await anyio.to_thread.run_sync(_Signs.of, pid, limiter=self._thread)
        except RuntimeError:
            # No thread can be started. A response of the HTTP server is then the only sign of life.
            return _Signs()


async def _answers(worker: ObservedWorker, signs: _Signs, seconds: float) -> bool:
    if signs.is_stopped:
        return False
    with anyio.move_on_after(seconds):
        try:
            return await worker.answers()
        except OSError:
            # This process lacks a file descriptor for the connection, which says nothing about the worker.
            return True
    return False


class _Signs(NamedTuple):
    """Statistics of a process, from ``/proc`` on Linux. On other systems they are empty."""

    states: frozenset[str] = frozenset()
    """The states of its threads."""
    ticks: int = 0
    faults: int = 0
    """Major page faults: pages that had to be read from a disk."""
    read: int = 0

    @classmethod
    def of(cls, pid: int) -> Self:
        process = Path(f"/proc/{pid}")
        try:
            own = _status(process)
            states = frozenset(_status(thread)[0] for thread in (process / "task").iterdir())
        except OSError:
            return cls()
        # Index 0 is the state, which is field 3 in proc(5).
        return cls(states, ticks=int(own[11]) + int(own[12]), faults=int(own[9]), read=_bytes_read(process))

    @property
    def is_known(self) -> bool:
        return bool(self.states)

    @property
    def is_stopped(self) -> bool:
        return bool(self.states & {"T", "t"})

    def show_work_since(self, before: Self) -> bool:
        # A thread in the state "R" runs, or waits only for a free CPU, so that its process is not stalled.
        return (
            "R" in self.states
            or self.ticks - before.ticks >= _LEAST_TICKS
            or self.faults > before.faults
            or self.read - before.read >= _LEAST_BYTES
        )

    def stall_reason(self) -> str:
        """Return a description of the stalled process for a message."""
        found = (words for state, words in _STALLED_STATES.items() if state in self.states)
        return next(found, "it neither computes, nor reads, nor sends anything")


def _status(process: Path) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` after the name, which may contain any character."""
    return (process / "stat").read_text("utf-8", "replace").rpartition(") ")[2].split()


def _bytes_read(process: Path) -> int:
    """Return the bytes read from files and from disks; 0 if they are unknown, as for another user's process."""
    try:
        counters = dict(line.split(": ") for line in (process / "io").read_text("ascii").splitlines())
        return int(counters["rchar"]) + int(counters["read_bytes"])
    except (OSError, ValueError, KeyError):
        return 0

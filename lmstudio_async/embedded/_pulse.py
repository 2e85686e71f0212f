"""Whether a worker process moves while somebody waits for it.

A worker that is stopped, or waits for a disk or a driver that has gone, lives and says nothing, like one that computes
for long. The difference shows in its CPU time, in what it reads, and in whether its HTTP server answers.

Looks are counted, and not seconds: a machine that was suspended, or a server that was stopped itself, has looked at
nothing meanwhile, and its workers have had no chance to move.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

import anyio
import anyio.to_thread

__all__ = ["Pulse", "Talk"]

# Between two looks, and the least number of looks that a standstill takes.
_LOOK_SECONDS: Final = 5.0
_LEAST_LOOKS: Final = 6
# The idle threads of a worker come to one tick of the clock (10 ms) now and then, and they read some bytes.
_LEAST_TICKS: Final = 2
_LEAST_BYTES: Final = 4096

_STANDSTILLS: Final = {
    "T": "its process is stopped, as by SIGSTOP",
    "t": "its process is stopped by a debugger",
    "D": "its process waits for a disk or a driver that does not answer",
}


class Talk(Protocol):
    """The traffic between the server and a worker."""

    @property
    def heard(self) -> int:
        """The pieces of output that have come so far."""

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits for the worker at this moment."""

    async def wait_used(self) -> None:
        """Wait until the worker has something to do."""

    async def answers(self) -> bool:
        """Whether its HTTP server answers; this may wait without end."""


class Pulse:
    """The pulse of the engine of one instance, also across restarts of its process.

    :param load_seconds: how long a worker that loads may stand still, and one that only its HTTP server is alive of.
    :param answer_seconds: how long a worker may stand still that owes an answer.
    :ivar is_felt: false from a look that found no sign of life to the next one that finds some.
    """

    def __init__(self, *, load_seconds: float = 300.0, answer_seconds: float = 30.0) -> None:
        self.load_seconds = load_seconds
        self.answer_seconds = answer_seconds
        self.is_felt = True
        # Its own, because the shared threads may all wait for the disk that makes the worker stand still.
        self._thread = anyio.CapacityLimiter(1)

    async def wait_standstill(self, pid: int, talk: Talk, seconds: float) -> str:
        """Wait until a worker has stood still for so many seconds while it was waited for.

        It costs nothing as long as the worker is not used.

        :return: in what state it stands still, for a message.
        """
        interval = min(_LOOK_SECONDS, seconds / _LEAST_LOOKS)
        most_silent = math.ceil(seconds / interval)
        # Its HTTP server may answer although the engine behind it hangs in a driver. It may also compute on a GPU
        # without any work for the CPU. The long fuse is for both.
        most_idle = math.ceil(max(seconds, self.load_seconds) / interval)
        self.is_felt = True
        silent = idle = 0
        while silent < most_silent and idle < most_idle:
            if silent == 0:
                await talk.wait_used()
                heard, looked_at = talk.heard, anyio.current_time()
                signs = await self._look_at(pid)
            await anyio.sleep_until(looked_at + interval)
            looked_at = anyio.current_time()
            before, signs = signs, await self._look_at(pid)
            if not talk.is_awaited or talk.heard != heard or signs.show_work_since(before):
                silent = idle = 0
            else:
                # Where the system tells nothing of processes, an answer is all the evidence that there can be.
                idle += signs.is_known
                silent = 0 if await _answers(talk, signs, interval) else silent + 1
            self.is_felt = not silent
        return signs.standstill()

    async def _look_at(self, pid: int) -> _Signs:
        return await anyio.to_thread.run_sync(_Signs.of, pid, limiter=self._thread)


async def _answers(talk: Talk, signs: _Signs, seconds: float) -> bool:
    if signs.is_stopped:
        return False
    with anyio.move_on_after(seconds):
        return await talk.answers()
    return False


class _Signs(NamedTuple):
    """Numbers that the system has of a process. On Linux that is in ``/proc``; elsewhere nothing is known."""

    states: frozenset[str] = frozenset()
    """Of its threads."""
    ticks: int = 0
    faults: int = 0
    """Pages that had to be read from a disk."""
    read: int = 0

    @classmethod
    def of(cls, pid: int) -> Self:
        process = Path(f"/proc/{pid}")
        try:
            own = _status(process)
            states = frozenset(_status(thread)[0] for thread in (process / "task").iterdir())
        except OSError:
            return cls()
        # Counted as in proc(5), from the state on, which is field 3.
        return cls(states, ticks=int(own[11]) + int(own[12]), faults=int(own[9]), read=_bytes_read(process))

    @property
    def is_known(self) -> bool:
        return bool(self.states)

    @property
    def is_stopped(self) -> bool:
        return bool(self.states & {"T", "t"})

    def show_work_since(self, before: Self) -> bool:
        # One that is ready to run stands still for lack of a CPU, and not by itself.
        return (
            "R" in self.states
            or self.ticks - before.ticks >= _LEAST_TICKS
            or self.faults > before.faults
            or self.read - before.read >= _LEAST_BYTES
        )

    def standstill(self) -> str:
        """How it stands still, for a message."""
        found = (words for state, words in _STANDSTILLS.items() if state in self.states)
        return next(found, "it neither computes, nor reads, nor says anything")


def _status(process: Path) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` behind the name, which may have anything in it."""
    return (process / "stat").read_text("utf-8", "replace").rpartition(") ")[2].split()


def _bytes_read(process: Path) -> int:
    """From files and from disks together; 0 if that is not told, as of another user's process."""
    try:
        counters = dict(line.split(": ") for line in (process / "io").read_text("ascii").splitlines())
        return int(counters["rchar"]) + int(counters["read_bytes"])
    except (OSError, ValueError, KeyError):
        return 0

"""A worker that computes, reads or writes does not stand still; one that only answers over HTTP does after a while."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import anyio.to_thread
import pytest

from lmstudio_async.embedded._engine._pulse import Pulse
from tests.processes import needs_proc

#: A process ID that no process has.
NO_PROCESS = 2**30
#: Looks at a worker after which it counts as one that does not stand still.
LOOKS = 20


class Awaited:
    """A worker that a task waits for.

    :param says: it writes output between two looks.
    :param answers: its HTTP server answers.
    :param error: raised by `answers`.
    """

    def __init__(self, *, says: bool = False, answers: bool = False, error: OSError | None = None) -> None:
        self.heard = 0
        self.looks = 0
        self.enough = anyio.Event()
        self._says = says
        self._answers = answers
        self._error = error

    @property
    def is_awaited(self) -> bool:
        self.heard += self._says
        self.looks += 1
        if self.looks == LOOKS:
            self.enough.set()
        return True

    async def wait_used(self) -> None:
        pass

    async def answers(self) -> bool:
        if self._error is not None:
            raise self._error
        return self._answers


@contextmanager
def running(program: str) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", f"print(flush=True)\n{program}"], stdout=-1
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


SLEEP = "import time; time.sleep(60)"
COMPUTE = "while True: pass"
READ = f"import time\nwhile True: open({__file__!r}, 'rb').read(); time.sleep(0.0001)"


async def standstill_of(pulse: Pulse, pid: int, worker: Awaited) -> str | None:
    """Return how the worker stands still, None if it does not."""
    found = None

    async def watch() -> None:
        nonlocal found
        found = await pulse.wait_stall(pid, worker, 0.06)
        tasks.cancel_scope.cancel()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await worker.enough.wait()
            tasks.cancel_scope.cancel()
    return found


@needs_proc
@pytest.mark.parametrize("program", [COMPUTE, READ])
async def test_a_worker_that_computes_or_reads_does_not_stand_still(program: str) -> None:
    with running(program) as pid:
        assert await standstill_of(Pulse(load_seconds=0.06), pid, Awaited()) is None


async def test_a_worker_that_writes_output_does_not_stand_still() -> None:
    assert await standstill_of(Pulse(load_seconds=0.06), NO_PROCESS, Awaited(says=True)) is None


async def test_a_worker_without_process_statistics_does_not_stand_still_if_it_answers() -> None:
    assert await standstill_of(Pulse(load_seconds=0.06), NO_PROCESS, Awaited(answers=True)) is None


@needs_proc
async def test_a_worker_that_only_answers_stands_still_after_load_seconds() -> None:
    worker = Awaited(answers=True)
    with running(SLEEP) as pid:
        state = await standstill_of(Pulse(load_seconds=0.12), pid, worker)
    assert state is not None
    assert "neither computes" in state
    assert 12 <= worker.looks < LOOKS


@needs_proc
async def test_a_worker_that_does_nothing_stands_still() -> None:
    worker, pulse = Awaited(), Pulse()
    with running(SLEEP) as pid:
        assert await standstill_of(pulse, pid, worker) is not None
    assert worker.looks < LOOKS


async def test_a_worker_is_not_stalled_if_the_server_has_no_descriptor_to_observe_it() -> None:
    worker = Awaited(error=OSError(errno.EMFILE, "Too many open files"))
    assert await standstill_of(Pulse(load_seconds=0.06), NO_PROCESS, worker) is None


async def test_a_worker_is_not_stalled_if_it_answers_but_the_server_can_start_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run_sync(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(anyio.to_thread, "run_sync", run_sync)
        assert await standstill_of(Pulse(load_seconds=0.06), NO_PROCESS, Awaited(answers=True)) is None

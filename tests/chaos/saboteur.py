"""Injection of the planned faults."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio

from tests.chaos.models import linked_file
from tests.chaos.plan import Fault
from tests.chaos.proxy import Proxy
from tests.chaos.server import ServerProcess
from tests.processes import workers

__all__ = ["Saboteur"]


class Saboteur:
    """Injects planned faults.

    :param models: the models folder.
    :ivar done: the number of injected faults of each kind.
    """

    def __init__(self, proxy: Proxy, server: ServerProcess, models: Path) -> None:
        self.done: Counter[str] = Counter()
        self._proxy = proxy
        self._server = server
        self._link = linked_file(models)
        self._restarting = anyio.Lock()
        self._linking = anyio.Lock()

    async def run(self, planned: Sequence[Fault]) -> None:
        """Inject all faults, each at its time."""
        begin = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for fault in planned:
                await anyio.sleep(max(begin + fault.at - time.monotonic(), 0))
                self.done[fault.what] += 1
                tasks.start_soon(getattr(self, f"_{fault.what}"), fault)

    # -- connections

    async def _cut(self, fault: Fault) -> None:
        self._proxy.cut(fault.pick, rudely=fault.seconds < 2)

    async def _cut_half_way(self, fault: Fault) -> None:
        self._proxy.cut_half_way(fault.pick)

    async def _cut_all(self, _: Fault) -> None:
        self._proxy.cut_all()

    async def _stall(self, fault: Fault) -> None:
        await self._proxy.stall(fault.pick, fault.seconds)

    async def _split(self, fault: Fault) -> None:
        self._proxy.splits = True
        await anyio.sleep(fault.seconds)
        self._proxy.splits = False

    async def _refuse(self, fault: Fault) -> None:
        self._proxy.refuses = True
        await anyio.sleep(fault.seconds / 2)
        self._proxy.refuses = False

    # -- engines

    async def _kill_worker(self, fault: Fault) -> None:
        self._signal_worker(fault, signal.SIGKILL)

    async def _crash_worker(self, fault: Fault) -> None:
        self._signal_worker(fault, signal.SIGSEGV)

    async def _stop_worker(self, fault: Fault) -> None:
        stopped = self._signal_worker(fault, signal.SIGSTOP)
        await anyio.sleep(fault.seconds)
        if stopped is not None:
            _signal(stopped, signal.SIGKILL)

    async def _stop_worker_for_good(self, fault: Fault) -> None:
        """Stop a worker process and leave it, because its server must end it."""
        self._signal_worker(fault, signal.SIGSTOP)

    def _signal_worker(self, fault: Fault, number: signal.Signals) -> int | None:
        # The embedded servers in this process have workers too. The server itself looks like one just after its start.
        them = sorted({*self._server.workers, *workers()} - {self._server.pid})
        if not them:
            return None
        one = them[int(fault.pick * len(them))]
        _signal(one, number)
        return one

    # -- files

    async def _break_link(self, fault: Fault) -> None:
        async with self._linking:
            target = self._link.readlink()
            broken = self._link.with_suffix(".broken")
            broken.symlink_to(target.with_name("nothing"))
            broken.replace(self._link)
            await anyio.sleep(fault.seconds)
            broken.symlink_to(target)
            broken.replace(self._link)

    # -- the server

    async def _restart(self, _: Fault) -> None:
        async with self._restarting:
            await self._server.stop()
            await self._server.start()

    async def _kill_server(self, _: Fault) -> None:
        async with self._restarting:
            await self._server.kill()
            await self._server.start()


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass  # the process has already ended

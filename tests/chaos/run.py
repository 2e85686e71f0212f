"""One chaos run: warm-up, faults, recovery, and a check of the resources that are left."""

from __future__ import annotations

import faulthandler
import importlib
import logging
import os
import pkgutil
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal

import lmstudio_async as lms
import lmstudio_sync
from tests.chaos.comparing import held_by, more_than
from tests.chaos.crowd import Crowd, crowd_of, may_be_interrupted
from tests.chaos.models import make_models
from tests.chaos.plan import faults
from tests.chaos.proxy import Proxy
from tests.chaos.record import Record
from tests.chaos.saboteur import Saboteur
from tests.chaos.server import ServerProcess
from tests.processes import workers

__all__ = ["Run"]

#: Seconds after which an operation counts as hanging: far more than any timeout in a run, even on a busy machine.
HANGING = 120
#: Seconds within which every instance with a TTL must be unloaded.
EXPIRY = 30


class Run:
    """One chaos run.

    :param folder: the folder for the models and the server's log.
    """

    def __init__(self, folder: Path, seed: int, clients: int) -> None:
        self._seed = seed
        self._clients = clients
        self._record = Record()
        self._models = make_models(folder / "models")
        self._server = ServerProcess(self._models, folder)

    async def run(self, seconds: float) -> list[str]:
        """Run for `seconds`; return the problems that were found."""
        _import_everything()
        _record_unhandled_errors(self._record)
        async with self._server:
            async with Proxy(self._server.port, self._seed) as proxy:
                saboteur = Saboteur(proxy, self._server, self._models)
                await self._run_crowd(proxy, min(max(seconds / 6, 3), 30), self._seed + 1)
                await self._wait_until_idle()
                before = await held_by(self._server)
                planned = faults(self._seed, seconds)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(saboteur.run, planned)
                    await self._run_crowd(proxy, seconds, self._seed)
                print(f"Faults: {', '.join(f'{n} {what}' for what, n in saboteur.done.most_common())}")
                await self._wait_until_idle()
                for each in await more_than(before, self._server):
                    self._record.note(each)
            await self._server.stop()
        if "Traceback" in self._server.output():
            self._record.note(f"the server complained:\n{self._server.output()}")
        print(f"\n{self._record.table()}", flush=True)
        return self._record.amiss

    async def _run_crowd(self, proxy: Proxy, seconds: float, seed: int) -> None:
        """Let a crowd carry out its intents for `seconds`."""
        members = crowd_of(self._clients, proxy.address, self._server.address)
        crowd = Crowd(members, seed, self._models, self._record)
        crowd.start(seconds)
        while crowd.is_there:
            await anyio.sleep(0.5)
            overdue = self._record.overdue(HANGING)
            if overdue:
                self._give_up(overdue)
        crowd.join()

    def _give_up(self, overdue: list[str]) -> None:
        """Print the state and exit at once, because the hanging operation would block a regular exit."""
        print("HANGS:", *overdue, sep="\n  ", flush=True)
        print(self._record.table(), self._server.dump(), sep="\n\n", flush=True)
        faulthandler.dump_traceback(all_threads=True)
        sys.stderr.flush()
        os._exit(2)

    async def _wait_until_idle(self) -> None:
        """Unload the instances without a TTL, and wait until the others and all worker processes are gone."""
        async with lms.AsyncClient(self._server.address, timeout=EXPIRY) as client:
            for model in await client.list_loaded_models():
                if model.info.ttl is None:
                    await model.unload()
            end = time.monotonic() + EXPIRY
            while left := await client.list_loaded_models():
                if time.monotonic() > end:
                    self._record.note(f"these are never idle: {[model.info for model in left]}")
                    break
                await anyio.sleep(0.2)
        end = time.monotonic() + EXPIRY
        while processes := self._server.workers | self._server.orphans | workers():
            if time.monotonic() > end:
                self._record.note(f"workers are left over: {processes}")
                break
            await anyio.sleep(0.2)


def _import_everything() -> None:
    """Load every module of both packages, and both event loops.

    A Ctrl-C inside an import may leave the interpreter's own import lock taken for ever. In a normal program it can
    happen only once, in the main thread; here it could happen in any thread, again and again.
    """
    for package in (lms, lmstudio_sync):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for backend in anyio.get_all_backends():
        with start_blocking_portal(backend) as portal:
            portal.call(anyio.sleep, 0)


def _record_unhandled_errors(record: Record) -> None:
    """Record warnings, errors in finalizers, and errors that are only logged."""
    warnings.simplefilter("error")

    def unraisable(what: Any) -> None:
        error = what.exc_value
        dropped = isinstance(error, ResourceWarning) and "dropped half-way" in str(error)
        not_begun = isinstance(error, RuntimeWarning) and "was never awaited" in str(error)
        if (dropped or not_begun) and may_be_interrupted():
            # Ctrl-C was raised between the start of an operation and the block that would have ended it, or between the
            # creation of a coroutine and the call that would have run it.
            return
        if not isinstance(what.exc_value, KeyboardInterrupt):
            place = "".join(traceback.format_stack()[:-1])
            thread = threading.current_thread().name
            record.note(
                f"{what.err_msg or 'ignored'} in {what.object!r}: {what.exc_value!r}, in {thread} at\n{place}"
            )

    sys.unraisablehook = unraisable

    class Handler(logging.Handler):
        def emit(self, entry: logging.LogRecord) -> None:
            if entry.exc_info or entry.name == "asyncio":
                record.note(f"logged: {self.format(entry)}")

    for name in ("asyncio", "lmstudio_async", "lmstudio_async.embedded"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(Handler(logging.WARNING))

"""The server process, which a run starts, inspects, stops, kills and restarts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import attrs

from tests.chaos.left_over import Held
from tests.chaos.models import LIMITS
from tests.processes import workers

__all__ = ["ServerProcess"]

#: Seconds that the server may take to start, to end, or to write its report: far more than it needs.
LIMIT = 30.0


class ServerProcess:
    """``lmsa serve``, on the same port after each restart.

    :param folder: the folder for its output and its reports.
    """

    def __init__(self, models: Path, folder: Path) -> None:
        self._models = models
        self._report = folder / "report.json"
        self._output = folder / "server.log"
        self._process: subprocess.Popen[bytes]
        self._orphans: set[int] = set()
        # A socket that is bound but does not listen reserves the port for this server, also while the server is down.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port = int(self._place.getsockname()[1])

    @property
    def address(self) -> str:
        """The address that the server listens on."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The ID of the process, or of the last one."""
        return self._process.pid

    @property
    def workers(self) -> set[int]:
        """The worker processes of the server."""
        return workers(self.pid)

    @property
    def orphans(self) -> set[int]:
        """The worker processes of earlier server processes that still run."""
        self._orphans = {process for process in self._orphans if _is_worker(process)}
        return self._orphans

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._place.close()

    async def start(self) -> None:
        """Start the server, and wait until it listens."""
        # Each limit of the run that is not the default.
        limits = [
            f"--limit={field.name}={getattr(LIMITS, field.name)}"
            for field in attrs.fields(type(LIMITS))
            if getattr(LIMITS, field.name) != field.default
        ]
        with self._output.open("ab") as output:
            begin = output.tell()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-W", "error", "-m", "tests.chaos.spied_server"),
                    *("serve", "--models", str(self._models), "--port", str(self.port)),
                    *limits,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "CHAOS_REPORT": str(self._report)},
            )
        await self._wait_for("to listen", lambda: b"Serving at" in self._said_since(begin))

    async def stop(self) -> None:
        """Terminate the server with SIGTERM, as a service manager does, and wait for its end."""
        self._orphans |= self.workers
        self._process.terminate()
        await self._wait_for_end()
        if self._process.returncode != 0:
            raise AssertionError(
                f"the server ended with {self._process.returncode} after SIGTERM:\n{self.output()}"
            )

    async def kill(self) -> None:
        """Kill the server with SIGKILL, so that it cannot clean up."""
        # A stopped server starts no more workers.
        self._process.send_signal(signal.SIGSTOP)
        self._orphans |= self.workers
        self._process.kill()
        await self._wait_for_end()

    async def held(self) -> Held:
        """Request the resources that the server holds."""
        self._report.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        await self._wait_for("to write its report", self._report.exists)
        report = json.loads(self._report.read_text())
        counted = {name: Counter(counts) for name, counts in report["counted"].items()}
        return Held(counted, report["memory_mb"])

    def dump(self) -> str:
        """Return the server's output, after it has printed the stack of every thread."""
        self._process.send_signal(signal.SIGUSR2)
        time.sleep(1)
        return self.output()

    def output(self) -> str:
        """Return the output of all server processes so far."""
        return self._output.read_text(errors="replace")

    async def _wait_for_end(self) -> None:
        end = time.monotonic() + LIMIT
        while self._process.poll() is None:
            if time.monotonic() > end:
                raise AssertionError(f"the server does not end:\n{self.dump()}")
            await anyio.sleep(0.02)

    def _said_since(self, begin: int) -> bytes:
        with self._output.open("rb") as output:
            output.seek(begin)
            return output.read()

    async def _wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT
        while not condition():
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"waited in vain for the server {what}:\n{self.output()}")
            await anyio.sleep(0.02)


def _is_worker(process: int) -> bool:
    try:
        return b"_worker.py" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False

"""The server's process: started, asked what it holds, ended in good and in bad ways, and started again."""

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

from tests.chaos.left_over import Held
from tests.processes import workers

__all__ = ["ServerProcess"]

#: Seconds that it may take to start, to end, or to answer: far more than it needs.
LIMIT = 30.0


class ServerProcess:
    """``python -m lmstudio_async serve`` on one port, however often it is started.

    :param folder: where its output and its reports go.
    """

    def __init__(self, models: Path, folder: Path) -> None:
        self._models = models
        self._report = folder / "report.json"
        self._output = folder / "server.log"
        self._process: subprocess.Popen[bytes]
        self._orphans: set[int] = set()
        # Bound and not listening, it keeps the port from everybody but this server, also while that is down.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port = int(self._place.getsockname()[1])

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process, or the last one that there was."""
        return self._process.pid

    @property
    def workers(self) -> set[int]:
        """Its worker processes."""
        return workers(self.pid)

    @property
    def orphans(self) -> set[int]:
        """The workers of its former lives that are still there."""
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
        """Start it, and wait until it listens."""
        with self._output.open("ab") as output:
            begin = output.tell()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-W", "error", "-m", "tests.chaos.spied_server"),
                    *("serve", "--models", str(self._models), "--port", str(self.port)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "CHAOS_REPORT": str(self._report)},
            )
        await self._wait_for("to listen", lambda: b"Serving at" in self._said_since(begin))

    async def stop(self) -> None:
        """Tell it to end, as a service manager does."""
        self._orphans |= self.workers
        self._process.terminate()
        await self._wait_for_end()
        if self._process.returncode != 0:
            raise AssertionError(
                f"told to end, the server ended with {self._process.returncode}:\n{self.output()}"
            )

    async def kill(self) -> None:
        """End it so that it notices nothing."""
        # Standing still, it starts no more of them.
        self._process.send_signal(signal.SIGSTOP)
        self._orphans |= self.workers
        self._process.kill()
        await self._wait_for_end()

    async def held(self) -> Held:
        """Ask it what it holds."""
        self._report.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        await self._wait_for("to say what it holds", self._report.exists)
        report = json.loads(self._report.read_text())
        counted = {name: Counter(counts) for name, counts in report["counted"].items()}
        return Held(counted, report["memory_mb"])

    def dump(self) -> str:
        """The stack of every thread, and all that it has said."""
        self._process.send_signal(signal.SIGUSR2)
        time.sleep(1)
        return self.output()

    def output(self) -> str:
        """All that it has said, in all of its lives."""
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

"""A worker as a process of the operating system: its start, its output, its end."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import signal
import sys
import threading
from collections import deque
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread

from lmstudio_async.embedded import _worker
from lmstudio_async.embedded._worker_environment import worker_environment

__all__ = ["WorkerProcess"]

logger = logging.getLogger("lmstudio_async.embedded")

# A killed process takes milliseconds to end, and seconds if it has much memory to give back.
_KILL_SECONDS: Final = 5.0

_ERROR_LINE: Final = re.compile(r"^[\d.]+ E (?:\w+ +)?\S*: (?P<reason>.+)$")


class WorkerProcess:
    """A running worker. Its owner must :meth:`end` it.

    :ivar heard: the pieces of output that have come so far.
    """

    def __init__(self, process: anyio.abc.Process, log: _Log) -> None:
        self._process = process
        self._log = log
        self._pending = b""
        self.heard = 0

    @classmethod
    async def spawn(cls) -> WorkerProcess:
        """Start a worker that waits for its instructions.

        :raises OSError: if there can be no new process.
        """
        log = _Log()
        try:
            # Starting takes milliseconds; a process that is there and not known here could never be ended.
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    # By its path: with -m it would import the packages above it first. -P keeps the modules beside
                    # it from standing in for those of the standard library.
                    [sys.executable, "-P", _worker.__file__],
                    stderr=log.write_end,
                    env={**worker_environment(os.environ), "LLAMA_SERVER_ROUTER_PORT": "1"},
                    # Ctrl-C in the terminal is for the server, which ends its workers in its own time.
                    start_new_session=sys.platform != "win32",
                    creationflags=0x08000200
                    if sys.platform == "win32"
                    else 0,  # own group, no console window
                )
        except RuntimeError as error:
            # Processes are started, or waited for, in threads of the event loop's own.
            raise OSError(errno.EAGAIN, str(error)) from error
        finally:
            os.close(log.write_end)
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines of standard error."""
        return tuple(self._log.lines)

    def ending(self) -> str:
        """How the process ended, for a message."""
        code = self.returncode
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
        return f"{name}, as when memory runs out" if name == "SIGKILL" else name

    async def send(self, line: bytes) -> None:
        """Write to its standard input. A worker that has ended is no error here: its output tells why."""
        assert self._process.stdin is not None
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._process.stdin.send(line)

    async def receive(self) -> list[str] | None:
        """The next lines of its standard output, ``None`` at the end."""
        assert self._process.stdout is not None
        try:
            self._pending += await self._process.stdout.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return None
        self.heard += 1
        *lines, self._pending = self._pending.split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]

    async def wait(self) -> int:
        return await self._process.wait()

    async def reason(self) -> str | None:
        """Why an ending process ends, in the engine's own words, if it has any."""
        # It takes milliseconds, but seconds where others keep the machine busy.
        with anyio.move_on_after(10):
            await self._process.wait()
            await self._log.finish()
        return self._log.reason()

    # -- for the watch over a load

    @property
    def is_awaited(self) -> bool:
        """A load is waited for until it is over."""
        return True

    async def wait_used(self) -> None:
        """Return at once: it is used for the load."""

    async def answers(self) -> bool:
        """A worker that loads has no HTTP server yet."""
        return False

    # -- the end

    def kill(self) -> None:
        """End the process at once. This returns before it has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self, *, grace: float) -> None:
        """End the process: by closing its standard input if it has ``grace`` seconds, else at once.

        The caller shields this; it returns when the process is reaped. A process that waits for a disk or a driver
        ends when that answers: after some seconds it is left to the system.
        """
        process = self._process
        try:
            if grace:
                assert process.stdin is not None
                await process.stdin.aclose()
                with anyio.move_on_after(grace):
                    await process.wait()
        finally:
            # Also when asyncio.run() ends its event loop: it cancels each task once, in a shielded scope too.
            self.kill()
            patience = anyio.CancelScope(deadline=anyio.current_time() + _KILL_SECONDS)
            try:
                with patience:
                    await process.wait()
            finally:
                if patience.cancelled_caught:
                    await self._leave()
                else:
                    # This waits for the process, and once more if it is cancelled meanwhile.
                    await process.aclose()

    async def _leave(self) -> None:
        logger.warning("The worker process %d does not end: it is left to the system", self.pid)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                await stream.aclose()


class _Log:
    """The last lines of a pipe, read by a thread.

    An engine that writes much must not stop at a full pipe, and no task of the server has to live as long as the
    engine for that.

    :raises OSError: if there can be no new pipe or thread.
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=200)
        self._read_end, self.write_end = os.pipe()
        self._thread = threading.Thread(target=self._run, name="engine log", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            os.close(self._read_end)
            os.close(self.write_end)
            raise OSError(errno.EAGAIN, f"its log has no thread to read it: {error}") from error

    def _run(self) -> None:
        with os.fdopen(self._read_end, encoding="utf-8", errors="replace") as pipe:
            for line in pipe:
                self.lines.append(line.rstrip("\n")[:2000])

    async def finish(self) -> None:
        """Wait until all that an ended process has written is here."""
        await anyio.to_thread.run_sync(self._thread.join, 5.0)

    def reason(self) -> str | None:
        # The first error is the cause, the others follow from it.
        lines = tuple(self.lines)
        for line in lines:
            if found := _ERROR_LINE.match(line):
                return found["reason"].removeprefix("error loading model: ").removeprefix("error: ")
        return next((line for line in lines if "GGML_ASSERT" in line), None)

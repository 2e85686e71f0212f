"""A worker as an operating system process: its start, its output and its end."""

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

from lmstudio_async.embedded._engine import _worker
from lmstudio_async.embedded._machine._worker_environment import worker_environment
from lmstudio_async.embedded._timing import DEFAULT_TIMING

__all__ = ["WorkerProcess"]

logger = logging.getLogger("lmstudio_async.embedded")

_ERROR_LINE: Final = re.compile(r"^[\d.]+ E (?:\w+ +)?\S*: (?P<reason>.+)$")

#: Exit codes of a process that dies of an illegal instruction: here the signal, and Windows' STATUS_ILLEGAL_INSTRUCTION.
_ILLEGAL_INSTRUCTION: Final = (-signal.SIGILL, 0xC000001D)
_CAUSES: Final = {
    "SIGKILL": ", as when memory runs out",
    "SIGILL": ", as on a CPU that the engine was not built for",
}


class WorkerProcess:
    """A running worker. Its owner must call :meth:`end`.

    :ivar heard: the number of pieces of output that were received so far.
    """

    def __init__(self, process: anyio.abc.Process, log: _Log, kill_seconds: float) -> None:
        self._process = process
        self._kill_seconds = kill_seconds
        self._log = log
        self._pending = b""
        self.heard = 0

    @classmethod
    async def spawn(cls, kill_seconds: float = DEFAULT_TIMING.kill_seconds) -> WorkerProcess:
        """Start a worker that waits for its instructions.

        :param kill_seconds: seconds that the process may take to end when it is killed.
        :raises OSError: if no process can be started.
        """
        log = _Log()
        try:
            # Shielded, because a process that was started but not returned could never be ended. It takes milliseconds.
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    # Run it by its path, because -m would import its parent packages first. -P keeps the modules in
                    # its folder from shadowing those of the standard library.
                    [sys.executable, "-P", _worker.__file__],
                    stderr=log.write_end,
                    env={**worker_environment(os.environ), "LLAMA_SERVER_ROUTER_PORT": "1"},
                    # Ctrl-C in the terminal must reach only the server, which ends its workers itself.
                    start_new_session=sys.platform != "win32",
                    creationflags=0x08000200
                    if sys.platform == "win32"
                    else 0,  # own group, no console window
                )
        except RuntimeError as error:
            # The event loop starts processes, or waits for them, in a thread, which may be impossible to start.
            raise OSError(errno.EAGAIN, str(error)) from error
        finally:
            os.close(log.write_end)
        return cls(process, log, kill_seconds)

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

    @property
    def lacked_instruction(self) -> bool:
        """Whether the process died of an instruction that the CPU does not have."""
        return self.returncode in _ILLEGAL_INSTRUCTION

    def ending(self) -> str:
        """Return how the process ended, for a message."""
        code = self.returncode
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
        return name + _CAUSES.get(name, "")

    async def send(self, line: bytes) -> None:
        """Write to its standard input. No error if the worker has ended, because its output has the reason."""
        assert self._process.stdin is not None
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._process.stdin.send(line)

    async def receive(self) -> list[str] | None:
        """Return the next lines of its standard output, ``None`` at the end."""
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
        """Return the reason for which the process ends, from the engine's log; None if the log has no error.

        Waits for the end of the process first, which takes milliseconds, or seconds on a busy machine.
        """
        with anyio.move_on_after(10):
            await self._process.wait()
            await self._log.finish()
        return self._log.reason()

    # -- for the monitor of a load

    @property
    def is_awaited(self) -> bool:
        """True, because a task waits for a load until it has ended."""
        return True

    async def wait_used(self) -> None:
        """Return at once, because a worker is busy from its start with the load."""

    async def answers(self) -> bool:
        """Return False, because a worker has no HTTP server while it loads."""
        return False

    # -- the end

    def kill(self) -> None:
        """Kill the process, without waiting for its end."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self, *, grace: float) -> None:
        """End the process: close its standard input and kill it after ``grace`` seconds, or kill it at once for 0.

        The caller shields this. It returns when the process is reaped. A killed process that waits for a disk or a
        driver ends only when that answers, so after some seconds the process is left to the system.
        """
        process = self._process
        try:
            if grace:
                assert process.stdin is not None
                await process.stdin.aclose()
                with anyio.move_on_after(grace):
                    await process.wait()
        finally:
            # In `finally`, because asyncio.run() cancels each task at its end, even in a shielded scope.
            self.kill()
            scope = anyio.CancelScope(deadline=anyio.current_time() + self._kill_seconds)
            try:
                with scope:
                    await process.wait()
            finally:
                if scope.cancelled_caught:
                    await self._leave()
                else:
                    # It waits for the process, even if it is cancelled meanwhile.
                    await process.aclose()

    async def _leave(self) -> None:
        logger.warning("The worker process %d does not end: it is left to the system", self.pid)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                await stream.aclose()


class _Log:
    """The last lines of a pipe, read by a thread.

    The thread keeps the pipe empty, because a full pipe would block the engine. A task would have to live as long as
    the engine.

    :raises OSError: if no pipe can be created or no thread can be started.
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
        """Wait until all output of an ended process is read."""
        await anyio.to_thread.run_sync(self._thread.join, 5.0)

    def reason(self) -> str | None:
        # The first error is the cause, the others follow from it.
        lines = tuple(self.lines)
        for line in lines:
            if found := _ERROR_LINE.match(line):
                return found["reason"].removeprefix("error loading model: ").removeprefix("error: ")
        return next((line for line in lines if "GGML_ASSERT" in line), None)

"""Where the embedded server runs in these tests, and what it leaves behind: processes and memory."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from lmstudio_async import EmbeddedServer
from lmstudio_async.embedded._serve import serve

__all__ = ["in_process", "memory_mb", "needs_proc", "served", "wait_gone", "workers"]

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")

#: For what does not depend on how the server is reached.
in_process = pytest.mark.parametrize("place", ["in process"])


@contextmanager
def served(models: Path, **options: Any) -> Iterator[str]:
    """A server behind a port, in a thread of its own whatever the test runs on; gives its host and port."""
    address: Future[str] = Future()
    stop: Future[tuple[Any, anyio.CancelScope]] = Future()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            stop.set_result((anyio.lowlevel.current_token(), scope))
            async with EmbeddedServer(models, threads=1, **options) as server:
                await serve(server, port=0, ready=lambda host, port: address.set_result(f"{host}:{port}"))

    def run() -> None:
        try:
            anyio.run(main)
        except BaseException as error:
            if not address.done():
                address.set_exception(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield address.result(20)
    finally:
        token, scope = stop.result(20)
        anyio.from_thread.run_sync(scope.cancel, token=token)
        thread.join(20)
        assert not thread.is_alive()


def workers(of: int | None = None) -> set[int]:
    """The worker processes of a process (this one, unless told otherwise): those that nobody has waited for too."""
    parent = os.getpid() if of is None else of
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            rest = (folder / "stat").read_text().rpartition(") ")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        # A zombie has no command line any more, and is left over all the same.
        if int(rest[1]) == parent and (rest[0] == "Z" or b"_worker.py" in command):
            found.add(int(folder.name))
    return found


def memory_mb(process: int | str = "self") -> float:
    """Memory that a process really has to itself: pages of files, which others may have too, do not count."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise LookupError(process)


async def wait_gone(process: int) -> None:
    """Wait until a process has ended. One that has been waited for before is gone as well."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(20):
            await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)

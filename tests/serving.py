"""The embedded server behind a port, whatever event loop the test runs on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread

from lmstudio_async import EmbeddedServer
from lmstudio_async.embedded._serve import serve

__all__ = ["served"]


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

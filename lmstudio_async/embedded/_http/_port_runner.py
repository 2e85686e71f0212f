"""The HTTP server behind a port: uvicorn, which ends in order when its task is cancelled."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import uvicorn

from lmstudio_async._protocol._errors import unwrap_group
from lmstudio_async.embedded._cancellation import wait_until_cancelled
from lmstudio_async.embedded._http._app import create_app
from lmstudio_async.embedded._http._socket_limits import limited
from lmstudio_async.embedded._server import EmbeddedServer, timing_of

__all__ = ["run_at"]

#: Seconds for responses in progress after the request to stop.
_GRACE_SECONDS = 2
#: Seconds for the tasks of closed connections. They end by themselves; ending an engine takes the longest.
_CLEAN_UP_SECONDS = 12


async def run_at(listener: socket.socket, server: EmbeddedServer, ready: Callable[[], object]) -> None:
    """Accept connections until Ctrl-C, SIGTERM or cancellation, then return. On asyncio only.

    :param listener: the socket, which listens.
    :param server: the server that handles the requests.
    :param ready: called when clients can connect.
    """
    config = uvicorn.Config(
        create_app(server),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        **limited(server.limits, timing_of(server)),
        # On the same machine, compression takes longer than sending.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_GRACE_SECONDS + _CLEAN_UP_SECONDS,
    )
    runner = _Runner(config, ready)
    try:
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                # Shield uvicorn, because it would leave its sockets open if it were cancelled.
                with anyio.CancelScope(shield=True):
                    await runner.serve([listener])
                tasks.cancel_scope.cancel()

            tasks.start_soon(run)
            try:
                await wait_until_cancelled()
            finally:
                runner.should_exit = True
    except BaseExceptionGroup as group:
        raise unwrap_group(group) from None


class _Runner(uvicorn.Server):
    """A uvicorn server that reports when it is ready, and does not raise the signal again after its shutdown."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Abort the connections that are left after a while, because uvicorn does not close all of them: it misses those
        # that are just being established, and those whose client reads nothing do not end. At its timeout uvicorn would
        # cancel their tasks, with a traceback for each, and leave the connections open.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cut_connections)
            await super().shutdown(sockets)
            tasks.cancel_scope.cancel()

    async def _cut_connections(self) -> None:
        await anyio.sleep(_GRACE_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

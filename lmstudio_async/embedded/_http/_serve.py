"""The server on a port, for ``lmsa serve``."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.to_thread
import uvicorn

from lmstudio_async._protocol._errors import unwrap_group
from lmstudio_async.embedded._cancellation import wait_until_cancelled
from lmstudio_async.embedded._connections._origins import check_host
from lmstudio_async.embedded._http._app import create_app
from lmstudio_async.embedded._http._socket_limits import limited
from lmstudio_async.embedded._server import EmbeddedServer, clients_of, timing_of
from lmstudio_async.errors import LMStudioOSError, LMStudioRuntimeError

__all__ = ["serve"]

#: Seconds for responses in progress after the request to stop.
_GRACE_SECONDS = 2
#: Seconds for the tasks of closed connections. They end by themselves; ending an engine takes the longest.
_CLEAN_UP_SECONDS = 12


async def serve(
    server: EmbeddedServer,
    host: str = "127.0.0.1",
    port: int = 1234,
    *,
    ready: Callable[[str, int], None] | None = None,
) -> None:
    """Listen until Ctrl-C, SIGTERM or cancellation, then return. On asyncio only.

    :param server: the running server, inside its block.
    :param host: name or address to listen on. A server without ``api_tokens`` can only use an address of the loopback
        interface.
    :param port: port to listen on; 0 for any free one.
    :param ready: called with the host and the port when clients can connect.
    :raises LMStudioValueError: if other machines can reach the host and the server has no tokens.
    :raises LMStudioRuntimeError: if the program does not run on asyncio.
    :raises LMStudioOSError: if the server cannot listen on this host and port.
    """
    if not anyio.get_cancelled_exc_class().__module__.startswith("asyncio"):
        raise LMStudioRuntimeError("Listening at a port needs asyncio, because uvicorn does not run on trio.")
    check_host(
        host,
        has_tokens=clients_of(server).needs_tokens,
        remedy="Give it api_tokens, or listen at 127.0.0.1.",
    )
    listener = await anyio.to_thread.run_sync(_listen, host, port)
    actual_port = int(listener.getsockname()[1])
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
    runner = _Runner(config, lambda: ready(host, actual_port) if ready else None)
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
    finally:
        listener.close()


class _Runner(uvicorn.Server):
    """A uvicorn server that reports when it is ready, and does not raise the signal again after its shutdown."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
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


def _listen(host: str, port: int) -> socket.socket:
    # Do not resolve this name: it may be ::1 first, and clients that connect to 127.0.0.1 would then find no server.
    place = "127.0.0.1" if host == "localhost" else host
    try:
        family, _, _, _, address = socket.getaddrinfo(
            place, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise LMStudioOSError(f"Cannot listen at {host}:{port}: {_why_not(error)}") from error


def _why_not(error: OSError | OverflowError) -> str:
    if isinstance(error, socket.gaierror):
        return "no machine has this name. Give an address of this one, such as 127.0.0.1."
    match error.errno if isinstance(error, OSError) else None:
        case errno.EADDRINUSE:
            return "LM Studio or another server is there already. Choose another port; 0 is any free one."
        case errno.EADDRNOTAVAIL:
            return (
                "this machine has no such address. 127.0.0.1 is for itself alone, 0.0.0.0 for all networks."
            )
        case errno.EACCES:
            return "the system does not allow this port. Choose one above 1023."
    return f"{error}."

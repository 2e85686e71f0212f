"""Runs the server behind a port, until it is told to stop: what ``python -m lmstudio_async serve`` does."""

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

from lmstudio_async._protocol._errors import only_one
from lmstudio_async.embedded._cancellation import wait_until_cancelled
from lmstudio_async.embedded._http import create_app
from lmstudio_async.embedded._origins import is_loopback
from lmstudio_async.embedded._server import EmbeddedServer
from lmstudio_async.embedded._sockets import limited
from lmstudio_async.errors import LMStudioOSError, LMStudioRuntimeError, LMStudioValueError

__all__ = ["serve"]

#: Seconds for answers on their way, once the server is told to stop.
_GOODBYE_SECONDS = 2
#: Seconds for what works for clients that have been cut off. It ends by itself: the longest is to end an engine.
_CLEAN_UP_SECONDS = 12


async def serve(
    server: EmbeddedServer,
    host: str = "127.0.0.1",
    port: int = 1234,
    *,
    ready: Callable[[str, int], None] | None = None,
) -> None:
    """Listen until Ctrl-C, SIGTERM or cancellation, and return then; on asyncio only.

    :param server: what to serve, inside its block.
    :param host: name or address to listen at. Other than this machine's own needs a server with ``api_tokens``.
    :param port: 0 for any that is free.
    :param ready: called with the host and the port when clients can connect.
    :raises LMStudioValueError: if the host is open to others and the server has no tokens.
    :raises LMStudioRuntimeError: if this is no asyncio program.
    :raises LMStudioOSError: if there is no listening there.
    """
    if not anyio.get_cancelled_exc_class().__module__.startswith("asyncio"):
        raise LMStudioRuntimeError("Listening at a port needs asyncio, which uvicorn is made for: not trio.")
    if not is_loopback(host) and not server._clients.need_tokens:
        raise LMStudioValueError(
            f"Everybody who can reach {host!r} could use this server: give it api_tokens, or listen at 127.0.0.1."
        )
    listener = await anyio.to_thread.run_sync(_listen, host, port)
    actual_port = int(listener.getsockname()[1])
    config = uvicorn.Config(
        create_app(server),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        **limited(server.limits),
        # On the same machine packing costs more than sending.
        ws_per_message_deflate=False,
        # A client that is stopped in a debugger is not gone.
        ws_ping_timeout=60,
        timeout_graceful_shutdown=_GOODBYE_SECONDS + _CLEAN_UP_SECONDS,
    )
    runner = _Runner(config, lambda: ready(host, actual_port) if ready else None)
    try:
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                # Left half-way, uvicorn would leave its sockets open.
                with anyio.CancelScope(shield=True):
                    await runner.serve([listener])
                tasks.cancel_scope.cancel()

            tasks.start_soon(run)
            try:
                await wait_until_cancelled()
            finally:
                runner.should_exit = True
    except BaseExceptionGroup as group:
        raise only_one(group) from None
    finally:
        listener.close()


class _Runner(uvicorn.Server):
    """uvicorn, but that it tells when it is ready, and returns after a signal instead of sending it once more."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A connection that was just being made is not told of the end, and one whose client reads nothing never comes
        # to it: uvicorn would break off the tasks that serve them, with a traceback for each, and leave them open.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cut_connections)
            await super().shutdown(sockets)
            tasks.cancel_scope.cancel()

    async def _cut_connections(self) -> None:
        await anyio.sleep(_GOODBYE_SECONDS)
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
    # Where this name means ::1 first, clients that look at 127.0.0.1 would find nobody.
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

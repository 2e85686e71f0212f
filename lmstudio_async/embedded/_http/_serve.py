"""The server on a port."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread

from lmstudio_async._preload import preload
from lmstudio_async.embedded._connections._origins import check_host
from lmstudio_async.embedded._requirements import check_extra
from lmstudio_async.embedded._server import EmbeddedServer, clients_of
from lmstudio_async.errors import LMStudioOSError, LMStudioRuntimeError

__all__ = ["serve"]


async def serve(
    server: EmbeddedServer,
    host: str = "127.0.0.1",
    port: int = 1234,
    *,
    prepare: Callable[[], Awaitable[object]] | None = None,
    ready: Callable[[str, int], object] | None = None,
) -> None:
    """Listen at a port until Ctrl-C, SIGTERM or cancellation, then return. On asyncio only.

    It does for a program what ``lmsa serve`` does in a terminal. Handlers of the signals are set only in the main thread,
    and only while the server listens.

    :param server: the running server, inside its block.
    :param host: name or address to listen at. A server without ``api_tokens`` can only use an address of the loopback
        interface.
    :param port: port to listen at; 0 for any free one.
    :param prepare: awaited when the port is reserved and refuses connections yet, for work that clients shall find done,
        such as loads.
    :param ready: called with the host and the port when clients can connect.
    :raises LMStudioValueError: if other machines can reach the host and the server has no tokens.
    :raises LMStudioRuntimeError: if packages of the extra ``embedded`` are missing, or the program does not run on
        asyncio.
    :raises LMStudioOSError: if the server cannot listen at this host and port.

    ::

        async with EmbeddedServer("~/models") as server:
            await serve(server, port=1234, ready=lambda host, port: print(f"Serving at {host}:{port}"))
    """
    if not anyio.get_cancelled_exc_class().__module__.startswith("asyncio"):
        raise LMStudioRuntimeError("Listening at a port needs asyncio, because uvicorn does not run on trio.")
    await anyio.to_thread.run_sync(check_extra)
    check_host(host, has_tokens=clients_of(server).needs_tokens)
    await preload("embedded._http._port_runner")
    from lmstudio_async.embedded._http._port_runner import run_at

    listener = await anyio.to_thread.run_sync(_bind, host, port)
    try:
        actual_port = int(listener.getsockname()[1])
        if prepare is not None:
            await prepare()
        _listen(listener, host, actual_port)
        await run_at(listener, server, lambda: ready(host, actual_port) if ready else None)
    finally:
        listener.close()


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket that has the port, and refuses connections until it listens."""
    # Do not resolve this name: it may be ::1 first, and clients that connect to 127.0.0.1 would then find no server.
    place = "127.0.0.1" if host == "localhost" else host
    try:
        family, _, _, _, address = socket.getaddrinfo(
            place, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # Elsewhere this option would allow a second server at the port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address[:2])
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise _not_available(host, port, error) from error
    return listener


def _listen(listener: socket.socket, host: str, port: int) -> None:
    try:
        listener.listen(128)
    except OSError as error:
        # Another program that had reserved the port, too, was faster.
        raise _not_available(host, port, error) from error


def _not_available(host: str, port: int, error: OSError | OverflowError) -> LMStudioOSError:
    return LMStudioOSError(f"Cannot listen at {host}:{port}: {_why_not(error)}")


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

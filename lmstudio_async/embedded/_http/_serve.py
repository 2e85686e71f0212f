"""The server on a port."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread

from lmstudio_async._preload import preload
from lmstudio_async.embedded._connections._origins import check_form, check_host
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
    :raises LMStudioValueError: if the host is neither a name nor an address, or other machines can reach it and the
        server has no tokens.
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
    check_form(host)
    await preload("embedded._http._port_runner")
    from lmstudio_async.embedded._http._port_runner import run_at

    place = await anyio.to_thread.run_sync(_resolve, host, port)
    # Not before: a name that no machine has needs no token, but another name.
    check_host(host, has_tokens=clients_of(server).needs_tokens)
    listener = await anyio.to_thread.run_sync(_bind, host, port, place)
    try:
        actual_port = int(listener.getsockname()[1])
        if prepare is not None:
            await prepare()
        _listen(listener, host, actual_port)
        await run_at(listener, server, lambda: ready(host, actual_port) if ready else None)
    finally:
        listener.close()


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Return the address that a name has."""
    # Do not resolve this name: it may be ::1 first, and clients that connect to 127.0.0.1 would then find no server.
    name = "127.0.0.1" if host == "localhost" else host
    try:
        family, _, _, _, address = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise _not_available(host, port, error) from error
    return family, (str(address[0]), int(address[1]))


def _bind(host: str, port: int, place: tuple[socket.AddressFamily, tuple[str, int]]) -> socket.socket:
    """Return a socket that has the port, and refuses connections until it listens."""
    family, address = place
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # Elsewhere this option would allow a second server at the port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
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


def _not_available(host: str, port: int, error: OSError | UnicodeError | OverflowError) -> LMStudioOSError:
    return LMStudioOSError(f"Cannot listen at {host}:{port}: {_why_not(error)}")


def _why_not(error: OSError | UnicodeError | OverflowError) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return "no machine has this name. Give an address of this one: 127.0.0.1 is for itself alone."
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

"""Bare sockets to the embedded server, for bytes that no well-behaved client would send."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from httpx import Response

__all__ = [
    "CREDENTIALS",
    "answer",
    "frame",
    "other_end",
    "plain_socket",
    "raw_websocket",
    "read_frame",
    "upgrade",
    "upgraded",
]

CREDENTIALS = b'{"authVersion":1,"clientIdentifier":"guest:raw","clientPasskey":"b"}'


@contextmanager
def plain_socket(address: str, *data: bytes) -> Iterator[socket.socket]:
    """Connect, send this data, and yield the socket."""
    host, _, port = address.rpartition(":")
    with socket.socket() as connection:
        connection.settimeout(20)
        # A small buffer is soon full while the test does not read.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        for piece in data:
            connection.sendall(piece)
        yield connection


def upgrade(namespace: str, host: str = "localhost") -> bytes:
    """Return the HTTP request that opens a websocket."""
    return (
        f"GET /{namespace} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


@contextmanager
def raw_websocket(address: str, namespace: str = "system") -> Iterator[socket.socket]:
    """Open a websocket, authenticate, and yield its socket, over which a test can send any bytes."""
    with plain_socket(address, upgrade(namespace)) as connection:
        upgraded(connection)
        connection.sendall(frame(CREDENTIALS))
        assert read_frame(connection) == (1, b'{"success":true}')
        yield connection


def upgraded(connection: socket.socket) -> None:
    """Read the head of the response that accepts the websocket."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """Return a masked frame, as clients send it."""
    mask = b"mask"
    size = len(payload)
    if size < 126:
        length = struct.pack("!B", 0x80 | size)
    elif size < 1 << 16:
        length = struct.pack("!BH", 0x80 | 126, size)
    else:
        length = struct.pack("!BQ", 0x80 | 127, size)
    masked = bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask), strict=False))
    return struct.pack("!B", 0x80 * fin | opcode) + length + mask + masked


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    """Read the next frame from the server, and return its opcode and payload."""
    opcode, size = _exactly(connection, 2)
    if size == 126:
        (size,) = struct.unpack("!H", _exactly(connection, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", _exactly(connection, 8))
    return opcode & 15, _exactly(connection, size)


def answer(connection: socket.socket) -> Response:
    """Read until the server closes the connection, and return its HTTP response."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return Response(int(head.split()[1]), content=body)


def other_end(connection: socket.socket) -> socket.socket:
    """Return a duplicate of the other end of a connection whose ends are both in this process (Linux only)."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
        except OSError:
            continue  # closed meanwhile
        end = socket.socket(fileno=os.dup(int(name)))
        try:
            if end.getpeername() == connection.getsockname():
                return end
        except OSError:
            pass  # not connected
        end.close()
    raise AssertionError("this process has no other end of the connection")


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data

"""A server on a real socket, in threads of its own, with a fault in its first connection."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from tests.faults.faulty_server import ID, good_answers

__all__ = ["Peer", "SocketServer", "serve_well"]


class Peer:
    """The server's end of one connection. Any loss of the connection raises an ``EOFError``."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._frames = Connection(ConnectionType.SERVER)
        self._events: list[Any] = []
        self._text = ""

    def read_request(self) -> dict[str, str]:
        """Read the request for an upgrade; return its headers."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._read()
        lines = head.decode().split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def accept(self) -> None:
        """Accept the upgrade, and authenticate the client."""
        self.upgrade()
        self.answer(self.next_message())

    def upgrade(self) -> None:
        """Accept the upgrade."""
        key = self.read_request()["sec-websocket-key"].encode()
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.socket.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )

    def next_message(self) -> dict[str, Any]:
        while True:
            while not self._events:
                self._frames.receive_data(self._read())
                self._events.extend(self._frames.events())
            event = self._events.pop(0)
            if isinstance(event, CloseConnection):
                raise EOFError  # noqa: TRY004 - the end of the connection, not a wrong type
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    text, self._text = self._text, ""
                    message: dict[str, Any] = json.loads(text)
                    return message

    def ping(self, payload: bytes) -> None:
        self.socket.sendall(bytes(self._frames.send(Ping(payload))))

    def wait_for_pong(self, payload: bytes) -> None:
        """Wait for the pong to a ping; only pongs to earlier pings may come before it."""
        while True:
            while not self._events:
                self._frames.receive_data(self._read())
                self._events.extend(self._frames.events())
            event = self._events.pop(0)
            assert isinstance(event, Pong), event
            if event.payload == payload:
                return

    def say(self, text: str) -> None:
        """Send a text frame, of any size."""
        data = text.encode()
        size = len(data)
        short, long = struct.pack(">BB", 0x81, min(size, 126)), struct.pack(">BBQ", 0x81, 127, size)
        self.socket.sendall(
            (long if size > 0xFFFF else short + struct.pack(">H", size) * (size > 125)) + data
        )

    def answer(self, message: dict[str, Any]) -> None:
        """Send the response of a correct server."""
        number = message.get("callId", message.get("channelId"))
        for line in good_answers(message):
            self.say(json.dumps({key: number if value is ID else value for key, value in line.items()}))

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame."""
        self.socket.sendall(bytes(self._frames.send(CloseConnection(code, reason))))

    def reset(self) -> None:
        """Reset the TCP connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise EOFError

    def wait_until_left(self) -> None:
        while True:
            self._read()

    def _read(self) -> bytes:
        try:
            data = self.socket.recv(65536)
        except OSError:
            raise EOFError from None
        if not data:
            raise EOFError
        return data


class SocketServer:
    """Serves until the end of its block.

    :param fault: the function that serves the faulty connections.
    :param port: the port that it listens on; 0 for any free one.
    :param host: the address that it listens on.
    :param tls: the TLS context with its certificate; None for a server without TLS.
    :param faulty_connections: the number of connections that `fault` serves before the correct ones.
    """

    def __init__(
        self,
        fault: Callable[[Peer], object],
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        faulty_connections: float = 1,
    ) -> None:
        self.connections = 0
        self._faulty_connections = faulty_connections
        self._closing = False
        self._fault = fault
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen)]

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def api_host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Cut all connections, and stop listening. Idempotent."""
        if self._closing:
            return
        # Connect, because nothing else wakes a thread that waits in `accept` on every platform.
        self._closing = True
        with socket.create_connection(self._listener.getsockname()[:2]):
            self._threads[0].join(10)
        self._listener.close()
        for connection in self._open:
            try:
                # Bypass `SSLSocket.shutdown`, because it would take the socket apart while its thread uses it.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _listen(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closing:
                connection.close()
                return
            if self._tls is not None:
                connection = self._tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            self._open.append(connection)
            self.connections += 1
            serve = self._fault if self.connections <= self._faulty_connections else serve_well
            self._threads.append(threading.Thread(target=self._run, args=(connection, serve)))
            self._threads[-1].start()

    def _run(self, connection: socket.socket, serve: Callable[[Peer], object]) -> None:
        with connection:
            try:
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
                serve(Peer(connection))
            except (EOFError, OSError):
                pass


def serve_well(peer: Peer) -> None:
    """Serve a connection without a fault."""
    peer.accept()
    while True:
        peer.answer(peer.next_message())

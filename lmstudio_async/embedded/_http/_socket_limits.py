"""uvicorn's two connection classes, with timeouts and limits, so that no client can keep a connection open forever."""

from __future__ import annotations

import json
import os
import socket
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.events import CloseConnection, Ping

from lmstudio_async.embedded._limits import ServerLimits
from lmstudio_async.embedded._timing import ServerTiming

__all__ = ["limited"]

#: Seconds for a client to read the remaining data when its connection ends, and when the server shuts down.
_CLOSE_SECONDS = 2
_SHUTDOWN_SECONDS = 1
#: Seconds for a client to answer a ping: long, because it may be stopped in a debugger.
_PONG_SECONDS = 60
#: Bytes that a websocket may send before its client is authenticated: credentials have two keys of 256 characters.
_UNAUTHENTICATED_BYTES = 1 << 15
#: Bytes that are parsed before the first check of the time.
_FIRST_PIECE_BYTES = 1 << 10


class _HttpConnection(H11Protocol):
    """An HTTP connection that is closed if the client does not send a request in time."""

    limits: ClassVar[ServerLimits]
    _too_late: Any = None
    _unread: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # asyncio sets TCP_NODELAY only for sockets with a protocol number, which `create_server` leaves at 0.
        accepted = transport.get_extra_info("socket")
        if accepted is not None and accepted.family in (socket.AF_INET, socket.AF_INET6):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # This number includes websockets, and connections that have not authenticated yet.
        if len(self.connections) > 2 * self.limits.connections:
            transport.write(
                _http_error_bytes(503, "Service Unavailable", "This server has too many connections.")
            )
            transport.close()
            return
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        before = self.scope
        super().data_received(data)
        if self.scope is not before:
            self._expect_nothing()

    def on_response_complete(self) -> None:
        before = self.scope
        super().on_response_complete()
        if self.scope is before and not self.transport.is_closing():
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def _expect_request(self) -> None:
        self._expect_nothing()
        self._too_late = self.loop.call_later(self.limits.authentication_seconds, self._refuse_late)

    def _expect_nothing(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()

    def _refuse_late(self) -> None:
        self.transport.write(_http_error_bytes(408, "Request Timeout", "The request took too long."))
        self.transport.close()


class _WebSocket(WSProtocol):
    """A websocket whose transport is closed soon after its end, even if its client reads nothing any more."""

    limits: ClassVar[ServerLimits]
    #: Seconds of parsing before other connections get their turn: one read may return 40,000 frames without content.
    turn_seconds: ClassVar[float]
    _is_upgraded = False
    _is_admitted = False
    _unauthenticated_bytes = 0
    _parsing: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._unparsed = bytearray()

    def data_received(self, data: bytes) -> None:
        if not self._is_upgraded:
            self._is_upgraded = True
            try:
                super().data_received(data)
            except UnicodeError:
                # Handle the error here: asyncio would close the transport without a call of this protocol's
                # `connection_lost`, and the server would count the connection forever.
                self.transport.write(
                    _http_error_bytes(
                        400, "Bad Request", "A header is not ASCII text, or Host is not a valid name."
                    )
                )
                self.transport.close()
            return
        self._unparsed += data
        if self._parsing is None:
            self._parse()

    def _parse(self) -> None:
        """Parse received bytes for one turn of the event loop; pause reading until all of them are parsed."""
        self._parsing = None
        turn_ends = self.loop.time() + self.turn_seconds
        size = _FIRST_PIECE_BYTES
        # `read_paused` means that a complete message waits for the app, which authenticates the client first.
        while self._unparsed and not self.read_paused and not self.transport.is_closing():
            piece = bytes(self._unparsed[:size])
            del self._unparsed[:size]
            # Double the size, so that the next piece takes about as long as all pieces before it together.
            size *= 2
            if not self._is_admitted:
                self._unauthenticated_bytes += len(piece)
                if self._unauthenticated_bytes > _UNAUTHENTICATED_BYTES:
                    self._refuse_unauthenticated()
                    return
            super().data_received(piece)
            if self.loop.time() >= turn_ends and not self.read_paused:
                self._parse_soon()
                break
        if self._unparsed:
            self.transport.pause_reading()
        elif not self.read_paused:
            self.transport.resume_reading()

    def _parse_soon(self) -> None:
        if self._parsing is None:
            self._parsing = self.loop.call_soon(self._parse)

    def _refuse_unauthenticated(self) -> None:
        reason = f"More than {_UNAUTHENTICATED_BYTES} bytes came before the credentials"
        self._unparsed.clear()
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1008, "reason": reason})
        self.transport.write(self.conn.send(CloseConnection(code=1008, reason=reason)))
        self.transport.close()

    async def receive(self) -> Any:
        self._read_on()
        message = await self.queue.get()
        # Do not read beyond the credentials until the client is authenticated.
        if self._is_admitted:
            self._read_on()
        return message

    def _read_on(self) -> None:
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            if self._unparsed:
                self._parse_soon()
            else:
                self.transport.resume_reading()

    async def send(self, message: Any) -> None:
        # The first message of the server is the result of authentication. After a failure it closes the connection.
        self._is_admitted |= message["type"] == "websocket.send"
        await super().send(message)
        if self.close_sent and self._unparsed:
            # The unparsed bytes may contain the reply to the close frame.
            self._parse_soon()

    def handle_ping(self, event: Ping) -> None:
        super().handle_ping(event)
        # Limit the pongs here, because no other code applies backpressure to them.
        if self.transport.get_write_buffer_size() > self.limits.unread_bytes:
            self.transport.abort()

    def send_keepalive_ping(self) -> None:
        """Do the same as uvicorn, but draw no number from the `random` module, which programs seed."""
        self.ping_timer = None
        if not self.close_sent and not self.transport.is_closing():
            self.pending_ping_payload = os.urandom(4)
            self.ping_sent_at = self.loop.time()
            self.transport.write(self.conn.send(Ping(payload=self.pending_ping_payload)))
            self.pong_timer = self.loop.call_later(_PONG_SECONDS, self.keepalive_timeout)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._end(_CLOSE_SECONDS)

    def shutdown(self) -> None:
        super().shutdown()
        self._end(_SHUTDOWN_SECONDS)

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._end(_CLOSE_SECONDS)

    def _end(self, seconds: float) -> None:
        """Abort the transport after a timeout, because a closed transport stays open until all its data is sent."""
        if not self.disconnected:
            self.loop.call_later(seconds, self.transport.abort)


def limited(limits: ServerLimits, timing: ServerTiming) -> dict[str, Any]:
    """Return the settings of uvicorn for connections with these limits and durations."""
    http = type("_HttpConnection", (_HttpConnection,), {"limits": limits})
    ws = type("_WebSocket", (_WebSocket,), {"limits": limits, "turn_seconds": timing.turn_seconds})
    return {
        "http": http,
        "ws": ws,
        "ws_max_size": limits.message_bytes,
        "ws_ping_interval": timing.ping_seconds,
    }


def _http_error_bytes(status: int, phrase: str, message: str) -> bytes:
    body = json.dumps({"error": {"type": "invalid_request", "message": message}}).encode()
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body

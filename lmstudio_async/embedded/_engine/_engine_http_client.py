"""HTTP client for a worker: one connection for each request, closed when the response is complete or abandoned.

It does not use httpx, whose bodies are async generators: trio warns whenever one of them is not read to its end.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.abc
import h11

__all__ = ["EngineConnectionLost", "EngineHttpClient", "EngineRequestError", "Exchange", "request_error"]


class EngineRequestError(Exception):
    """The engine refused one request, and still runs.

    :param status: the HTTP status, such as 400.
    :param type: the engine's name for the reason, such as ``exceed_context_size_error``.
    :param message: the engine's error message for a human reader.
    :param details: the whole error object, which may have numbers such as ``n_prompt_tokens``.
    """

    def __init__(self, status: int, type: str, message: str, details: Mapping[str, Any]) -> None:  # noqa: A002
        super().__init__(message)
        self.status = status
        self.type = type
        self.message = message
        self.details = details

    @property
    def context_is_full(self) -> bool:
        """Whether the context, which concurrent requests share, had no space for another token of this request."""
        return "Context size has been exceeded" in self.message


class EngineConnectionLost(Exception):
    """The connection failed, or ended before the response was complete."""


class EngineHttpClient:
    """HTTP client for one worker.

    :param address: ``http://<host>:<port>``.
    :param api_key: the key that the worker's HTTP server requires.
    :ivar waiting: the number of tasks that wait for the worker at this moment. An exchange whose reader pauses does not
        count.
    :ivar heard: the number of pieces of responses that were received so far.
    """

    def __init__(self, address: str, api_key: str) -> None:
        self.waiting = 0
        self.heard = 0
        self._address = address
        self._api_key = api_key
        self._exchanges: set[Exchange] = set()
        self._used = anyio.Event()
        self._headers = [
            ("Host", "engine"),
            ("Authorization", f"Bearer {api_key}"),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
        ]

    async def open(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        """Send a request and wait for the head of its response.

        :raises EngineRequestError: if the status of the response is not 200.
        :raises EngineConnectionLost: if there is no response.
        :raises OSError: if this process can open no more connections.
        """
        content = b"" if body is None else json.dumps(body).encode()
        http = h11.Connection(h11.CLIENT)
        head = h11.Request(
            method=method, target=path, headers=[*self._headers, ("Content-Length", str(len(content)))]
        )
        outgoing = b"".join(
            http.send(part) or b"" for part in (head, h11.Data(data=content), h11.EndOfMessage())
        )
        with self.counted_as_waiting():
            socket = await self._connect()
        exchange = Exchange(self, socket, http)
        try:
            status = await exchange.begin(outgoing)
            if status == 200:
                return exchange
            error = request_error(status, await exchange.read())
        except BaseException:
            await exchange.aclose()
            raise
        await exchange.aclose()
        raise error

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return the JSON object of its response. Raises the same errors as :meth:`open`."""
        exchange = await self.open(method, path, body)
        try:
            content = await exchange.read()
        finally:
            await exchange.aclose()
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise request_error(200, content)
        return answer

    async def answers(self) -> bool:
        """Return whether the worker's HTTP server answers. This request is not counted in ``waiting`` and ``heard``.

        :raises OSError: if this process can open no more connections.
        """
        apart = EngineHttpClient(self._address, self._api_key)
        try:
            await apart.call("GET", "/health")
        except (EngineConnectionLost, EngineRequestError):
            return False
        return True

    async def aclose(self) -> None:
        """Close all connections, so that `EngineConnectionLost` is raised in every task that waits on one of them."""
        for exchange in tuple(self._exchanges):
            await exchange.aclose()

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits for the worker at this moment."""
        return self.waiting > 0

    async def wait_used(self) -> None:
        """Wait until there is a request."""
        while not self._exchanges and not self.waiting:
            self._used = anyio.Event()
            await self._used.wait()

    @contextmanager
    def counted_as_waiting(self) -> Iterator[None]:
        """Count the block as a wait for the worker."""
        self.waiting += 1
        self._used.set()
        try:
            yield
        finally:
            self.waiting -= 1

    def opened(self, exchange: Exchange) -> None:
        """Register a new connection."""
        self._exchanges.add(exchange)
        self._used.set()

    def closed(self, exchange: Exchange) -> None:
        """Forget a connection."""
        self._exchanges.discard(exchange)

    async def _connect(self) -> anyio.abc.SocketStream:
        try:
            # No timeout is needed, because the monitor of the worker kills it if it stalls.
            host, _, port = self._address.rpartition("//")[2].partition(":")
            return await anyio.connect_tcp(host, int(port))
        except (OSError, anyio.BrokenResourceError) as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
                # This process has run out of file descriptors; the worker still runs.
                raise cause from None
            raise EngineConnectionLost(str(error)) from error


class Exchange:
    """One HTTP request, and its response, whose body is read piece by piece."""

    def __init__(
        self, client: EngineHttpClient, socket: anyio.abc.SocketStream, http: h11.Connection
    ) -> None:
        self._client = client
        self._socket = socket
        self._http = http
        self._chunks: _Chunks | None = None
        client.opened(self)

    async def begin(self, request: bytes) -> int:
        """Send the request, and return the status of the response."""
        try:
            with self._client.counted_as_waiting():
                await self._socket.send(request)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise EngineConnectionLost("the connection was lost") from error
        event = await self._next_event()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next_event()
        if not isinstance(event, h11.Response):
            raise EngineConnectionLost("the connection ended without an answer")
        if (b"transfer-encoding", b"chunked") in event.headers:
            self._chunks = _Chunks(self._http.trailing_data[0])
        return event.status_code

    async def receive(self) -> bytes | None:
        """Return the next piece of the body, ``None`` at its end.

        :raises EngineConnectionLost: if the connection ends before the body does.
        """
        if self._chunks is not None:
            return await self._next_chunks(self._chunks)
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def read(self) -> bytes:
        """Return the rest of the body."""
        pieces = []
        while (piece := await self.receive()) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Close the connection; the engine stops working for it. Idempotent, shielded, bounded in time."""
        self._client.closed(self)
        with anyio.move_on_after(2, shield=True):
            await self._socket.aclose()

    async def _next_chunks(self, chunks: _Chunks) -> bytes | None:
        try:
            while not (content := chunks.take()):
                if chunks.ended:
                    return None
                chunks.feed(await self._receive())
        except (ValueError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise EngineConnectionLost("the connection was lost") from error
        return content

    async def _receive(self) -> bytes:
        client = self._client
        client.waiting += 1
        try:
            data = await self._socket.receive()
        finally:
            client.waiting -= 1
        client.heard += 1
        return data

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        try:
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event  # type: ignore[return-value]
                try:
                    data = await self._receive()
                except anyio.EndOfStream:
                    data = b""
                self._http.receive_data(data)
        except (h11.RemoteProtocolError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise EngineConnectionLost("the connection was lost") from error


class _Chunks:
    """Decoder of a body with chunked transfer encoding, which streamed responses have.

    It replaces that of h11, which takes a sixth of the server's time for a token.

    :param data: the bytes of the body that were received already.
    :ivar ended: whether the last chunk was taken.
    """

    def __init__(self, data: bytes) -> None:
        self.ended = False
        self._data = data

    def feed(self, data: bytes) -> None:
        self._data += data

    def take(self) -> bytes:
        """Return the content of all chunks that were received completely.

        :raises ValueError: if the body is not chunked.
        """
        data, at, contents = self._data, 0, []
        while not self.ended and (head_end := data.find(b"\r\n", at)) >= 0:
            begin = head_end + 2
            end = begin + int(data[at:head_end].partition(b";")[0], 16)
            if end == begin:
                self.ended = True
            elif len(data) < end + 2:
                break
            contents.append(data[begin:end])
            at = end + 2
        self._data = data[at:]
        return b"".join(contents)


def request_error(status: int, content: bytes | Mapping[str, Any]) -> EngineRequestError:
    """Make an error of a response, even if its body does not have the form of the engine's errors."""
    try:
        answer = json.loads(content) if isinstance(content, bytes) else content
        error = answer["error"]
        return EngineRequestError(
            int(error.get("code", status)),
            str(error.get("type", "server_error")),
            str(error["message"]),
            error,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        message = f"The engine answered with status {status}: {text[:500]}"
        return EngineRequestError(status, "server_error", message, {})

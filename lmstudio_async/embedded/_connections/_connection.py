"""One client's connection to one namespace: authentication, requests, and the tasks that handle them."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import anyio
import anyio.abc

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._protocol._server_side import (
    Call,
    ChannelDropped,
    ChannelOpened,
    Packet,
    Request,
    Serving,
    authentication_response,
    read_authentication,
)
from lmstudio_async._time_limit import stood_still_since
from lmstudio_async._transport import FrameTransport
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded._connections._clients import Client, Clients
from lmstudio_async.embedded._connections._refused_endpoints import unsupported_endpoint
from lmstudio_async.embedded._engine._engine_errors import explain
from lmstudio_async.embedded._limits import ServerLimits
from lmstudio_async.embedded._timing import DEFAULT_TIMING, ServerTiming
from lmstudio_async.errors import LMStudioError, LMStudioWebsocketError

__all__ = ["Channel", "Connection", "Handlers"]

logger = logging.getLogger("lmstudio_async.embedded")

#: Unsent frames up to which the handlers of a slow client go on without waiting.
_UNSENT = 64
#: Bytes that a frame takes in memory, besides its text.
_FRAME_BYTES = 64
#: Characters up to which a frame is parsed before authentication. Credentials are two keys of 256 characters.
_LONGEST_CREDENTIALS = 1 << 14
#: Frames before the credentials that are ignored; one more ends the connection.
_IGNORED_FRAMES = 64
#: Packets of a client that may wait for the handler of their channel: more than any regular client sends at once.
_UNREAD = 100
#: Tags of the packets with which a client cancels an operation.
_ENDINGS = frozenset({"cancel", "stop", "cancelPlan", "cancelDownload"})

#: Makes the object whose methods handle the endpoints of a namespace. A method has the endpoint's name in snake_case:
#: for a call it is ``async def (parameter) -> result``, for a channel ``async def (creation, channel) -> None``.
Handlers = Callable[[str, Client], Awaitable[object]]


class Channel:
    """A channel for its handler. The handler closes it by returning, or ends it with an error by raising.

    :ivar cancelled: set when the client cancels the operation (``cancel``, ``stop`` and the like).
    """

    def __init__(self, channel_id: int, connection: Connection) -> None:
        self.cancelled = anyio.Event()
        self.handler_scope = anyio.CancelScope()
        self._id = channel_id
        self._connection = connection
        self._dropped = False
        self._last_sent = anyio.current_time()
        self._repeated: WireObject | None = None
        self._is_well: Callable[[], bool] | None = None
        self._unread: deque[WireObject] = deque()
        self._has_unread = anyio.Event()

    def post(self, packet: WireObject) -> None:
        """Queue a packet without waiting for a slow client, for callers that must not wait."""
        self._last_sent = anyio.current_time()
        if not self._dropped:
            self._connection.post(self._connection.serving.packet(self._id, packet))

    async def send(self, packet: WireObject) -> None:
        """Send a packet. Backpressure: wait while a slow client has too many unsent frames."""
        self.post(packet)
        await self._connection.drain()

    def repeat_when_silent(self, packet: WireObject | None) -> None:
        """Set the packet to repeat while nothing else is sent, so that the client does not time out; None for none."""
        self._repeated = packet

    def repeat_only_while(self, is_well: Callable[[], bool]) -> None:
        """Repeat packets only while ``is_well`` returns true, so that the client times out otherwise."""
        self._is_well = is_well

    @contextmanager
    def cancellable(self, *events: anyio.Event) -> Iterator[anyio.CancelScope]:
        """Run the block in a scope that is cancelled when the client cancels, or when one of the events is set."""
        with anyio.CancelScope() as scope:
            watches = [self._connection.watch(event, scope) for event in (self.cancelled, *events)]
            try:
                yield scope
            finally:
                for watch in watches:
                    watch.cancel()

    async def next_packet(self) -> WireObject:
        """Wait for the client's next packet, other than one that cancels."""
        while not self._unread:
            await self._has_unread.wait()
            self._has_unread = anyio.Event()
        return self._unread.popleft()

    def receive(self, packet: WireObject) -> None:
        """Process a packet of the client: queue it for the handler, or cancel."""
        if packet.TAG in _ENDINGS:
            self.cancelled.set()
        elif len(self._unread) < _UNREAD:
            self._unread.append(packet)
            self._has_unread.set()
        else:
            self.end(server_error(f"More than {_UNREAD} packets wait to be read on this channel."))
            self.drop()

    def break_silence(self) -> None:
        """Repeat the packet of `repeat_when_silent` if nothing was sent for `progress_seconds`."""
        seconds = self._connection.timing.progress_seconds
        if self._repeated is None or anyio.current_time() - self._last_sent <= seconds:
            return
        if self._is_well is None or self._is_well():
            self.post(self._repeated)

    def drop(self) -> None:
        """Cancel the handler of a channel that is already closed for the client."""
        self._dropped = True
        self.handler_scope.cancel()

    def end(self, error: Exception | None) -> None:
        """Close the channel for the client, with an error if there is one."""
        if not self._dropped:
            self._connection.post(self._connection.serving.close(self._id, error))


class Connection:
    """Server side of one transport, from its authentication until the client disconnects or the task is cancelled.

    :ivar serving: the state of the protocol.
    :ivar timing: the durations of the server.
    """

    def __init__(
        self,
        transport: FrameTransport,
        namespace: str,
        clients: Clients,
        handlers: Handlers,
        limits: ServerLimits,
        timing: ServerTiming = DEFAULT_TIMING,
    ) -> None:
        self.timing = timing
        self.serving = Serving(namespace)
        self._limits = limits
        self._transport = transport
        self._namespace = namespace
        self._clients = clients
        self._make_handlers = handlers
        self._channels: dict[int, Channel] = {}
        self._calls = 0
        self._waiting: deque[tuple[Call, int]] = deque()
        self._waiting_bytes = 0
        self._unsent: deque[str] = deque()
        self._unsent_bytes = 0
        self._sent = 0
        self._wake_writer = anyio.Event()
        # Created only when a handler has to wait, which is rare.
        self._drained: anyio.Event | None = None

    async def run(self) -> None:
        """Serve the client. All tasks of the connection end before this returns."""
        client = None
        try:
            client, frames = await self._authenticate()
            if client is not None:
                await self._serve(client, frames)
        except LMStudioWebsocketError:
            pass
        except Exception:
            # Caught here, so that a fault in one connection does not end the other ones and the models.
            logger.exception("%s: the connection broke by a fault of this server", self._namespace)
        finally:
            if client is not None:
                self._clients.release(client)
            await self._transport.aclose()

    async def _authenticate(self) -> tuple[Client | None, list[str]]:
        """Return the client, None if it is refused, and the frames that it sent after its credentials."""
        ignored = 0
        with anyio.move_on_after(self._limits.authentication_seconds):
            while True:
                frames = list(await self._transport.receive())
                while frames:
                    frame = frames.pop(0)
                    credentials = read_authentication(frame) if len(frame) <= _LONGEST_CREDENTIALS else None
                    if credentials is None:
                        ignored += 1
                        if ignored > _IGNORED_FRAMES:
                            await self._transport.send(
                                authentication_response("None of the first frames were credentials")
                            )
                            return None, []
                        if ignored == 1:
                            logger.warning("%s: frames before the credentials are ignored", self._namespace)
                        continue
                    admitted = self._clients.admit(credentials)
                    if isinstance(admitted, str):
                        logger.warning("%s: refused: %s", self._namespace, admitted)
                        await self._transport.send(authentication_response(admitted))
                        return None, []
                    self.post(authentication_response())
                    return admitted, frames
        await self._transport.send(authentication_response("Authentication timed out"))
        return None, []

    async def _serve(self, client: Client, frames: list[str]) -> None:
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._write)
            self._tasks.start_soon(self._break_silence)
            self._tasks.start_soon(self._watch_reading)
            try:
                # This imports modules. `_write` runs already, so that the client is not kept waiting for its response.
                handlers = await self._make_handlers(self._namespace, client)
                while True:
                    for frame in frames:
                        self._dispatch(self.serving.receive(frame), len(frame), handlers)
                        if replies := self.serving.take_replies():
                            for reply in replies:
                                self.post(reply)
                            # Backpressure: stop reading requests while the client does not read replies.
                            await self.drain()
                    frames = list(await self._transport.receive())
            except LMStudioWebsocketError:
                # The client has disconnected, so no task of the connection is needed any more.
                self._tasks.cancel_scope.cancel()

    def _dispatch(self, request: Request | None, size: int, handlers: object) -> None:
        match request:
            case Call() if self._calls < self._limits.calls:
                self._calls += 1
                self._tasks.start_soon(self._answer, request, handlers)
            case Call():
                self._queue_call(request, size + _FRAME_BYTES)
            case ChannelOpened() if len(self._channels) >= self._limits.channels:
                error = server_error(
                    f"This connection has {len(self._channels)} channels open, and no more are allowed.",
                    "Wait until some of its loads, predictions or other operations have ended.",
                )
                self.post(self.serving.close(request.channel_id, error))
            case ChannelOpened():
                channel = self._channels[request.channel_id] = Channel(request.channel_id, self)
                self._tasks.start_soon(self._run_channel, request, channel, handlers)
            # While a connection is being closed, `serving` still knows channels whose handlers have ended.
            case Packet() if request.channel_id in self._channels:
                self._channels[request.channel_id].receive(request.packet)
            case ChannelDropped() if request.channel_id in self._channels:
                self._channels.pop(request.channel_id).drop()

    def _queue_call(self, call: Call, size: int) -> None:
        """Queue the call until a slot is free. Keep reading meanwhile, or a disconnect would go unnoticed."""
        if self._waiting_bytes + size > self._limits.waiting_bytes:
            error = server_error(
                f"{len(self._waiting)} calls wait for their turn on this connection, and no more are allowed.",
                "Wait for some answers first.",
            )
            self.post(self.serving.call_failed(call, error))
        else:
            self._waiting_bytes += size
            self._waiting.append((call, size))

    async def _answer(self, call: Call, handlers: object) -> None:
        """Answer a call, and then the queued ones."""
        while True:
            try:
                result = await self._handler(handlers, call.endpoint.name)(call.parameter)
                frame = self.serving.result(call, result)
            except Exception as error:  # noqa: BLE001 - the client waits for an answer, also after an unexpected error
                frame = self.serving.call_failed(call, self._explained(error, call.endpoint.name))
            self.post(frame)
            await self.drain()
            if not self._waiting:
                break
            call, size = self._waiting.popleft()
            self._waiting_bytes -= size
        self._calls -= 1

    async def _run_channel(self, request: ChannelOpened, channel: Channel, handlers: object) -> None:
        failure = None
        try:
            with channel.handler_scope:
                await self._handler(handlers, request.endpoint.name)(request.creation, channel)
        except Exception as error:  # noqa: BLE001 - likewise
            failure = self._explained(error, request.endpoint.name)
        finally:
            if self._channels.get(request.channel_id) is channel:
                del self._channels[request.channel_id]
        channel.end(failure)

    def _handler(self, handlers: object, endpoint: str) -> Callable[..., Awaitable[Any]]:
        handler = getattr(handlers, _snake(endpoint), None)
        if handler is None:
            raise unsupported_endpoint(self._namespace, endpoint)
        return handler  # type: ignore[no-any-return]

    def _explained(self, error: Exception, endpoint: str) -> Exception:
        explained = explain(error)
        if not isinstance(explained, LMStudioError):
            logger.error("%s.%s failed", self._namespace, endpoint, exc_info=error)
        return explained

    def watch(self, event: anyio.Event, scope: anyio.CancelScope) -> anyio.CancelScope:
        """Cancel a scope when an event happens; cancel the scope returned to stop watching."""
        watch = anyio.CancelScope()
        if event.is_set():
            scope.cancel()
        else:
            self._tasks.start_soon(_cancel_at, event, scope, watch)
        return watch

    def post(self, frame: str | None) -> None:
        """Queue a frame for the writer task; disconnect a client that leaves too much unread."""
        if frame is not None:
            if self._unsent_bytes > self._limits.unread_bytes:
                self._give_up(f"it leaves {self._unsent_bytes} bytes unread")
            self._unsent_bytes += len(frame) + _FRAME_BYTES
            self._unsent.append(frame)
            self._wake_writer.set()

    async def drain(self) -> None:
        """Wait while more than `_UNSENT` frames are unsent."""
        while len(self._unsent) > _UNSENT:
            if self._drained is None:
                self._drained = anyio.Event()
            await self._drained.wait()

    async def _write(self) -> None:
        try:
            while True:
                while self._unsent:
                    frame = self._unsent.popleft()
                    await self._transport.send(frame)
                    self._unsent_bytes -= len(frame) + _FRAME_BYTES
                    self._sent += 1
                if self._drained is not None:
                    self._drained.set()
                    self._drained = None
                await self._wake_writer.wait()
                self._wake_writer = anyio.Event()
        except LMStudioWebsocketError:
            self._tasks.cancel_scope.cancel()

    async def _break_silence(self) -> None:
        while True:
            await anyio.sleep(self.timing.progress_seconds / 3)
            for channel in self._channels.values():
                channel.break_silence()

    async def _watch_reading(self) -> None:
        while True:
            waiting, sent = self._unsent_bytes, self._sent
            limit = anyio.current_time() + self._limits.unread_seconds
            await anyio.sleep_until(limit)
            if waiting and self._sent == sent and not stood_still_since(limit):
                self._give_up(f"it has read nothing for {self._limits.unread_seconds:g} seconds")

    def _give_up(self, reason: str) -> None:
        """Disconnect a client that does not read."""
        if not self._tasks.cancel_scope.cancel_called:
            logger.warning("%s: a client was disconnected: %s", self._namespace, reason)
            self._tasks.cancel_scope.cancel()


async def _cancel_at(event: anyio.Event, scope: anyio.CancelScope, watch: anyio.CancelScope) -> None:
    with watch:
        await event.wait()
        scope.cancel()


@cache
def _snake(name: str) -> str:
    """``getOrLoad`` -> ``get_or_load``."""
    return re.sub(r"(?=[A-Z])", "_", name).lower()

"""One client's connection to one namespace: who it is, what it asks, and the tasks that work on that."""

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
from lmstudio_async._protocol._serving import (
    Call,
    ChannelDropped,
    ChannelOpened,
    Packet,
    Request,
    Serving,
    authentication,
    verdict,
)
from lmstudio_async._time_limit import stood_still_since
from lmstudio_async._transport import FrameTransport
from lmstudio_async._wire._struct import WireObject
from lmstudio_async.embedded._clients import Client, Clients
from lmstudio_async.embedded._failures import explain
from lmstudio_async.embedded._limits import ServerLimits
from lmstudio_async.embedded._refusals import refusal
from lmstudio_async.errors import LMStudioError, LMStudioWebsocketError

__all__ = ["Channel", "Connection", "Handlers"]

logger = logging.getLogger("lmstudio_async.embedded")

#: A published client gives an operation up after 60 silent seconds.
_SILENCE_SECONDS = 15
#: Frames that may wait for a slow client before its handlers wait for it.
_UNSENT = 64
#: What a frame in memory takes besides its text.
_FRAME_BYTES = 64
#: Credentials are two keys of 256 characters; nothing that is much longer is looked at before somebody is let in.
_LONGEST_CREDENTIALS = 1 << 14
#: Frames before the credentials that are ignored; one more ends the connection.
_IGNORED_FRAMES = 64
#: Packets of a client that may wait for the handler of their channel. Nobody asks for so much at once.
_UNREAD = 100
#: What a client says when it wants no more.
_ENDINGS = frozenset({"cancel", "stop", "cancelPlan", "cancelDownload"})

#: Makes the object whose methods answer a namespace's endpoints. They are named like them, in snake_case:
#: a call's is ``async def (parameter) -> result``, a channel's ``async def (creation, channel) -> None``.
Handlers = Callable[[str, Client], Awaitable[object]]


class Channel:
    """A channel, as its handler sees it: its return closes the channel, what it raises ends it with an error.

    :ivar cancelled: set when the client wants no more (``cancel``, ``stop`` and the like).
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
        """Send without waiting for a slow client: for callers that must not wait."""
        self._last_sent = anyio.current_time()
        if not self._dropped:
            self._connection.post(self._connection.serving.packet(self._id, packet))

    async def send(self, packet: WireObject) -> None:
        """Send; a client that reads slowly slows the sender down."""
        self.post(packet)
        await self._connection.wait_for_room()

    def repeat_when_silent(self, packet: WireObject | None) -> None:
        """What to send when there was nothing else for long, so that the client knows that all is well."""
        self._repeated = packet

    def repeat_only_while(self, is_well: Callable[[], bool]) -> None:
        """Repeat nothing while this is false, so that the client notices."""
        self._is_well = is_well

    @contextmanager
    def cancellable(self, *events: anyio.Event) -> Iterator[anyio.CancelScope]:
        """A scope that is cancelled when the client wants no more, or when one of the events happens."""
        with anyio.CancelScope() as scope:
            watches = [self._connection.watch(event, scope) for event in (self.cancelled, *events)]
            try:
                yield scope
            finally:
                for watch in watches:
                    watch.cancel()

    async def next_packet(self) -> WireObject:
        """What the client says next, other than that it wants no more."""
        while not self._unread:
            await self._has_unread.wait()
            self._has_unread = anyio.Event()
        return self._unread.popleft()

    def receive(self, packet: WireObject) -> None:
        """Take what the client sent."""
        if packet.TAG in _ENDINGS:
            self.cancelled.set()
        elif len(self._unread) < _UNREAD:
            self._unread.append(packet)
            self._has_unread.set()
        else:
            self.end(server_error(f"More than {_UNREAD} packets wait to be read on this channel."))
            self.drop()

    def break_silence(self) -> None:
        """Say something if nothing was said for long."""
        if self._repeated is None or anyio.current_time() - self._last_sent <= _SILENCE_SECONDS:
            return
        if self._is_well is None or self._is_well():
            self.post(self._repeated)

    def drop(self) -> None:
        """End the handler; the client was told already."""
        self._dropped = True
        self.handler_scope.cancel()

    def end(self, error: Exception | None) -> None:
        """Tell the client that this is the end, and why if it is a bad one."""
        if not self._dropped:
            self._connection.post(self._connection.serving.close(self._id, error))


class Connection:
    """Serves one transport until its other side goes, or the task is cancelled.

    :ivar serving: the protocol's state.
    """

    def __init__(
        self,
        transport: FrameTransport,
        namespace: str,
        clients: Clients,
        handlers: Handlers,
        limits: ServerLimits,
    ) -> None:
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
        # Made by whoever has to wait, which is seldom.
        self._room: anyio.Event | None = None

    async def run(self) -> None:
        """Serve. Every task that works for the client ends with this."""
        client = None
        try:
            client, frames = await self._authenticate()
            if client is not None:
                await self._serve(client, frames)
        except LMStudioWebsocketError:
            pass
        except Exception:
            # Whatever it is, it is this connection's: the others and the models carry on.
            logger.exception("%s: the connection broke by a fault of this server", self._namespace)
        finally:
            if client is not None:
                self._clients.release(client)
            await self._transport.aclose()

    async def _authenticate(self) -> tuple[Client | None, list[str]]:
        """The client, and what it sent behind its credentials."""
        ignored = 0
        with anyio.move_on_after(self._limits.authentication_seconds):
            while True:
                frames = list(await self._transport.receive())
                while frames:
                    frame = frames.pop(0)
                    credentials = authentication(frame) if len(frame) <= _LONGEST_CREDENTIALS else None
                    if credentials is None:
                        ignored += 1
                        if ignored > _IGNORED_FRAMES:
                            await self._transport.send(verdict("None of the first frames were credentials"))
                            return None, []
                        if ignored == 1:
                            logger.warning("%s: frames before the credentials are ignored", self._namespace)
                        continue
                    answer = self._clients.admit(credentials)
                    if isinstance(answer, str):
                        logger.warning("%s: refused: %s", self._namespace, answer)
                        await self._transport.send(verdict(answer))
                        return None, []
                    self.post(verdict())
                    return answer, frames
        await self._transport.send(verdict("Authentication timed out"))
        return None, []

    async def _serve(self, client: Client, frames: list[str]) -> None:
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._write)
            self._tasks.start_soon(self._break_silence)
            self._tasks.start_soon(self._watch_reading)
            try:
                # Not before `_write` has begun: while modules are imported, the client knows that it is admitted.
                handlers = await self._make_handlers(self._namespace, client)
                while True:
                    for frame in frames:
                        self._dispatch(self.serving.receive(frame), len(frame), handlers)
                        if replies := self.serving.take_replies():
                            for reply in replies:
                                self.post(reply)
                            # Who reads no answers gets no new ones.
                            await self.wait_for_room()
                    frames = list(await self._transport.receive())
            except LMStudioWebsocketError:
                # Nobody is left to work for.
                self._tasks.cancel_scope.cancel()

    def _dispatch(self, request: Request | None, size: int, handlers: object) -> None:
        match request:
            case Call() if self._calls < self._limits.calls:
                self._calls += 1
                self._tasks.start_soon(self._answer, request, handlers)
            case Call():
                self._have_wait(request, size + _FRAME_BYTES)
            case ChannelOpened() if len(self._channels) >= self._limits.channels:
                error = server_error(
                    f"This connection has {len(self._channels)} channels open, and more it may not have.",
                    "Wait until some of what it does is over.",
                )
                self.post(self.serving.close(request.channel_id, error))
            case ChannelOpened():
                channel = self._channels[request.channel_id] = Channel(request.channel_id, self)
                self._tasks.start_soon(self._run_channel, request, channel, handlers)
            # On a connection that is being given up, the protocol's channels outlive those who served them.
            case Packet() if request.channel_id in self._channels:
                self._channels[request.channel_id].receive(request.packet)
            case ChannelDropped() if request.channel_id in self._channels:
                self._channels.pop(request.channel_id).drop()

    def _have_wait(self, call: Call, size: int) -> None:
        """Keep a call until another one is over. Reading goes on: who stops reading does not see that a client goes."""
        if self._waiting_bytes + size > self._limits.waiting_bytes:
            error = server_error(
                f"{len(self._waiting)} calls wait for their turn on this connection, and more may not.",
                "Wait for some answers first.",
            )
            self.post(self.serving.call_failed(call, error))
        else:
            self._waiting_bytes += size
            self._waiting.append((call, size))

    async def _answer(self, call: Call, handlers: object) -> None:
        """Answer a call, and then those that wait."""
        while True:
            try:
                result = await self._handler(handlers, call.endpoint.name)(call.parameter)
                frame = self.serving.result(call, result)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client waits for an answer
                frame = self.serving.call_failed(call, self._explained(error, call.endpoint.name))
            self.post(frame)
            await self.wait_for_room()
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
            raise refusal(self._namespace, endpoint)
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
        """Have the writer send a frame, behind those that wait already."""
        if frame is not None:
            if self._unsent_bytes > self._limits.unread_bytes:
                self._give_up(f"it leaves {self._unsent_bytes} bytes unread")
            self._unsent_bytes += len(frame) + _FRAME_BYTES
            self._unsent.append(frame)
            self._wake_writer.set()

    async def wait_for_room(self) -> None:
        """Wait while too much is unsent."""
        while len(self._unsent) > _UNSENT:
            if self._room is None:
                self._room = anyio.Event()
            await self._room.wait()

    async def _write(self) -> None:
        try:
            while True:
                while self._unsent:
                    frame = self._unsent.popleft()
                    await self._transport.send(frame)
                    self._unsent_bytes -= len(frame) + _FRAME_BYTES
                    self._sent += 1
                if self._room is not None:
                    self._room.set()
                    self._room = None
                await self._wake_writer.wait()
                self._wake_writer = anyio.Event()
        except LMStudioWebsocketError:
            self._tasks.cancel_scope.cancel()

    async def _break_silence(self) -> None:
        while True:
            await anyio.sleep(_SILENCE_SECONDS / 3)
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
        """Disconnect a client that there is no telling anything."""
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

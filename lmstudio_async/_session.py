"""One namespace's connection: made on first use, and made again after a loss."""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled

from lmstudio_async._event_loop import EventLoop
from lmstudio_async._protocol._auth import Credentials, check_authentication_result
from lmstudio_async._protocol._endpoints import ChannelEndpoint, RpcEndpoint
from lmstudio_async._protocol._multiplexer import ChannelReceiver, Multiplexer, copy_of
from lmstudio_async._wire._json import dumps, loads
from lmstudio_async.errors import (
    LMStudioClientError,
    LMStudioConnectionBrokenError,
    LMStudioConnectionClosedError,
    LMStudioError,
    LMStudioProtocolError,
    LMStudioTimeoutError,
    LMStudioUnreachableError,
    LMStudioWebsocketError,
)

if TYPE_CHECKING:
    from lmstudio_async._transport import Connector, FrameTransport
    from lmstudio_async._wire._struct import WireObject

__all__ = ["Channel", "Session", "refuse_to_pickle"]

P = TypeVar("P", bound="WireObject | None")
R = TypeVar("R")

CONNECT_SECONDS = 10.0
GOODBYE_SECONDS = 2.0
BACK_OFF_SECONDS = 0.1
CALLS_AT_ONCE = 32
# Far more than a server has loaded at a time.
REFERENCES_KEPT = 1024

logger = logging.getLogger("lmstudio_async")


def refuse_to_pickle() -> NoReturn:
    """Say so in the words of whoever wants to give a client, or what works by it, to another process.

    :raises TypeError: as pickle and copy expect of what they cannot do.
    """
    raise TypeError(
        "A client cannot be pickled or copied, nor can handles, which work by its connections. Make a client in each "
        "process; infos, results, chats and errors can be passed on."
    )


class Session:
    """The connection to one namespace of the server.

    :param namespace: such as ``llm``.
    :param connector: where connections come from.
    :param credentials: what they present.
    :param tasks: where their receive loops run: the client's task group.
    :param event_loop: where the tasks run.
    :param timeout: seconds to wait for an answer; None for ever.
    """

    def __init__(
        self,
        namespace: str,
        connector: Connector,
        credentials: Credentials,
        tasks: TaskGroup,
        event_loop: EventLoop,
        timeout: float | None,
    ) -> None:
        self.namespace = namespace
        self.timeout = timeout
        self._connector = connector
        self._credentials = credentials
        self._tasks = tasks
        self._event_loop = event_loop
        self._link: _Link | None = None
        self._closed = False
        # An ordered set: the latest is last.
        self._seen: dict[str, None] = {}

    @property
    def address(self) -> str:
        """Where the server is, for people."""
        return self._connector.address

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle()

    def see(self, reference: str) -> None:
        """Remember an instance that this client has a handle of; of very many only the latest."""
        self._seen.pop(reference, None)
        self._seen[reference] = None
        if len(self._seen) > REFERENCES_KEPT:
            del self._seen[next(iter(self._seen))]

    def has_seen(self, reference: str) -> bool:
        """Whether this client has a handle of an instance, or had."""
        return reference in self._seen

    async def call(self, endpoint: RpcEndpoint[P, R], parameter: P = None) -> R:  # type: ignore[assignment]
        """Make a call and wait for its answer.

        :raises LMStudioTimeoutError: if there is none within the client's ``timeout``.
        """
        answer = _Answer(endpoint, parameter)
        try:
            await self._send_calls([answer])
            result: R = await self._answer_or_repeat(answer)
        finally:
            answer.forget()
        return result

    async def call_each(self, endpoint: RpcEndpoint[P, R], parameters: Iterable[P]) -> list[R]:
        """Make many calls, a limited number of them at once; the answers are in the order of the parameters.

        Where that does no harm, a call whose connection was lost is made once more.
        """
        waiting: deque[_Answer] = deque()
        results: list[R] = []
        left = iter(parameters)
        try:
            while True:
                # What has room at once is written at once.
                more = [
                    _Answer(endpoint, parameter) for parameter in islice(left, CALLS_AT_ONCE - len(waiting))
                ]
                waiting += more
                await self._send_calls(more)
                if not waiting:
                    return results
                results.append(await self._answer_or_repeat(waiting[0]))
                waiting.popleft()
                while waiting and waiting[0].done.is_set():
                    results.append(await self._answer_or_repeat(waiting[0]))
                    waiting.popleft()
        finally:
            for answer in waiting:
                answer.forget()

    async def _send_calls(self, answers: Sequence[_Answer]) -> None:
        if not answers:
            return
        link = await self._connected()
        for answer in answers:
            answer.attach(link)
        try:
            await link.send(*[answer.frame for answer in answers if answer.frame])
        except LMStudioWebsocketError as error:
            for answer in answers:
                answer.fail(error)

    async def _answer_or_repeat(self, answer: _Answer) -> Any:
        await self._wait(answer)
        if isinstance(answer.error, LMStudioConnectionBrokenError) and answer.endpoint.repeatable:
            if answer.link is self._link:
                await self.back_off()
            await self._send_calls([answer])
            await self._wait(answer)
        if answer.error is not None:
            # What ended the connection may have cancelled this task as well, which comes first.
            await checkpoint_if_cancelled()
            raise answer.error
        return answer.result

    async def _wait(self, answer: _Answer) -> None:
        if self.timeout is None:
            await answer.done.wait()
            return
        with anyio.move_on_after(self.timeout) as scope:
            await answer.done.wait()
        if scope.cancelled_caught and not answer.done.is_set():
            answer.forget()
            raise LMStudioTimeoutError(
                f"{answer.endpoint.label}: {self.address} gave no answer to {answer.endpoint.name!r} within "
                f"{self.timeout:g} seconds. It may still be at work; raise the client's timeout to wait longer."
            )

    async def back_off(self) -> None:
        """After a loss, give the server a moment before it is dialled again; not all its clients the same one."""
        await anyio.sleep(BACK_OFF_SECONDS * random.uniform(1, 2))

    async def open_channel(
        self, endpoint: ChannelEndpoint[P, Any], creation: P, receiver: ChannelReceiver
    ) -> Channel:
        """Open a channel. Its receiver is told of its end whatever happens."""
        link = await self._connected()
        number, frame = link.multiplexer.open_channel(endpoint, creation, receiver)
        channel = Channel(self, link, number)
        try:
            if frame:
                await link.send(frame)
        except LMStudioError:
            link.multiplexer.forget_channel(number)
            raise
        except BaseException:
            # The frame may be on its way already.
            await channel.cancel()
            link.multiplexer.forget_channel(number)
            raise
        return channel

    def start_soon(self, work: Callable[..., Any], *args: Any) -> None:
        """Start work that more than one task waits for: the client's task group has it."""
        self._check_open()
        self._event_loop.check()
        self._tasks.start_soon(work, *args)

    def run_soon(self, work: Callable[..., Any], *args: Any) -> None:
        """Start work that nobody waits for. Legal from any thread, and where no code may wait."""
        if not self._event_loop.soon(self._start_unless_closed, work, *args):
            logger.debug("an event loop ended before an abandoned operation could be cancelled")

    def _start_unless_closed(self, work: Callable[..., Any], *args: Any) -> None:
        if not self._closed:
            self._tasks.start_soon(work, *args)

    async def aclose(self) -> None:
        """Cancel what is under way on the server and close the connection. Idempotent."""
        self._closed = True
        link = self._link
        if link is not None:
            link.scope.cancel()
            with anyio.CancelScope(shield=True):
                # Bounded: a link says its goodbyes within limits of its own.
                await link.ended.wait()

    def _check_open(self) -> None:
        if self._closed:
            raise LMStudioConnectionClosedError("This client is closed. Make a new one.")

    async def _connected(self) -> _Link:
        link = await self._latest_link()
        if link.error is not None and link.was_connected:
            # Lost while we waited for our turn: that was not our connection's end but the one before it.
            link = await self._latest_link()
        if link.error is not None:
            await checkpoint_if_cancelled()
            raise copy_of(link.error)
        return link

    async def _latest_link(self) -> _Link:
        """The connection, made now if there is none, or what became of making it."""
        self._check_open()
        self._event_loop.check()
        link = self._link
        if link is None or link.error is not None:
            link = self._link = _Link(self.namespace, self._connector, self._credentials)
            self._tasks.start_soon(link.run, name=f"lmstudio {self.namespace}")
        if not link.ready.is_set():
            await link.ready.wait()
        return link


class _Link:
    """One connection, from dialling to the end. `run` is its life; it never raises."""

    def __init__(self, namespace: str, connector: Connector, credentials: Credentials) -> None:
        self.multiplexer = Multiplexer()
        self.transport: FrameTransport
        self.scope = anyio.CancelScope()
        self.ready = anyio.Event()
        self.ended = anyio.Event()
        self.error: LMStudioError | None = None
        self.was_connected = False
        self._namespace = namespace
        self._connector = connector
        self._credentials = credentials

    async def run(self) -> None:
        try:
            with self.scope:
                await self._connect_and_receive()
        except Exception as error:  # noqa: BLE001 - nobody else could tell those who wait
            self.fail(error)
        finally:
            self.fail(LMStudioConnectionClosedError("The client was closed."))
            self.ready.set()
            self.ended.set()

    async def send(self, *frames: str) -> None:
        try:
            await self.transport.send(*frames)
        except LMStudioWebsocketError as error:
            # The receive loop may hear of it later than whoever comes next, who needs another connection.
            self.fail(error)
            raise copy_of(self.error or error) from error

    def cancel_frame(self, number: int) -> str | None:
        """What asks the server to stop; None if that channel is over."""
        from lmstudio_async._wire._models import Cancel

        return self.multiplexer.packet(number, Cancel())

    def fail(self, error: Exception) -> None:
        """Tell all who wait that this is the end, and why; the first reason stands."""
        if self.error is not None:
            return
        where = self._connector.address
        if not isinstance(error, LMStudioError):
            self.error = LMStudioProtocolError(f"The connection to {where} failed: {error!r}")
        elif isinstance(error, LMStudioConnectionBrokenError) and not self.was_connected:
            self.error = LMStudioUnreachableError(f"{where} did not let us in: {error}")
        else:
            self.error = error
        if self.error is not error:
            self.error.__cause__ = error
        self.multiplexer.fail_all(self.error)

    async def _connect_and_receive(self) -> None:
        connecting = anyio.CancelScope(deadline=anyio.current_time() + CONNECT_SECONDS)
        with connecting:
            async with self._connector.connect(self._namespace) as transport:
                self.transport = transport
                await transport.send(dumps(self._credentials.packet()))
                first, *rest = await transport.receive()
                check_authentication_result(_json_or_none(first))
                connecting.deadline = math.inf
                self.was_connected = True
                self.ready.set()
                try:
                    for frame in rest:
                        self.multiplexer.receive(frame)
                    while True:
                        for frame in await transport.receive():
                            self.multiplexer.receive(frame)
                except Exception as error:
                    # At once: to let go of a connection takes a while, and who comes then needs another one.
                    self.fail(error)
                    raise
                finally:
                    await self._cancel_what_runs()
        if connecting.cancelled_caught:
            raise LMStudioUnreachableError(
                f"{self._connector.address} did not let us in within {CONNECT_SECONDS:g} seconds. "
                "Is this LM Studio's address?"
            )

    async def _cancel_what_runs(self) -> None:
        """A server may go on with what its client has left; tell it not to."""
        frames = list(filter(None, map(self.cancel_frame, self.multiplexer.open_channels)))
        if not frames:
            return
        with anyio.move_on_after(GOODBYE_SECONDS, shield=True):
            try:
                await self.transport.send(*frames)
            except LMStudioClientError:
                logger.debug("a connection ended before what runs there could be cancelled")


class Channel:
    """The client's end of an open channel."""

    __slots__ = ("_link", "_number", "_session")

    def __init__(self, session: Session, link: _Link, number: int) -> None:
        self._session = session
        self._link = link
        self._number = number

    async def cancel(self) -> None:
        """Ask the server to stop. Shielded, bounded, and no error if the channel or its connection is over."""
        frame = self._link.cancel_frame(self._number)
        if frame is None or self._link.ended.is_set():
            return
        with anyio.move_on_after(GOODBYE_SECONDS, shield=True):
            try:
                await self._link.transport.send(frame)
            except LMStudioClientError:
                logger.debug("a channel's connection ended before its cancel could be sent")

    def cancel_soon(self) -> None:
        """The same, from where nothing can be awaited: a finalizer, in whatever thread it runs."""
        if not self._link.ended.is_set():
            self._session.run_soon(self.cancel)


class _Answer:
    """The answer to one call, on whichever connection it comes."""

    __slots__ = ("_number", "done", "endpoint", "error", "frame", "link", "parameter", "result")

    def __init__(self, endpoint: RpcEndpoint[Any, Any], parameter: WireObject | None) -> None:
        self.endpoint = endpoint
        self.parameter = parameter
        self.link: _Link | None = None

    def attach(self, link: _Link) -> None:
        self.link = link
        self.done = anyio.Event()
        self.result: Any = None
        self.error: LMStudioError | None = None
        self._number, self.frame = link.multiplexer.call(self.endpoint, self.parameter, self)

    def succeed(self, result: Any) -> None:
        self.result = result
        self.done.set()

    def fail(self, error: LMStudioError) -> None:
        self.error = error
        self.done.set()

    def forget(self) -> None:
        if self.link is not None:
            self.link.multiplexer.forget_call(self._number)


def _json_or_none(frame: str) -> Any:
    try:
        return loads(frame)
    except ValueError:
        return None

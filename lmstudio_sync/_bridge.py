"""The bridge: a background thread with an event loop, in which blocking calls run the core's coroutines."""

from __future__ import annotations

import contextvars
import importlib.util
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

import anyio

from lmstudio_async._call_site import call_site
from lmstudio_async._callbacks import call_plain
from lmstudio_async._deliveries import Delivery, deliveries
from lmstudio_async.errors import LMStudioError, LMStudioRuntimeError, LMStudioValueError
from lmstudio_sync._loop import Loop, Workers, closed
from lmstudio_sync._signal_safe import SLICE_SECONDS, WeakMembers

if TYPE_CHECKING:
    from lmstudio_async._operations import AsyncOperation

__all__ = ["Bridge"]

T = TypeVar("T")
Undo: TypeAlias = "Callable[[], Coroutine[Any, Any, None]]"

#: Modules whose frames are of no interest to users.
_BRIDGE = (__name__, "lmstudio_sync._loop")

#: How long the end of the interpreter waits for a client that nobody closed.
FAREWELL_SECONDS = 5.0

#: How long an interrupt waits for taking back a result that it has kept from the caller.
UNDO_SECONDS = 10.0

logger = logging.getLogger("lmstudio_async")

_current_call: contextvars.ContextVar[_Call] = contextvars.ContextVar("lmstudio_call")

#: sniffio, and with it anyio, knows by this variable which event loop runs: in the caller's context, another one.
_of_the_loop = getattr(sys.modules.get("sniffio"), "current_async_library_cvar", None)


class Bridge:
    """Runs coroutines in an event loop of its own, in a daemon thread that starts with the first of them.

    :param owner: what is entered in that loop before the first coroutine, and left at the end: the core's client.
    :param backend: the kind of event loop.
    """

    def __init__(
        self,
        owner: AbstractAsyncContextManager[Any] | None = None,
        backend: Literal["asyncio", "trio"] = "asyncio",
    ) -> None:
        if backend not in ("asyncio", "trio"):
            raise LMStudioValueError(f"backend must be 'asyncio' or 'trio', not {backend!r:.80}")
        if backend == "trio" and importlib.util.find_spec("trio") is None:
            raise LMStudioRuntimeError('trio is not installed: pip install "lmstudio-async[trio]"')
        #: Nobody else is to close it: its end, at the latest that of the interpreter, is nothing to warn of.
        self.is_shared = False
        self._made_at = call_site()
        self._loop = Loop(owner or nullcontext(), backend)
        _bridges.add(self)

    @overload
    def call(self, coroutine: Coroutine[Any, Any, T], *, undo: Undo | None = None) -> T: ...
    @overload
    def call(self, coroutine: Coroutine[Any, Any, Any], wrap: Callable[[Any], T]) -> T: ...
    def call(
        self,
        coroutine: Coroutine[Any, Any, Any],
        wrap: Callable[[Any], Any] | None = None,
        *,
        undo: Undo | None = None,
    ) -> Any:
        """Run a coroutine and wait for what it gives or raises.

        An interrupt, or what a callback raises, cancels it, waits for its clean-up and comes out. The next interrupt
        does not wait. If the coroutine has come to its end all the same, its result cannot reach the caller and is undone.

        :param wrap: makes what is returned out of what the coroutine gives.
        :param undo: undoes the coroutine's work, besides taking back the results that operations have handed over.
        """
        call = _Call(coroutine)
        try:
            self._loop.open()
            if not self._loop.start(call.begin):
                call.abandon()
            call.wait(self._loop)
            if call.error is None:
                # Wrapped in here, because an interrupt may come then. Python looks for signals where a function begins,
                # after each call of one that is written in C, and in loops: not from here to the caller's assignment.
                return call.result if wrap is None else wrap(call.result)
        except BaseException as error:
            try:
                call.interrupt(self._loop)
                if call.error is None:
                    self._undo(call.delivered, undo)
            except BaseException:
                self._loop.in_a_hurry = True
                raise
            error.__traceback__ = _without_bridge(error)
            raise
        raised = call.error
        try:
            raise raised.with_traceback(_without_bridge(raised))
        finally:
            # A frame that holds an error that holds the frame is garbage only to the cycle collector.
            del raised, call

    def _undo(self, delivered: Sequence[Delivery], undo: Undo | None) -> None:
        """Take back results that do not reach the caller, and wait for that, but not for ever."""
        steps = [each._take_back for each in delivered]
        if undo is not None:
            steps.append(undo)
        if steps:
            call = _Call(_run_all(steps))
            if not self._loop.start(call.begin):
                call.abandon()
            call.wait(self._loop)

    def next(self, operation: AsyncOperation[T, Any]) -> T:
        """Give an operation's next item. Those that have come together are fetched together."""
        item = operation._take_nowait()
        if item is not None:
            return item
        try:
            return self.call(operation.__anext__(), undo=operation._abandon)
        except StopAsyncIteration:
            raise StopIteration from None

    def entered(self, owner: T) -> T:
        """Give the owner, once it was entered."""
        try:
            self._loop.open()
        except BaseException as error:
            error.__traceback__ = _without_bridge(error)
            raise
        return owner

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that lets go of something; nothing is left of that once the loop is closed."""
        if self.is_open:
            self.call(coroutine)
        else:
            coroutine.close()

    def callback(self, name: str, function: Callable[..., Any] | None) -> Any:
        """Make a function that runs in the thread that waits for the call in which the core calls it.

        An exception of the function ends that call and comes out of it, with a note of the name. An awaitable that the
        function returns is awaited in the loop.
        """
        if not callable(function):
            return function

        async def told(*args: Any) -> Any:
            outcome = await _current_call.get().ask(call_plain, (name, function, *args))
            return await outcome if inspect.isawaitable(outcome) else outcome

        return told

    @property
    def is_open(self) -> bool:
        """Whether it was used, here and not in the process that this one was forked from, and not closed since."""
        return self._loop.is_open

    @property
    def is_closed(self) -> bool:
        """Whether the bridge is of no use any more: it was closed, or could not be opened."""
        return self._loop.is_closed

    def close(self) -> None:
        """Leave the owner and end the thread. Idempotent."""
        self._loop.close()

    @staticmethod
    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one coroutine in a thread that ends with it."""
        bridge = Bridge()
        try:
            return bridge.call(coroutine)
        finally:
            bridge.close()

    def close_at_exit(self) -> None:
        """Close at the end of the interpreter, which waits for what goes on at the server, but not for ever."""
        if self._loop.is_alive:
            try:
                self._warn()
            finally:
                # Also where warnings are errors.
                self._loop.close(0 if self._loop.in_a_hurry else FAREWELL_SECONDS)

    def _warn(self, warn: Any = warnings.warn) -> None:
        if not self.is_shared and not self._loop.is_closed:
            message = f"{self._loop} was not closed. It was made at {self._made_at}. Use it in a 'with' block, or call its close()."
            warn(message, ResourceWarning, stacklevel=3, source=self)

    def __del__(self) -> None:
        # A constructor that failed may have come only half-way.
        loop = getattr(self, "_loop", None)
        if loop is not None and loop.is_alive:
            try:
                self._warn()
            finally:
                # Also where warnings are errors.
                loop.close(0)


_bridges: WeakMembers[Bridge] = WeakMembers()


def close_all() -> None:
    """Close what is still open when the interpreter ends."""
    with ExitStack() as stack:
        for bridge in _bridges:
            # One that raises must not keep the others open.
            stack.callback(bridge.close_at_exit)


class _Call:
    """One coroutine that the loop's thread runs while another thread waits for it."""

    __slots__ = (
        "_asked",
        "_begun",
        "_context",
        "_coroutine",
        "_ended",
        "_interrupted",
        "_news",
        "_scope",
        "delivered",
        "error",
        "result",
    )

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        #: The operations that have handed their result over to it.
        self.delivered: list[Delivery] = []
        self._coroutine = coroutine
        self._context = contextvars.copy_context()
        self._news: SimpleQueue[_Question | None] = SimpleQueue()
        self._scope: anyio.CancelScope | None = None
        self._begun = self._interrupted = self._ended = self._asked = False

    # -- in the thread that waits

    def wait(self, loop: Loop) -> None:
        """Wait for the end, and answer the questions that come before it."""
        while not self._ended:
            try:
                question = self._news.get(timeout=SLICE_SECONDS)
            except Empty:
                if not loop.is_alive:
                    self.abandon()
            else:
                if question is not None and not self._interrupted:
                    question.answer(loop)

    def interrupt(self, loop: Loop) -> None:
        """Cancel it, and wait until it has cleaned up."""
        self._interrupted = True
        if not loop.soon(self._cancel):
            self.abandon()
        self.wait(loop)

    # -- in the loop's thread

    def begin(self, workers: Workers | None) -> None:
        if workers is None:
            self.abandon()
        elif not self._ended:
            self._begun = True
            workers.start(self._run)

    async def _run(self, scope: anyio.CancelScope) -> bool:
        tokens = self._set_variables()
        self._scope = scope
        try:
            if self._interrupted:
                scope.cancel()
            self.result = await self._coroutine
        except anyio.get_cancelled_exc_class():
            # By who waits, who has an error of its own; or the loop ends.
            self.error = closed()
            raise
        except BaseException as error:  # noqa: BLE001 - raised where the call was made
            self.error = error
        finally:
            self._scope = None
            self._end()
            for token in reversed(tokens):
                token.var.reset(token)
        # What users' coroutines did to the context of this task, and a cancellation of it, is nothing to the next call.
        return not self._asked and not self._interrupted

    def _set_variables(self) -> list[contextvars.Token[Any]]:
        """Have callbacks and tools see the context variables of the thread that waits.

        Variables that the loop has set stay: they say which event loop this is.
        """
        own = contextvars.copy_context()
        tokens: list[contextvars.Token[Any]] = [
            variable.set(value)
            for variable, value in self._context.items()
            if variable not in own and variable is not _of_the_loop
        ]
        tokens += [_current_call.set(self), deliveries.set(self.delivered)]
        return tokens

    async def ask(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Have the thread that waits call a function."""
        self._asked = True
        question = _Question(function, args)
        self._news.put(question)
        await question.answered.wait()
        return question.outcome

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        elif not self._begun:
            self.abandon()

    # -- in either of them

    def abandon(self) -> None:
        """It has not begun, and will not; or its loop is gone."""
        if not self._ended:
            self._coroutine.close()
            self.error = closed()
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._news.put(None)


class _Question:
    """A function that one thread has another one call."""

    __slots__ = ("_args", "_function", "answered", "outcome")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.answered = anyio.Event()
        self.outcome: Any = None
        self._function = function
        self._args = args

    def answer(self, loop: Loop) -> None:
        self.outcome = self._function(*self._args)
        loop.soon(self.answered.set)


async def _run_all(steps: Sequence[Undo]) -> None:
    """Run each step, whatever becomes of the others, within a limit."""
    with anyio.move_on_after(UNDO_SECONDS):
        for step in steps:
            try:
                await step()
            except LMStudioError as error:
                logger.debug(
                    "could not take back a result that an interrupt has kept from the caller", exc_info=error
                )


def _without_bridge(error: BaseException) -> TracebackType | None:
    """Its traceback, where users see their own code and the core's, and nothing between them."""
    kept = []
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") not in _BRIDGE:
            kept.append(traceback)
        traceback = traceback.tb_next
    made = None
    for each in reversed(kept):
        made = TracebackType(made, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return made

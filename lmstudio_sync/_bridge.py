"""The bridge: a background thread with an event loop, in which blocking calls run the core's coroutines.

Not anyio's blocking portal, for three reasons. Ctrl-C in a blocking call cancels its coroutine, waits for the clean-up
and takes back a result that did not reach the caller. A bridge that nothing refers to any more ends its thread. And a
loop over fragments takes all that have arrived in one trip to the event loop.
"""

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
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import anyio

from lmstudio_async._call_site import call_site
from lmstudio_async._callbacks import ScopedCallback, call_plain
from lmstudio_async._client_limits import DEFAULT_LIMITS, ClientLimits
from lmstudio_async._deliveries import Undo, deliveries
from lmstudio_async.errors import LMStudioError, LMStudioRuntimeError, LMStudioValueError
from lmstudio_sync._loop import Loop, Workers, closed
from lmstudio_sync._signal_safe import SLICE_SECONDS, WeakMembers
from lmstudio_sync._tracebacks import without_bridge

if TYPE_CHECKING:
    from lmstudio_async._instance_events import InstanceEvent
    from lmstudio_async._instance_watch import AsyncInstanceWatch
    from lmstudio_async._operations import AsyncOperation

__all__ = ["Bridge"]

T = TypeVar("T")

logger = logging.getLogger("lmstudio_async")

_current_call: contextvars.ContextVar[_BlockingCall] = contextvars.ContextVar("lmstudio_call")

#: sniffio, and so anyio, detects the running event loop by this variable. A caller's value of it is wrong in the loop.
_library_variable = getattr(sys.modules.get("sniffio"), "current_async_library_cvar", None)


class Bridge:
    """Runs coroutines in an event loop of its own, in a daemon thread that starts with the first of them.

    :param owner: the core's client, which is entered in that loop before the first coroutine, and left at the end.
    :param backend: the kind of event loop.
    :param limits: the client's limits; None for the usual ones.
    """

    def __init__(
        self,
        owner: AbstractAsyncContextManager[Any] | None = None,
        backend: Literal["asyncio", "trio"] = "asyncio",
        limits: ClientLimits | None = None,
    ) -> None:
        if backend not in ("asyncio", "trio"):
            raise LMStudioValueError(f"backend must be 'asyncio' or 'trio', not {backend!r:.80}")
        if backend == "trio" and importlib.util.find_spec("trio") is None:
            from lmstudio_async._install_command import install_command

            raise LMStudioRuntimeError(f"trio is not installed: {install_command('trio')}")
        #: True for the default client, which is closed when the interpreter ends: no ResourceWarning.
        self.is_shared = False
        self._limits = limits or DEFAULT_LIMITS
        self._made_at = call_site()
        self._loop = Loop(owner or nullcontext(), backend)
        _bridges.add(self)

    @overload
    def call(
        self, coroutine: Coroutine[Any, Any, T], *, undo: Undo | None = None, surely: bool = False
    ) -> T: ...
    @overload
    def call(self, coroutine: Coroutine[Any, Any, Any], wrap: Callable[[Any], T]) -> T: ...
    def call(
        self,
        coroutine: Coroutine[Any, Any, Any],
        wrap: Callable[[Any], Any] | None = None,
        *,
        undo: Undo | None = None,
        surely: bool = False,
    ) -> Any:
        """Run a coroutine, wait for it, and return its result or raise its exception.

        An interrupt, or an exception of a callback, cancels the coroutine, waits for its clean-up, and is raised. A
        second interrupt does not wait. If the coroutine has succeeded nevertheless, its result is undone, because it
        cannot reach the caller.

        :param wrap: converts the coroutine's result to the one that is returned.
        :param undo: undoes the coroutine's work, besides taking back the results that operations have handed over.
        :param surely: run the coroutine also if an interrupt comes before it has begun; it begins as cancelled then.
        """
        call = _BlockingCall(coroutine)
        try:
            self._loop.open()
            if not self._loop.start(call.begin):
                call.abandon()
            call.wait(self._loop)
            call.leave_scopes(call.error)
            if call.error is None:
                # Wrap inside this block, because an interrupt may come meanwhile. Python checks for signals where a
                # function begins, after each call of a C function, and in loops: not from here to the caller's
                # assignment.
                return call.result if wrap is None else wrap(call.result)
        except BaseException as error:
            try:
                if surely:
                    self._loop.start(call.begin)
                call.interrupt(self._loop, error)
                if call.error is None:
                    self._undo(call.delivered, undo)
            except BaseException:
                self._loop.was_interrupted = True
                raise
            error.__traceback__ = without_bridge(error)
            raise
        raised = call.error
        try:
            raise raised.with_traceback(without_bridge(raised))
        finally:
            # The error refers to this frame. Break the cycle, so that no garbage collection is needed to free both.
            del raised, call

    def _undo(self, delivered: Sequence[Undo], undo: Undo | None) -> None:
        """Take back results that do not reach the caller, and wait for it, for `take_back_seconds` at most."""
        steps = [*delivered]
        if undo is not None:
            steps.append(undo)
        if steps:
            call = _BlockingCall(_run_all(steps, self._limits.take_back_seconds))
            if not self._loop.start(call.begin):
                call.abandon()
            call.wait(self._loop)

    @overload
    def next(self, operation: AsyncOperation[T, Any]) -> T: ...

    @overload
    def next(self, operation: AsyncInstanceWatch) -> InstanceEvent: ...

    def next(self, operation: AsyncOperation[Any, Any] | AsyncInstanceWatch) -> Any:
        """Return the next item. Items of an operation that have arrived together are fetched together."""
        item = operation._take_nowait()
        if item is not None:
            return item
        try:
            return self.call(operation.__anext__(), undo=operation._abandon)
        except StopAsyncIteration:
            raise StopIteration from None

    def entered(self, owner: T) -> T:
        """Enter the owner, if it has not been entered yet, and return it."""
        try:
            self._loop.open()
        except BaseException as error:
            error.__traceback__ = without_bridge(error)
            raise
        return owner

    def finish(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine that closes something. Do nothing if the loop is not open: there is nothing to close then."""
        if self.is_open:
            self.call(coroutine, surely=True)
        else:
            coroutine.close()

    def catch_up(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run a coroutine if it has not begun, because the interrupt that is being raised came before. Log its error.

        :return: whether it has run now, without an error.
        """
        if inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
            return False
        try:
            self.finish(coroutine)
        except LMStudioError as error:
            logger.debug("the clean-up after an interrupt failed", exc_info=error)
            return False
        return True

    def callback(self, name: str, function: Callable[..., Any] | None) -> Any:
        """Wrap a callback for the core, so that it runs in the thread that waits for the current blocking call.

        An exception of the callback ends that call and is raised by it, with a note of the name. An awaitable that the
        callback returns is awaited in the loop. A `ScopedCallback` learns in that thread how the blocking call ends.
        """
        if not callable(function):
            return function

        async def forward(*args: Any) -> Any:
            call = _current_call.get()
            once = call.used_once(function) if isinstance(function, ScopedCallback) else function
            outcome = await call.ask(call_plain, (name, once, *args))
            return await outcome if inspect.isawaitable(outcome) else outcome

        forward.__dict__["is_scoped"] = isinstance(function, ScopedCallback)
        return forward

    @property
    def is_open(self) -> bool:
        """Whether the bridge has been used in this process (not before a fork), and has not been closed since."""
        return self._loop.is_open

    @property
    def is_closed(self) -> bool:
        """Whether the bridge cannot be used any more: it was closed, or could not be opened."""
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
        """Close when the interpreter ends. Wait for the clean-up on the server, for `close_at_exit_seconds` at most."""
        if self._loop.is_alive:
            try:
                self._warn()
            finally:
                # The warning raises if warnings are errors.
                self._loop.close(0 if self._loop.was_interrupted else self._limits.close_at_exit_seconds)

    def _warn(self, warn: Any = warnings.warn) -> None:
        if not self.is_shared and not self._loop.is_closed:
            message = f"{self._loop} was not closed. It was made at {self._made_at}. Use it in a 'with' block, or call its close()."
            warn(message, ResourceWarning, stacklevel=3, source=self)

    def __del__(self) -> None:
        # The attribute is missing if the constructor has failed.
        loop = getattr(self, "_loop", None)
        if loop is not None and loop.is_alive:
            try:
                self._warn()
            finally:
                # The warning raises if warnings are errors.
                loop.close(0)


_bridges: WeakMembers[Bridge] = WeakMembers()


def close_all() -> None:
    """Close all bridges that are still open when the interpreter ends."""
    with ExitStack() as stack:
        for bridge in _bridges:
            # A bridge that raises must not keep the others open.
            stack.callback(bridge.close_at_exit)


class _BlockingCall:
    """One coroutine that the loop's thread runs while another thread waits for it."""

    __slots__ = (
        "_asked",
        "_begun",
        "_context",
        "_coroutine",
        "_ended",
        "_interrupted",
        "_news",
        "_once",
        "_scope",
        "delivered",
        "error",
        "result",
        "scopes",
    )

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        #: Functions that take back the results which operations have handed over during this call.
        self.delivered: list[Undo] = []
        #: The contexts of the scoped callbacks that have been called, if there are any.
        self.scopes: ExitStack | None = None
        self._once: dict[ScopedCallback, Callable[..., object]] = {}
        self._coroutine = coroutine
        self._context = contextvars.copy_context()
        self._news: SimpleQueue[_Question | None] = SimpleQueue()
        self._scope: anyio.CancelScope | None = None
        self._begun = self._interrupted = self._ended = self._asked = False

    # -- in the thread that waits

    def wait(self, loop: Loop) -> None:
        """Wait for the end of the call. Run the callbacks that the core calls before it."""
        while not self._ended:
            try:
                question = self._news.get(timeout=SLICE_SECONDS)
            except Empty:
                if not loop.is_alive:
                    self.abandon()
            else:
                if question is not None and not self._interrupted:
                    question.answer(loop)

    def leave_scopes(self, error: BaseException | None) -> None:
        """Tell the scoped callbacks how the call ends."""
        scopes, self.scopes = self.scopes, None
        if scopes is not None:
            if error is None:
                scopes.close()
            else:
                scopes.__exit__(type(error), error, error.__traceback__)

    def interrupt(self, loop: Loop, error: BaseException) -> None:
        """Cancel the coroutine because of an exception, and wait until it has cleaned up."""
        self._interrupted = True
        if not loop.soon(self._cancel):
            self.abandon()
        self.leave_scopes(error)
        self.wait(loop)

    # -- in the loop's thread

    def begin(self, workers: Workers | None) -> None:
        if workers is None:
            self.abandon()
        elif not self._begun and not self._ended:
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
            # Cancelled by the waiting thread, which raises its own error, or because the loop is closing.
            self.error = closed()
            raise
        except BaseException as error:  # noqa: BLE001 - raised where the call was made
            self.error = error
        finally:
            self._scope = None
            self._end()
            for token in reversed(tokens):
                token.var.reset(token)
        # Do not reuse this task if a user's coroutine may have changed its context, or after a cancellation.
        return not self._asked and not self._interrupted

    def _set_variables(self) -> list[contextvars.Token[Any]]:
        """Copy the context variables of the waiting thread to this task, so that callbacks and tools see them.

        Variables that the loop has set are kept, because they identify the running event loop.
        """
        own = contextvars.copy_context()
        tokens: list[contextvars.Token[Any]] = [
            variable.set(value)
            for variable, value in self._context.items()
            if variable not in own and variable is not _library_variable
        ]
        tokens += [_current_call.set(self), deliveries.set(self.delivered)]
        return tokens

    async def ask(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Call a function in the thread that waits, and return its result."""
        self._asked = True
        question = _Question(function, args)
        self._news.put(question)
        await question.answered.wait()
        return question.outcome

    def used_once(self, callback: ScopedCallback) -> Callable[..., object]:
        """Return the callback for this call."""
        if callback not in self._once:
            self.scopes = self.scopes or ExitStack()
            self._once[callback] = self.scopes.enter_context(callback.used_once())
        return self._once[callback]

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        elif not self._begun:
            self.abandon()

    # -- in either thread

    def abandon(self) -> None:
        """End a call whose coroutine has not begun and will not begin, or whose loop has ended."""
        if not self._ended:
            self._coroutine.close()
            self.error = closed()
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._news.put(None)


class _Question:
    """A function that the loop's thread asks the waiting thread to call."""

    __slots__ = ("_args", "_function", "answered", "outcome")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.answered = anyio.Event()
        self.outcome: Any = None
        self._function = function
        self._args = args

    def answer(self, loop: Loop) -> None:
        self.outcome = self._function(*self._args)
        loop.soon(self.answered.set)


async def _run_all(steps: Sequence[Undo], seconds: float) -> None:
    """Run all steps, for ``seconds`` at most. A step that fails does not stop the others."""
    with anyio.move_on_after(seconds):
        for step in steps:
            try:
                await step()
            except LMStudioError as error:
                logger.debug(
                    "could not take back a result that an interrupt has kept from the caller", exc_info=error
                )

"""Checks and calls of the user's callbacks, which are plain or async functions."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    import attrs

__all__ = [
    "ScopedCallback",
    "call_plain",
    "check_callback",
    "check_callbacks",
    "is_scoped",
    "note_origin",
    "tell",
    "used_once",
]


class ScopedCallback(ABC):
    """A callback that wants to know when the operation it is passed to ends, such as a progress bar."""

    @property
    @abstractmethod
    def is_prepared(self) -> bool:
        """Whether `prepare` has nothing to do."""

    @abstractmethod
    def prepare(self) -> None:
        """Import what the callback needs. Called in a worker thread; must not raise."""

    @abstractmethod
    def used_once(self) -> AbstractContextManager[Callable[..., object]]:
        """Return a context with the callback for one operation. An exception in the context means that it failed."""


def is_scoped(callback: Callable[..., Any] | None) -> bool:
    """Return whether a callback is a `ScopedCallback`, or forwards to one, as those of the blocking facade do."""
    return isinstance(callback, ScopedCallback) or getattr(callback, "is_scoped", False) is True


@asynccontextmanager
async def used_once(callback: Callable[..., Any] | None) -> AsyncIterator[Callable[..., Any] | None]:
    """Provide the callback for one operation, and tell a `ScopedCallback` how the operation ends."""
    if not isinstance(callback, ScopedCallback):
        yield callback
        return
    if not callback.is_prepared:
        import anyio.to_thread

        # With a limiter of its own, because all threads of the default limiter may be waiting for this task.
        await anyio.to_thread.run_sync(callback.prepare, limiter=anyio.CapacityLimiter(1))
    with callback.used_once() as once:
        yield once


def check_callback(callback: object, name: str) -> None:
    """Check that a callback is callable or None. Done before anything is sent, so that a mistake shows at once.

    :raises LMStudioValueError: if the callback is neither.
    """
    if callback is not None and not callable(callback):
        raise LMStudioValueError(f"{name} must be a function, plain or async, not {callback!r:.80}")


def check_callbacks(callbacks: attrs.AttrsInstance) -> None:
    """Check every member of an attrs class of callbacks with `check_callback`."""
    import attrs

    for field in attrs.fields(type(callbacks)):
        check_callback(getattr(callbacks, field.name), field.name)


async def tell(name: str, callback: Callable[..., Any] | None, *args: Any) -> Any:
    """Call a callback, plain or async, if there is one, and return its result.

    :param name: the parameter that the callback was passed as. An exception of the callback gets a note with it.
    """
    try:
        outcome = None if callback is None else callback(*args)
        return await outcome if inspect.isawaitable(outcome) else outcome
    except Exception as error:
        note_origin(error, f"the callback {name}")
        raise


def call_plain(name: str, callback: Callable[..., Any], *args: Any) -> Any:
    """Call a callback like `tell`, but from a plain function: return an awaitable result without awaiting it."""
    try:
        return callback(*args)
    except Exception as error:
        note_origin(error, f"the callback {name}")
        raise


def note_origin(error: BaseException, origin: str) -> None:
    """Add a note to a user's exception, naming the user's function that raised it. The exception stays the same."""
    note = f"Raised by {origin}."
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)

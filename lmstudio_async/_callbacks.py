"""Checks and calls of the user's callbacks, which are plain or async functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    import attrs

__all__ = ["call_plain", "check_callback", "check_callbacks", "note_origin", "tell"]


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

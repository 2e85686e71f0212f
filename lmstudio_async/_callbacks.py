"""Calling back: functions of the user's, plain or async."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lmstudio_async.errors import LMStudioValueError

if TYPE_CHECKING:
    import attrs

__all__ = ["call_plain", "check_callback", "check_callbacks", "note_origin", "tell"]


def check_callback(callback: object, name: str) -> None:
    """Make sure that it can be called, or is None: before anything is sent, and not when there is news to tell.

    :raises LMStudioValueError: it is something else.
    """
    if callback is not None and not callable(callback):
        raise LMStudioValueError(f"{name} must be a function, plain or async, not {callback!r:.80}")


def check_callbacks(callbacks: attrs.AttrsInstance) -> None:
    """The same for every member of a class of callbacks."""
    import attrs

    for field in attrs.fields(type(callbacks)):
        check_callback(getattr(callbacks, field.name), field.name)


async def tell(name: str, callback: Callable[..., Any] | None, *args: Any) -> Any:
    """Call a callback, plain or async, if there is one, and give what it gives.

    :param name: the parameter that the callback was given as: a note of what it raises.
    """
    try:
        outcome = None if callback is None else callback(*args)
        return await outcome if inspect.isawaitable(outcome) else outcome
    except Exception as error:
        note_origin(error, f"the callback {name}")
        raise


def call_plain(name: str, callback: Callable[..., Any], *args: Any) -> Any:
    """Call a callback and give what it gives, also something to be awaited: what `tell` does in a plain function."""
    try:
        return callback(*args)
    except Exception as error:
        note_origin(error, f"the callback {name}")
        raise


def note_origin(error: BaseException, origin: str) -> None:
    """Note in a user's exception, which comes out as it is, which of the user's functions raised it."""
    note = f"Raised by {origin}."
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)

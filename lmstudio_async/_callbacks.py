"""Calling back: functions of the user's, plain or async."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["tell"]


async def tell(callback: Callable[..., Any] | None, *args: Any) -> Any:
    """Call a callback, plain or async, if there is one, and give what it gives."""
    outcome = None if callback is None else callback(*args)
    return await outcome if inspect.isawaitable(outcome) else outcome
